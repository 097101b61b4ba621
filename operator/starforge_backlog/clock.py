"""Time as an argument: production passes `utc_now`, tests pass a clock they turn by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock, in UTC and aware of it."""
    return datetime.now(UTC)
