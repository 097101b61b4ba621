"""Guardrail mode: an autoscaler owns `replicas`; its maximum is kept within the budget (P1).

The operator only lowers that maximum, and restores it:

| the maximum      | whose it is                 | then                                            |
|------------------|-----------------------------|-------------------------------------------------|
| any              | marked by another policy    | hold: it is theirs                              |
| unknown budget   | any                         | hold: neither lowered nor raised (P2)           |
| no connection is | any                         | lower to what runs: a server that refuses us is |
| left for us      |                             | full                                            |
| over the budget  | its owner's                 | lower at once, under our mark                   |
| over the budget  | ours                        | lower at once                                   |
| over the budget  | another client overwrote it | it is the owner's now: lower once more; one who |
|                  |                             | comes back is respected, longer each time (P9)  |
| within it        | another client overwrote it | take our mark off                               |
| within it        | ours, below its owner's     | raise by `stepUp` per window; at its owner's,   |
|                  |                             | take our mark off                               |
| over the share   | its owner's, or ours        | lower, while others wait for what is their own: |
|                  |                             | what is not in use at once, pods by `stepDown`  |
| within it        | its owner's                 | nothing to do                                   |

It cannot go below the autoscaler's own minimum; a condition says so when the budget does. What
bounds the pods of a ScaledObject is KEDA's own autoscaler: where that allows more than our number
it is lowered as well. While KEDA is paused no maximum bounds anything; that is said.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.status import BudgetStatus, ExternalWriter, GuardStatus
from starforge_backlog.decide.budget.formula import sustainable
from starforge_backlog.decide.guard.keda import beyond_reach, followed, with_follower
from starforge_backlog.decide.guard.limits import (
    ceiling_of,
    is_full,
    limit_text,
    room_text,
    waited_for,
    within,
)
from starforge_backlog.decide.guard.marks import (
    Whose,
    connections,
    name_of,
    restore,
    status_of,
    whose,
    write,
)
from starforge_backlog.decide.plan import SetMaximum
from starforge_backlog.decide.reasons import ScalingReason, no_budget
from starforge_backlog.decide.situation import Outcome, Situation, hold, remember
from starforge_backlog.decide.steps.ownership import (
    forget_another_target,
    times_in_a_row,
    yield_for,
)
from starforge_backlog.snapshot import Autoscaler, Follower, Known, Reading, Unknown

# autoscaling/v2 and KEDA alike: an autoscaler that may have no replica at all is refused.
LEAST_MAXIMUM = 1


def hand_back(
    memory: GuardStatus | None, seen: Reading[Autoscaler | None] | None, owner: str, why: str
) -> SetMaximum | None:
    """Restore whatever we lowered: the policy lets go of it (P4). None when nothing is lowered.

    Does not wait for a reading: the restore reads the object itself. The reading shows a mark that
    the status has forgotten.
    """
    if memory is None or memory.previous_maximum is None:
        if not isinstance(seen, Known) or seen.value is None:
            return None
        found = seen.value
        if whose(found, owner) not in {Whose.OURS, Whose.CHANGED}:
            return None
        memory = status_of(
            found, previous=found.kept_maximum or found.maximum, maximum=found.maximum
        )
    if not memory.token:  # `status.memory` was cleared; the object's mark names the policy as well
        memory = memory.model_copy(update={"token": f"{owner}/"})
    assert memory.previous_maximum is not None
    now = memory.maximum if memory.maximum is not None else memory.previous_maximum
    return SetMaximum(
        memory,
        from_=now,
        to=memory.previous_maximum,
        version="",
        connections=0,
        why=why,
        restore=True,
    )


def is_another(memory: GuardStatus | None, kind: str, name: str) -> bool:
    """Whether what we lowered is not the object that the spec names now."""
    return memory is not None and (memory.kind, memory.name) != (kind, name)


def guard(at: Situation) -> Outcome:
    """The table above."""
    at = forget_another_target(at)
    # Replicas are the autoscaler's: nobody is in conflict with us over them, no step is pending.
    at = remember(at, applied_replicas=at.workload.replicas, last_step=None, idle_since=None)
    match at.autoscaler:
        case Known(value=Autoscaler() as found):
            outcome = _guard(at, found)
        case Unknown() as unknown:
            outcome = hold(at, ScalingReason.of(unknown.why), unknown.message)
        case _:
            outcome = hold(
                at,
                ScalingReason.AUTOSCALER_NOT_KNOWN,
                "the guarded autoscaler was not read; the next pass reads it",
            )
    return replace(outcome, allowed=connections(at, _allowed(at, outcome)))


def _allowed(at: Situation, outcome: Outcome) -> int:
    """The replicas that may come without a write of ours: what others must not count on (P1)."""
    memory = outcome.status.guard
    allowed = memory.maximum if memory is not None else None
    found = at.autoscaler.value if isinstance(at.autoscaler, Known) else None
    if found is None:
        return allowed or 0
    lagging = found.follower.maximum if isinstance(found.follower, Follower) else 0
    if whose(found, at.owner) is not Whose.OURS:
        lagging = 0  # what its owner allows beyond the budget is lowered and not kept
    return max(allowed or 0, lagging, found.held_at or 0)


def _guard(at: Situation, found: Autoscaler) -> Outcome:
    mark = whose(found, at.owner)
    if mark is Whose.ANOTHERS:
        at = remember(at, guard=None)
        message = (
            f"{name_of(found)} is marked as lowered to {found.written} from {found.kept_maximum} by"
            f" another policy ({found.token}); if that policy was deleted, set its maximum and"
            " remove the guard annotations"
        )
        return hold(at, ScalingReason.GUARD_TAKEN, message)
    at = _remembered(at, found, mark)
    if isinstance(at.budget, Unknown):
        full = _full(at, found, mark)
        return full or hold(at, no_budget(at.budget), f"no budget: {at.budget.message}")
    outcome = (
        _lower(at, found, mark)
        or _unmark(at, found, mark)
        or followed(at, found, mark)
        or _over_share(at, found, mark)
        or _raise(at, found, mark)
    )
    if outcome.step is None:
        outcome = beyond_reach(at, found, with_follower(found, mark, outcome))
    if found.beside and outcome.step is None:
        message = (
            f"{found.beside} scales the target besides {name_of(found)}, and its maximum is not"
            f" lowered: delete it; {outcome.message}"
        )
        return replace(outcome, reason=ScalingReason.REPLICA_CONFLICT, message=message)
    return outcome


def _remembered(at: Situation, found: Autoscaler, mark: Whose) -> Situation:
    """What the object says of itself, in status: where we were killed, it knows better."""
    before = at.before.guard
    allowed = found.maximum if mark is Whose.OURS or within(at, found) else None
    if allowed is None and before is not None and before.uid == found.uid:
        allowed = before.maximum  # it cannot be lowered yet, or its budget is not known
    # Written over, theirs is what there is to restore, and our mark is still to be taken off.
    kept = {Whose.OURS: found.kept_maximum, Whose.CHANGED: found.maximum}
    memory = status_of(found, previous=kept.get(mark), maximum=allowed)
    at = remember(at, guard=memory)
    if mark is Whose.CHANGED:
        return at
    return remember(at, external=None)


# --- lower -------------------------------------------------------------------------------------


def _lower(at: Situation, found: Autoscaler, mark: Whose) -> Outcome | None:
    """Above what the database serves: down at once, as far as the autoscaler's minimum."""
    if within(at, found):
        return None
    floor = max(LEAST_MAXIMUM, found.minimum)
    to = max(floor, _lowered_to(at))
    if to >= found.maximum:
        message = (
            f"the minimum of {name_of(found)} is {found.minimum}, {limit_text(at)}: its maximum"
            " cannot be lowered further; lower its minimum or the pool of its pods"
        )
        return followed(at, found, mark) or hold(at, ScalingReason.MINIMUM_ABOVE_BUDGET, message)
    return _written_down(at, found, mark, to)


