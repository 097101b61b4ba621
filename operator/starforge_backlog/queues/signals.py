"""`signals`: single readings of a queue from Prometheus, the others from the queue itself.

| given               | replaces                                                      |
|---------------------|---------------------------------------------------------------|
| waiting             | waiting                                                       |
| oldestAgeSeconds    | the age of the oldest due job                                 |
| arrivals            | arrivals                                                      |
| completed           | throughput                                                    |
| completed and failed| outcomes, also of the type where the queue is of one type     |

`failed` without `completed` is no ratio, and the queue's own denominator counts other moments: the
CRD refuses it. A signal that is given and cannot be read is unknown: the queue's own number would
change its meaning from one pass to the next.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from starforge_backlog.api.prometheus import PrometheusSignals
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.prometheus.numbers import age, rate
from starforge_backlog.queues.prometheus.signals import (
    SECONDS_BEFORE_DEADLINE,
    Asked,
    ask,
    count,
    outcomes,
)
from starforge_backlog.queues.protocol import QueueSource
from starforge_backlog.snapshot import QueueReading, unread


@dataclass(frozen=True, slots=True)
class WithSignals:
    """A queue with some of its readings replaced."""

    name: str
    queue: QueueSource
    spec: PrometheusSignals
    access: PolicyAccess
    hub: PrometheusHub

    async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
        """See `QueueSource.read`. Neither waits longer for the other than the pass allows."""
        soon = Deadline(self.access.deadline.at - SECONDS_BEFORE_DEADLINE)
        own = self.queue.read(rate_window=rate_window, max_age=max_age)
        reading, asked = await asyncio.gather(
            soon.keep(own, unread(self.access.late)),
            ask(
                self.spec,
                expressions(self.spec),
                at=f"queues[{self.name}].signals",
                window=rate_window,
                access=self.access,
                hub=self.hub,
            ),
        )
        return overlaid(reading, asked, at=f"queues[{self.name}].signals", window=rate_window)


def expressions(spec: PrometheusSignals) -> dict[str, str]:
    """Those that are given, by the field's name."""
    given = {
        "waiting": spec.waiting,
        "oldestAgeSeconds": spec.oldest_age_seconds,
        "arrivals": spec.arrivals,
        "completed": spec.completed,
        "failed": spec.failed,
    }
    return {name: text for name, text in given.items() if text is not None}


def overlaid(own: QueueReading, asked: Asked, *, at: str, window: timedelta) -> QueueReading:
    """The queue's own reading with what was found in place of it."""
    found = asked.readings
    given: dict[str, Any] = {}
    if "waiting" in found:
        given["waiting"] = count(found["waiting"], f"{at}.waiting")
    if "oldestAgeSeconds" in found:
        given["oldest_due_age"] = age(found["oldestAgeSeconds"], f"{at}.oldestAgeSeconds")
    if "arrivals" in found:
        given["arrivals_per_second"] = rate(found["arrivals"], f"{at}.arrivals")
    if "completed" in found:
        completed = rate(found["completed"], f"{at}.completed")
        given["throughput_per_second"] = completed
        if "failed" in found:
            ended = outcomes(completed, rate(found["failed"], f"{at}.failed"), window)
            given["outcomes"] = ended
            if len(own.by_type) == 1:
                given["by_type"] = {
                    kind: replace(one, outcomes=ended) for kind, one in own.by_type.items()
                }
    said = f"Prometheus for {', '.join(found)}"
    how = f"{own.how}; {said}" if own.how else said
    return replace(own, how=how, notes=(*own.notes, *asked.notes), **given)
