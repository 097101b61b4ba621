"""A queue whose every signal is an expression, as a `QueueSource`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starforge_backlog.api.prometheus import PrometheusQueue
from starforge_backlog.clock import Clock
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.prometheus.numbers import age, rate
from starforge_backlog.queues.prometheus.signals import ask, count, outcomes
from starforge_backlog.snapshot import QueueReading, Unknown, Why

AGE: Final = "oldestAgeSeconds"


@dataclass(frozen=True, slots=True)
class InSeries:
    """One queue of one policy; sessions and answers are shared by all policies of the server."""

    name: str
    spec: PrometheusQueue
    access: PolicyAccess
    hub: PrometheusHub
    clock: Clock

    async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
        """See `QueueSource.read`. How young a shared answer is, is the hub's own limit."""
        spec, at = self.spec, f"queues[{self.name}].prometheus"
        expressions = {
            "waiting": spec.waiting,
            "arrivals": spec.arrivals,
            "completed": spec.completed,
            "failed": spec.failed,
        }
        if spec.oldest_age_seconds is not None:
            expressions[AGE] = spec.oldest_age_seconds
        asked = await ask(
            spec, expressions, at=at, window=rate_window, access=self.access, hub=self.hub
        )
        found = asked.readings
        no_age = Unknown(
            Why.NO_SOURCE,
            f"there is no expression for the age of the oldest job: set {at}.{AGE}, or the"
            " objective oldestAge and its trip rules are not evaluated",
            self.clock(),
        )
        # A gauge contains how many jobs wait, and nothing of those that do not.
        not_reported = Unknown(Why.NO_SOURCE, "there is no expression for it", self.clock())
        completed, failed = (rate(found[n], f"{at}.{n}") for n in ("completed", "failed"))
        return QueueReading(
            waiting=count(found["waiting"], f"{at}.waiting"),
            scheduled=not_reported,
            in_progress=not_reported,
            failed=not_reported,
            oldest_due_age=age(found[AGE], f"{at}.{AGE}") if AGE in found else no_age,
            arrivals_per_second=rate(found["arrivals"], f"{at}.arrivals"),
            throughput_per_second=completed,
            outcomes=outcomes(completed, failed, rate_window),
            how=f"Prometheus at {spec.url}",
            notes=(*(() if AGE in found else (no_age.message,)), *asked.notes),
        )