def _full(at: Situation, found: Autoscaler, mark: Whose) -> Outcome | None:
    """The server refused our login for want of a free connection. How many may run is not known;
    that none may be added is."""
    if not is_full(at):
        return None
    to = max(LEAST_MAXIMUM, found.minimum, at.workload.replicas)
    if to >= found.maximum:
        message = (
            f"the maximum of {name_of(found)} is {found.maximum}: {limit_text(at)}. Free one, or"
            " keep one for the operator: reserved_connections, GRANT pg_use_reserved_connections"
        )
        return followed(at, found, mark) or hold(at, ScalingReason.DATABASE_FULL, message)
    return _written_down(at, found, mark, to)


def _written_down(at: Situation, found: Autoscaler, mark: Whose, to: int) -> Outcome:
    """The lower maximum, unless a client that insists on its own is respected for a while."""
    if mark is Whose.CHANGED:
        at, respected = _respect(at, found)
        if respected is not None:
            return respected
    return write(at, found, mark, to=to, why=limit_text(at))


def _lowered_to(at: Situation) -> int:
    """No more than the ceiling allows to grow to, and no less than may stay of what runs."""
    ceiling = ceiling_of(at) or 0
    stays = at.workload.replicas
    if isinstance(at.budget, BudgetStatus):
        stays = min(stays, sustainable(at.budget, at.workload.max_surge))
    if at.spec.target.max_replicas is not None:
        stays = min(stays, at.spec.target.max_replicas)
    return max(ceiling, stays)


