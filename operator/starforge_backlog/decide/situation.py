"""What a step depends on, and the two things that can come of it: a write or a reason to hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import Baseline, BudgetStatus, ScalingStatus, Step
from starforge_backlog.decide.assess.need import Load
from starforge_backlog.decide.budget.formula import potential, sustainable
from starforge_backlog.decide.budget.pgbouncer import held
from starforge_backlog.decide.budget.shares import Share
from starforge_backlog.decide.plan import ScaleTo, SetMaximum, StepKind
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.snapshot import Autoscaler, Reading, Unknown, Workload


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything a step depends on."""

    spec: QueueBacklogPolicySpec
    workload: Workload
    before: ScalingStatus
    load: Load
    # None: the policy names no database, so there is no budget. Unknown: it has one, unread.
    budget: BudgetStatus | Unknown | None
    free_steps: int | None  # replicas that the connections free right now would serve
    pressure: tuple[str, ...] | None  # None: cannot be read
    missed: bool  # an objective is missed now
    pausing: bool  # a breaker is not closed, or a pause of ours is in force
    now_reading: Baseline  # today's side of a verdict
    read_at: datetime  # the oldest of the readings
    # The database was not sampled since our last write: what it says is of the time before.
    sample_is_old: bool
    window_opens: datetime | None  # a resume was the last thing done: one thing per window
    now: datetime
    share: Share | None = None  # among the policies of the server; None: alone, or no budget
    owner: str = ""  # the policy's uid, the first part of every token
    # With a guard that autoscaler, else whoever else scales the target; None: not searched for.
    autoscaler: Reading[Autoscaler | None] | None = None
    due: int = 0  # jobs that are known to wait, whatever else cannot be read
    quiet: bool | None = None  # nothing waits and nothing is in progress; None: not known


@dataclass(frozen=True, slots=True)
class Outcome:
    """At most one write of `replicas` (or of an autoscaler's maximum), what to remember, and what
    holds the next step."""

    step: ScaleTo | SetMaximum | None
    status: ScalingStatus
    reason: ScalingReason
    message: str  # empty: there is nothing to say beside the reason
    allowed: int = 0  # connections that an autoscaler may open by itself, see `Plan`


def hold(at: Situation, reason: ScalingReason, message: str) -> Outcome:
    """No write now, because."""
    return Outcome(None, at.before, reason, message)


def safe_size(at: Situation) -> int | None:
    """Replicas that need not go when there is too little for all; None without a budget.

    What the database serves beside the others as they are now, or this policy's share where that
    is more: then others have more than theirs, and the room comes from them.
    """
    if not isinstance(at.budget, BudgetStatus):
        return None
    most = sustainable(at.budget, at.workload.max_surge)
    return most if at.share is None else max(most, min(at.share.entitled, at.budget.seed_cap))


def remember(at: Situation, **changes: object) -> Situation:
    """The same situation with something more to keep in status."""
    return replace(at, before=at.before.model_copy(update=changes))


def take_step(at: Situation, kind: StepKind, to: int, why: str) -> Outcome:
    """A step that will be observed: it is in status before it is written (P6)."""
    replicas, observe_for = at.workload.replicas, at.spec.scaling.observe_for
    step = Step(from_=replicas, to=to, message=why, at=at.now, before=at.now_reading)
    changes: dict[str, object] = {"last_step": step, "next_step_not_before": at.now + observe_for}
    if to < replicas:
        changes["step_size"] = None  # the next storm starts with small steps again
    if to == 0:
        changes["asleep_since"] = at.now  # before the write: who scaled to 0 must be known
    status = at.before.model_copy(update=changes)
    return Outcome(
        write(at, kind, to, why), status, ScalingReason.STEPPING, f"{replicas} -> {to}: {why}"
    )


def write(at: Situation, kind: StepKind, to: int, why: str) -> ScaleTo:
    """A write of `replicas`, with the connections that it can mean (P1)."""
    budget = at.budget if isinstance(at.budget, BudgetStatus) else None
    return ScaleTo(
        kind=kind,
        from_=at.workload.replicas,
        to=to,
        version=at.workload.scale_version,
        generation=at.workload.generation,
        connections=(
            held(potential(to, at.workload, budget.per_replica), budget.pool) if budget else 0
        ),
        why=why,
    )
