"""What guardrail mode keeps on the autoscaler's own object, and how it writes there (P4, P6).

A maximum that was lowered carries a token, which begins with the uid of its policy, and what it was
before. Both are written with the maximum, and stand in the policy's status before that.
"""

from __future__ import annotations

from enum import Enum

from starforge_backlog.api.status import BudgetStatus, GuardStatus
from starforge_backlog.decide.budget.formula import potential
from starforge_backlog.decide.budget.pgbouncer import held
from starforge_backlog.decide.plan import SetMaximum
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.results import MAYBE, Failed, Got, MaximumResult
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.snapshot import Autoscaler, Follower


class Whose(Enum):
    """Whose maximum is set there, by the object's own marks."""

    OWNERS = "its owner's"
    OURS = "ours"
    CHANGED = "another client's, written over the operator's"
    ANOTHERS = "another policy's"


def whose(found: Autoscaler, owner: str) -> Whose:
    """By the token, which begins with the uid of its policy. A mark that another client took away
    makes the maximum theirs. Where the policy is gone (made again, or restored from a backup with
    the object) whoever guards the object now takes its mark over."""
    if found.token is None:
        return Whose.OWNERS
    if not owner or not (found.orphan or found.token.startswith(f"{owner}/")):
        return Whose.ANOTHERS
    return Whose.OURS if found.ours else Whose.CHANGED


def write(at: Situation, found: Autoscaler, mark: Whose, *, to: int, why: str) -> Outcome:
    """Its intent is in status before the write, and the same on the object with it (P6).

    What is restored one day is what we found first: under our own mark, what that keeps.
    """
    ours = mark is Whose.OURS
    previous = found.kept_maximum if ours and found.kept_maximum is not None else found.maximum
    token = (found.token or "") if ours else _new_token(at, found)
    memory = status_of(found, previous=previous, maximum=to, token=token)
    step = SetMaximum(
        memory,
        from_=found.maximum,
        to=to,
        version=found.version,
        connections=connections(at, to),
        why=why,
        implicit=found.kept_implicit if ours else found.implicit,
        follower=found.follower.name if isinstance(found.follower, Follower) else "",
    )
    return _outcome(at, found, memory, step)


def restore(at: Situation, found: Autoscaler, *, owners: int, why: str) -> Outcome:
    """Its owner's maximum again, and our mark off, in one write."""
    memory = status_of(found, previous=owners, maximum=owners, token=found.token or "")
    step = SetMaximum(
        memory,
        from_=found.maximum,
        to=owners,
        version=found.version,
        connections=connections(at, owners),
        why=why,
        restore=True,
        most=owners,
    )
    return _outcome(at, found, memory, step)


def _outcome(at: Situation, found: Autoscaler, memory: GuardStatus, step: SetMaximum) -> Outcome:
    opens = at.now + at.spec.scaling.observe_for
    status = at.before.model_copy(update={"guard": memory, "next_step_not_before": opens})
    message = f"maximum of {name_of(found)} {step.from_} -> {step.to}: {step.why}"
    return Outcome(step, status, ScalingReason.STEPPING, message)


def status_of(
    found: Autoscaler, *, previous: int | None, maximum: int | None, token: str | None = None
) -> GuardStatus:
    """What the policy's status keeps of it; `token` is the object's own unless given."""
    return GuardStatus(
        kind=found.kind,
        name=found.name,
        uid=found.uid,
        token=(found.token or "") if token is None else token,
        previous_maximum=previous,
        maximum=maximum,
    )


def connections(at: Situation, maximum: int) -> int:
    """What the target can hold at that maximum, or as it is (P1)."""
    if not isinstance(at.budget, BudgetStatus):
        return 0
    replicas = max(maximum, at.workload.living)
    return held(potential(replicas, at.workload, at.budget.per_replica), at.budget.pool)


def _new_token(at: Situation, found: Autoscaler) -> str:
    return f"{at.owner}/{found.name}/{at.now.isoformat(timespec='milliseconds')}"


def name_of(found: Autoscaler) -> str:
    """For people: "HorizontalPodAutoscaler etl-worker"."""
    return f"{found.kind} {found.name}"


def after_write(step: SetMaximum, got: Got) -> GuardStatus | None:
    """What is remembered of an autoscaler after a write of its maximum."""
    match got:
        case MaximumResult(maximum=maximum) if step.restore:
            # The object has no mark of ours left; where we still guard it, the next pass reads it.
            return step.guard.model_copy(
                update={"token": "", "previous_maximum": None, "maximum": maximum}
            )
        case _ if step.follows:
            return step.guard  # KEDA's own autoscaler: the guarded object is as it was
        case Failed(reason) if reason not in MAYBE and not step.restore:
            # Refused: what stands there still has to be given back one day, if it is ours.
            return step.guard.model_copy(update={"maximum": None})
        case _:
            return step.guard
