"""Whose replicas are they? A write that is not ours is noticed, named and respected (P9).

An autoscaler of the target is known before it writes; then nothing of ours is written at all. Other
writers are known by what they wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.api.base import format_duration
from starforge_backlog.api.status import ExternalWriter, ScalingStatus
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.situation import Outcome, Situation, hold, remember
from starforge_backlog.snapshot import Autoscaler, Known, Reading, Unknown, Why

# A writer that takes replicas back each time we go on is an autoscaler, and not a person who is
# done: it is asked less and less often, but often enough that a removed one is noticed in a shift.
LONGEST_YIELD = timedelta(hours=1)
_MOST_DOUBLINGS = 16
# Most writers of replicas that come back are pipelines that find the number in Git.
LEAVE_REPLICAS_OUT = (
    ". If it comes from Git or a chart, leave spec.replicas out of the manifest (Argo CD:"
    " ignoreDifferences)"
)


def yield_for(times: int, first: timedelta) -> timedelta:
    """How long a writer is respected that came back that often."""
    doubled: timedelta = first * 2 ** min(times - 1, _MOST_DOUBLINGS)
    return min(doubled, max(first, LONGEST_YIELD))


def yield_to_others(at: Situation) -> tuple[Situation, Outcome | None]:
    """Notice writes of `replicas` that are not ours, and respect them (P9)."""
    at = forget_another_target(at)
    workload = at.workload
    conflict = autoscaler_conflict(at)
    if conflict:
        at = remember(
            at,
            applied_replicas=workload.replicas,
            external=None,
            last_step=None,
            idle_since=None,
            asleep_since=None,
        )
        return at, hold(at, ScalingReason.REPLICA_CONFLICT, conflict)
    if workload.replicas == 0:
        return _at_zero(at)
    at = remember(at, asleep_since=None)
    if _ours(at):
        return remember(at, applied_replicas=workload.replicas, external=None), None
    return _external(at)


def forget_another_target(at: Situation) -> Situation:
    """Another object under the same name: nothing we remember is about it. What was done to a
    guarded autoscaler stays: that is an object of its own.

    Without a uid (a new policy, or `status.memory` was cleared) the rest is not forgotten: a
    hold-down, a step under observation and another client's write are still to be respected.
    """
    workload, before = at.workload, at.before
    if before.target_uid == workload.uid:
        return at
    if not before.target_uid:
        return remember(at, target_uid=workload.uid)
    return replace(
        at,
        before=ScalingStatus(
            replicas=before.replicas,
            budget_replicas=before.budget_replicas,
            need=before.need,
            target_uid=workload.uid,
            applied_replicas=workload.replicas,
            throughput_per_replica=before.throughput_per_replica,
            guard=before.guard,
        ),
    )


def autoscaler_conflict(at: Situation) -> str:
    """Who else scales the target, and the fix; empty when nobody is known to. A paused
    ScaledObject scales nothing."""
    if not isinstance(at.autoscaler, Known) or at.autoscaler.value is None:
        return ""
    found = at.autoscaler.value
    if found.paused:
        return ""
    kind, name, through = found.kind, found.name, ""
    if found.owner:  # KEDA would make it again, and writes its maximum
        kind, name, through = "ScaledObject", found.owner, f" (by {found.kind} {found.name})"
    field = kind[0].lower() + kind[1:]
    return (
        f"{kind} {name}{through} scales it between {found.minimum} and {found.maximum}; replicas"
        f" are left to it. Delete it, or name it in spec.target.guard.{field} to keep its maximum"
        " within the budget"
    )


def hidden(reading: Reading[Autoscaler | None] | None) -> bool:
    """Whether a fault hides an autoscaler for the moment. Without the right to list (refused for
    longer than a moment) nobody will ever know; then other writers are noticed by what they wrote,
    as before."""
    return isinstance(reading, Unknown) and reading.why is not Why.NO_PERMISSION


def _at_zero(at: Situation) -> tuple[Situation, Outcome | None]:
    """Asleep, which is ours to end; or scaled to 0 by another client, and then it stays so."""
    if _we_scaled_to_zero(at) or _waits_for_its_first_job(at):
        since = at.before.asleep_since or at.now
        return remember(at, applied_replicas=0, external=None, asleep_since=since), None
    at = remember(
        at,
        applied_replicas=0,
        last_step=None,
        external=None,
        idle_since=None,
        asleep_since=None,
        quiet_since=None,
    )
    who = at.workload.writer.manager if at.workload.writer else "another client"
    message = (
        f"scaled to 0 by {who}; it stays so. Scale it to"
        f" {max(1, at.spec.target.min_replicas)} or more to hand it back{LEAVE_REPLICAS_OUT}"
    )
    return at, hold(at, ScalingReason.SCALED_TO_ZERO, message)


def _waits_for_its_first_job(at: Situation) -> bool:
    """Created with `replicas: 0`, as one does for workers that sleep until there is work."""
    return at.spec.target.min_replicas == 0 and at.workload.created_at_zero


def _we_scaled_to_zero(at: Situation) -> bool:
    """As the object says; where it does not say who wrote, as we remember (the API server, 1.37,
    leaves a 0 that came through the scale subresource out of its record). A person who scales a
    sleeping target to 0 once more changes nothing, and is not noticed."""
    writer = at.workload.writer
    if writer is not None:
        return writer.manager == FIELD_MANAGER
    return at.before.asleep_since is not None


def _ours(at: Situation) -> bool:
    """Replicas are what we wrote, or what a write of ours left behind when we were killed."""
    workload, before = at.workload, at.before
    if before.external is not None:
        return False
    if workload.replicas == before.applied_replicas or before.applied_replicas is None:
        return True
    step = before.last_step
    landed = step is not None and workload.replicas in {step.to, step.from_}
    writer = workload.writer
    return landed and (writer is None or writer.manager == FIELD_MANAGER)


def _external(at: Situation) -> tuple[Situation, Outcome | None]:
    workload, known = at.workload, at.before.external
    writer = workload.writer
    manager = writer.manager if writer is not None else "an unknown writer"
    wrote_at = writer.at if writer is not None and writer.at is not None else None
    again = known is not None and (
        known.replicas != workload.replicas or (wrote_at is not None and wrote_at > known.since)
    )
    if known is None or again:
        times = times_in_a_row(at, manager, lambda n: yield_for(n, at.spec.scaling.yield_for))
        known = ExternalWriter(
            manager=manager, replicas=workload.replicas, since=at.now, times=times
        )
    yielding = yield_for(known.times, at.spec.scaling.yield_for)
    quiet_at = known.since + yielding
    if at.now >= quiet_at:
        at = remember(
            at,
            applied_replicas=workload.replicas,
            external=None,
            last_external=known,
            last_step=None,
        )
        return at, None
    at = remember(at, external=known, last_step=None, idle_since=None)
    message = (
        f"{known.manager} set replicas to {known.replicas}; respected until it has been quiet for"
        f" {format_duration(yielding)} ({quiet_at:%H:%M:%S} UTC){LEAVE_REPLICAS_OUT}"
    )
    return at, hold(at, ScalingReason.REPLICA_CONFLICT, message)


def times_in_a_row(at: Situation, manager: str, yielding: Callable[[int], timedelta]) -> int:
    """How often in a row that writer undid us. Its writes while it is respected are one time; quiet
    for as long as it may be respected, it starts again. `yielding`: how long it is the n-th time.
    """
    last = at.before.external or at.before.last_external
    if last is None or last.manager != manager:
        return 1
    if last is at.before.external:
        return last.times
    again = last.since + yielding(last.times)
    soon = at.now - again < yield_for(last.times, at.spec.scaling.yield_for)
    return last.times + 1 if soon else 1
