"""Passes that waited for a source that hangs are let go on one after the other.

They share the source's connection, so they learn of its fault in the same moment. Ten of them that
then decide and write their statuses at once kept the event loop, and with it every other policy's
pass, for 0.2 s. A pass that is late already loses nothing by waiting a little longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

# A pass whose readings took longer than this has waited for another policy; ordinary ones take
# milliseconds, and are never held up here.
SLOW_SECONDS = 0.5
# What is left of a pass after its readings keeps the loop busy for 6 ms, and on a busy machine for
# 25; so others get their turns in between.
APART_SECONDS = 0.03
# Of its interval: by then a pass goes on in any case, or it would miss the next one. At 15 s that
# is room for 250 policies.
LONGEST_PART = 0.5


class SlowPassPacer:
    """One for the process."""

    def __init__(
        self,
        *,
        now: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self._free_at = 0.0  # loop time, seconds

    def now(self) -> float:
        """Loop time, seconds."""
        return asyncio.get_running_loop().time() if self._now is None else self._now()

    async def wait_turn(self, began: float, interval: timedelta) -> None:
        """Come back when it is this pass' turn: at once, unless it has been slow. `began`: when it
        started to read (loop time)."""
        now = self.now()
        if now - began < SLOW_SECONDS:
            return
        wait = min(max(0.0, self._free_at - now), interval.total_seconds() * LONGEST_PART)
        self._free_at = now + wait + APART_SECONDS
        if wait > 0:
            await self._sleep(wait)