def _respect(at: Situation, found: Autoscaler) -> tuple[Situation, Outcome | None]:
    """Another client wrote over our maximum. Once may be an edit that did not mean us; one who
    comes back means it, or is a pipeline that always will."""
    manager = found.writer.manager if found.writer is not None else "an unknown writer"
    known = at.before.external
    if known is None or (known.manager, known.replicas) != (manager, found.maximum):
        times = times_in_a_row(at, manager, lambda n: _yielding(at, n))
        known = ExternalWriter(manager=manager, replicas=found.maximum, since=at.now, times=times)
    yielding = _yielding(at, known.times)
    until = known.since + yielding
    if at.now >= until:
        return remember(at, external=None, last_external=known), None
    at = remember(at, external=known)
    message = (
        f"{manager} set the maximum of {name_of(found)} back to {found.maximum}, {limit_text(at)};"
        f" respected for {format_duration(yielding)} ({until:%H:%M:%S} UTC)"
    )
    return at, hold(at, ScalingReason.REPLICA_CONFLICT, message)


def _yielding(at: Situation, times: int) -> timedelta:
    """The first time not at all: it is the database that pays for the respect."""
    return timedelta(0) if times == 1 else yield_for(times - 1, at.spec.scaling.yield_for)


def _over_share(at: Situation, found: Autoscaler, mark: Whose) -> Outcome | None:
    """Another policy on the server has a right to connections that this maximum keeps from it."""
    if at.share is None or not at.share.lacking:
        return None
    least = max(LEAST_MAXIMUM, found.minimum, at.share.entitled)
    if found.maximum <= least:
        return None
    replicas = at.workload.replicas
    to = max(least, replicas if found.maximum > replicas else replicas - at.spec.scaling.step_down)
    waits = _held(at) if to < replicas else None
    if waits is not None:
        return waits
    return write(at, found, mark, to=to, why=waited_for(at.share))


# --- raise and restore -------------------------------------------------------------------------


def _unmark(at: Situation, found: Autoscaler, mark: Whose) -> Outcome | None:
    """What another client wrote over ours is within the budget: it stays, and our mark goes."""
    if mark is not Whose.CHANGED:
        return None
    at = remember(at, external=None)
    why = f"another client set it to {found.maximum}, which is within the budget"
    return restore(at, found, owners=found.maximum, why=why)


def _raise(at: Situation, found: Autoscaler, mark: Whose) -> Outcome:
    """Back towards its owner's maximum, by `stepUp` per window."""
    if mark is not Whose.OURS or found.kept_maximum is None:
        message = f"the maximum of {name_of(found)} is {found.maximum}{room_text(at)}"
        return hold(at, ScalingReason.STEADY, message)
    owners, ceiling = found.kept_maximum, ceiling_of(at)
    goal = owners if ceiling is None else min(owners, ceiling)
    if at.share is not None and at.share.lacking:
        goal = min(goal, at.share.entitled)
    if goal <= found.maximum < owners:
        message = (
            f"the maximum of {name_of(found)} is {found.maximum} instead of {owners}:"
            f" {limit_text(at)}"
        )
        return hold(at, _exhausted(at, found), message)
    waits = _held(at)
    if waits is not None:
        return waits
    to = min(goal, found.maximum + at.spec.scaling.step_up)
    if at.free_steps is not None:
        to = min(to, max(found.maximum, at.workload.replicas + at.free_steps))
    if to <= found.maximum < owners:
        message = f"no connections are free for a higher maximum of {name_of(found)} now"
        return hold(at, _exhausted(at, found), message)
    why = f"the budget allows {goal} of its {owners}"
    if to >= owners:
        return restore(at, found, owners=owners, why=why)
    return write(at, found, mark, to=to, why=why)


def _exhausted(at: Situation, found: Autoscaler) -> ScalingReason:
    """A maximum that nobody asks to exceed keeps nobody from anything."""
    own = found.follower
    limited = own.limited if isinstance(own, Follower) else found.limited
    wants_more = limited and at.workload.replicas >= found.maximum
    return ScalingReason.BUDGET_EXHAUSTED if wants_more else ScalingReason.GUARDED


def _held(at: Situation) -> Outcome | None:
    """Reasons to leave a lowered maximum as it is, although the budget has room (P2, P3)."""
    if at.sample_is_old:
        return hold(
            at, ScalingReason.OBSERVING, "the database was not sampled since the last change"
        )
    if at.budget is not None and at.pressure is None:
        return hold(at, ScalingReason.HEALTH_NOT_KNOWN, "the database's health cannot be read")
    if at.pressure:
        return hold(at, ScalingReason.PRESSURE, "; ".join(at.pressure))
    moments = (at.before.next_step_not_before, at.window_opens)
    opens = max((m for m in moments if m is not None), default=None)
    if opens is not None and at.now < opens:
        return hold(at, ScalingReason.OBSERVING, f"next change not before {opens:%H:%M:%S} UTC")
    return None
