"""When a breaker's rule will have held for its time: worth a pass of its own.

A rule is seen first up to an interval after it became true, and its time is over somewhere between
two passes. Waiting for the second would make a trip late by up to two intervals; one is promised.
"""

from __future__ import annotations

from datetime import datetime

from starforge_backlog.api.policy import Breaker, QueueBacklogPolicySpec
from starforge_backlog.api.status import BreakerState, BreakerStatus, QueueBacklogPolicyStatus
from starforge_backlog.decide.breakers.signals import name


def next_trip(
    spec: QueueBacklogPolicySpec, status: QueueBacklogPolicyStatus, now: datetime
) -> datetime | None:
    """The first moment after `now` at which a closed breaker would open as things stand.

    None: nothing that could open one is being counted. Moments that are over count for nothing,
    or a breaker that something else holds closed would be read without a pause.
    """
    breakers = {breaker.name: breaker for breaker in spec.breakers}
    moments = [
        moment
        for found in status.breakers
        if found.state is BreakerState.CLOSED and found.name in breakers
        for moment in _moments(breakers[found.name], found)
        if moment > now
    ]
    return min(moments, default=None)


def _moments(breaker: Breaker, status: BreakerStatus) -> list[datetime]:
    """Of the rules that are exceeded and can be read: the time of a gap counts as nothing."""
    counting = {
        rule.signal: rule.exceeded_since
        for rule in status.rules
        if rule.exceeded_since is not None and rule.unknown_since is None
    }
    return [counting[name(trip)] + trip.for_ for trip in breaker.trip if name(trip) in counting]
