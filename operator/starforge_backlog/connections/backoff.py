"""When a server that is away is tried again, and what callers get meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

F = TypeVar("F", bound=Exception)
T = TypeVar("T")

# Doublings of a delay that are counted: an outage of days must not grow a number without end.
MOST_DOUBLINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPacing:
    """How often we try again to connect to a server that is away. Every client of a restarted
    server reconnects at once; we must not be one more in that stampede."""

    # Between the first attempt and the next; doubled with each that fails …
    retry_first: timedelta
    # … and never longer than one default interval, so that recovery is seen with the next pass.
    retry_most: timedelta = timedelta(seconds=15)
    retry_jitter: float = 0.3  # share of the delay that is random, upwards


def retry_delay(failures: int, pacing: ReconnectPacing) -> float:
    """Seconds until the next attempt to connect, after so many that failed in a row."""
    seconds = pacing.retry_first.total_seconds() * float(2 ** min(failures, MOST_DOUBLINGS))
    spread = random.uniform(0, pacing.retry_jitter)  # noqa: S311 - spreads load, no secret
    return min(seconds, pacing.retry_most.total_seconds()) * (1 + spread)


async def patiently(answer: Awaitable[T], known: Exception | None, patience: timedelta) -> T:
    """The answer. While it is `known` what is wrong nobody waits longer for it than `patience`: a
    pass that ran out of time would not know what to fix. Raises `known` then."""
    if known is None:
        return await answer
    try:
        async with asyncio.timeout(patience.total_seconds()):
            return await answer
    except TimeoutError:
        raise known from None


class Backoff(Generic[F]):
    """The last fault of a server, which callers get at once until the next attempt is due."""

    def __init__(self, delay: Callable[[int], float]) -> None:
        """`delay`: seconds to the next attempt, after so many that failed in a row."""
        self._delay = delay
        self.failures = 0  # attempts that failed, since the last that did not
        self.fault: F | None = None
        self.retry_at = 0.0  # monotonic time of the next attempt, seconds

    @property
    def due(self) -> bool:
        """Whether it is time for an attempt."""
        return time.monotonic() >= self.retry_at

    def begin(self) -> None:
        """An attempt is made now. One that is broken off counts as well."""
        self.retry_at = time.monotonic() + self._delay(self.failures)

    def failed(self, fault: F) -> None:
        """The attempt failed. Its delay counts from now: it took its time."""
        self.begin()
        self.fault = fault
        self.failures += 1

    def succeeded(self) -> None:
        """The server answers. The next attempt is not due earlier for that."""
        self.fault, self.failures = None, 0

    def reset(self) -> None:
        """Something was corrected: an attempt may be made at once."""
        self.succeeded()
        self.retry_at = 0.0
