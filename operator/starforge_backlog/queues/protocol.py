"""What every kind of queue promises, whatever stands behind it.

A new kind is one folder beside this file that offers a `QueueSource`, and one field in
`api/queue.py`; the loop does not change.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from starforge_backlog.snapshot import QueueReading


class QueueSource(Protocol):
    """One queue of one policy."""

    async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
        """What the queue holds and how it flows.

        Rates are averaged over `rate_window` (`scaling.observeFor`), or the nearest that the
        source can do. A reading that another caller
        caused is shared when it is not older than `max_age`; each value carries the time at which
        it was read. Expected faults (unreachable, no permission, wrong name) are `Unknown`
        readings, never exceptions.
        """
