"""What is made once for all who name the same thing, and forgotten when nobody names it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import TypeVar, cast

T = TypeVar("T")

# What nobody asked for this long is forgotten: its policies are gone or were changed.
FORGET_AFTER = timedelta(minutes=30)
CHECKED_EVERY = timedelta(minutes=1)  # thousands of policies ask in between


class Kept:
    """Readers and producers with their memory, by the part of the spec that names them."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._kept: dict[Hashable, object] = {}
        self._asked: dict[Hashable, float] = {}  # timer's seconds
        self._checked_at = timer()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The one of that key, which also identifies its kind."""
        now = self._timer()
        if key not in self._kept:
            self._kept[key] = make()
        self._asked[key] = now
        if now - self._checked_at > CHECKED_EVERY.total_seconds():
            self._checked_at = now
            oldest = now - FORGET_AFTER.total_seconds()
            for idle in [one for one, asked in self._asked.items() if asked < oldest]:
                del self._asked[idle], self._kept[idle]
        return cast("T", self._kept[key])
