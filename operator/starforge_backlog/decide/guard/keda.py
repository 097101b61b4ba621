"""What guardrail mode has to know of KEDA: its own autoscaler bounds the pods, and may be paused.

KEDA takes the maximum of a ScaledObject over to a HorizontalPodAutoscaler of its own. It reaches
all triggers first, so a database that is full keeps it from that just when it matters.
"""

from __future__ import annotations

from dataclasses import replace

from starforge_backlog.api.target import KEDA_PAUSED, KEDA_PAUSED_AT
from starforge_backlog.decide.guard.limits import lasting, limit_text, serves
from starforge_backlog.decide.guard.marks import Whose, connections, name_of, status_of
from starforge_backlog.decide.plan import SetMaximum
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.snapshot import Autoscaler, Follower, Unknown


def followed(at: Situation, found: Autoscaler, mark: Whose) -> Outcome | None:
    """KEDA's own autoscaler allows more than its ScaledObject: it cannot reach a trigger, say. What
    its owner chose is none of our business while it is within the budget."""
    follower = found.follower
    if not isinstance(follower, Follower) or follower.maximum <= found.maximum:
        return None
    if follower.minimum >= follower.maximum:
        return None
    if mark is not Whose.OURS and serves(at, follower.maximum):
        return None
    return _follow(at, found, follower)


def with_follower(found: Autoscaler, mark: Whose, outcome: Outcome) -> Outcome:
    """What KEDA made of our number, where it is ours."""
    if mark is not Whose.OURS:
        return outcome
    match found.follower:
        case Follower() as follower if follower.maximum != found.maximum:
            message = f"{_not_followed(found, follower)}; {outcome.message}"
            return replace(outcome, reason=ScalingReason.GUARD_NOT_FOLLOWED, message=message)
        case Unknown(message=message):
            return replace(
                outcome,
                message=f"{outcome.message}; whether KEDA follows it is not seen: {message}",
            )
        case _:
            return outcome


def beyond_reach(at: Situation, found: Autoscaler, outcome: Outcome) -> Outcome:
    """Paused, KEDA has no autoscaler that a maximum could bound."""
    if found.held_at is None and not found.paused:
        return outcome
    replicas = at.workload.replicas if found.held_at is None else found.held_at
    how = (
        f"annotation {KEDA_PAUSED} leaves {replicas} replicas as they are"
        if found.held_at is None
        else f"the annotation {KEDA_PAUSED_AT} keeps {replicas} replicas"
    )
    paused = f"{name_of(found)} is paused: {how}, whatever its maximum is"
    most = lasting(at)
    if most is None or replicas <= most:
        return replace(outcome, message=f"{paused}; {outcome.message}")
    fix = (
        f"scale {at.spec.target.name} to {most} or less"
        if found.held_at is None
        else f"set the annotation to {most} or less"
    )
    message = f"{paused}, and {limit_text(at)}; {fix}, or remove the annotation"
    return replace(outcome, reason=ScalingReason.PAUSED_ABOVE_BUDGET, message=message)


def _follow(at: Situation, found: Autoscaler, follower: Follower) -> Outcome:
    """KEDA's own autoscaler gets the maximum that its ScaledObject has already."""
    memory = at.before.guard or status_of(found, previous=None, maximum=found.maximum)
    step = SetMaximum(
        memory,
        from_=follower.maximum,
        to=max(found.maximum, follower.minimum),
        version="",
        connections=connections(at, found.maximum),
        why=f"KEDA did not follow {name_of(found)}{_complaint(found)}",
        follower=follower.name,
        follows=True,
    )
    message = _not_followed(found, follower)
    return Outcome(step, at.before, ScalingReason.GUARD_NOT_FOLLOWED, message)


def _not_followed(found: Autoscaler, follower: Follower) -> str:
    """What KEDA's own autoscaler shows instead of our number, and why as far as KEDA says."""
    return (
        f"HorizontalPodAutoscaler {follower.name} has the maximum {follower.maximum} instead of the"
        f" {found.maximum} of {name_of(found)}{_complaint(found)}"
    )


def _complaint(found: Autoscaler) -> str:
    return f"; KEDA says: {found.complaint}" if found.complaint else ""
