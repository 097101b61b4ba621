"""`minReplicas: 0`: nobody works while there is nothing to do, and the first due job wakes them.

| the target | its queues                                          | then                         |
|------------|-----------------------------------------------------|------------------------------|
| asleep     | no job is known to be due                           | it sleeps on                 |
| asleep     | a job is due; budget and health known, no pressure  | it wakes, within one pass    |
| asleep     | a job is due; something of that is missing          | hold, with the reason        |
| awake      | nothing waits or is in progress, `scaleDownAfter`   | one step down, to 0 at last  |
| awake      | one of these cannot be read                         | it stays awake (P2)          |

A job that is scheduled counts when it is due. Waking waits for no window: it is a start and not a
further step, and needs no measurement but the job itself. An open breaker does not stop it, because
consumers drain what is there.
"""

from __future__ import annotations

from collections.abc import Iterable

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.status import BudgetStatus
from starforge_backlog.decide.assess.need import demand, need
from starforge_backlog.decide.plan import StepKind
from starforge_backlog.decide.reasons import ScalingReason, no_budget
from starforge_backlog.decide.situation import Outcome, Situation, hold, remember, take_step
from starforge_backlog.decide.steps.ownership import hidden
from starforge_backlog.snapshot import Confidence, Known, QueueReading, Unknown


def due(queues: Iterable[QueueReading]) -> int:
    """Jobs that are known to wait. A queue that cannot be read hides none of the others' (it adds
    nothing that would wake anybody either)."""
    return sum(q.waiting.value.value for q in queues if isinstance(q.waiting, Known))


def quiet(queues: Iterable[QueueReading]) -> bool | None:
    """Nothing waits, nothing is in progress and nothing has arrived; None when that is not known.

    Arrivals that a queue cannot report are not waited for: what arrived waits, or is in progress.
    """
    known: bool | None = True
    for queue in queues:
        for count in (queue.waiting, queue.in_progress):
            if isinstance(count, Known) and count.value.value:
                return False
            if isinstance(count, Unknown) or count.value.confidence is not Confidence.EXACT:
                known = None
        arrivals = queue.arrivals_per_second
        if isinstance(arrivals, Known) and arrivals.value > 0:
            return False
    return known


def watch(at: Situation) -> Situation:
    """Remember since when it is quiet. What is not known is not quiet (P2)."""
    if at.spec.target.min_replicas or not at.quiet:
        return remember(at, quiet_since=None)
    since = at.before.quiet_since
    return remember(at, quiet_since=at.now if since is None else min(since, at.now))


def may_sleep(at: Situation) -> bool:
    """Whether the last replicas may go."""
    since = at.before.quiet_since
    return since is not None and at.now - since >= at.spec.scaling.scale_down_after


def asleep(at: Situation) -> Outcome | None:
    """Sleep on, or wake; None for a target that is awake, or that must not sleep any more."""
    if at.workload.replicas or at.spec.target.min_replicas:
        return None
    if not at.due:
        unread = f"; but {'; '.join(at.load.missing)}" if at.load.missing else ""
        return hold(
            at, ScalingReason.ASLEEP, f"nothing is due; it wakes with the first due job{unread}"
        )
    jobs = f"{at.due} job{'' if at.due == 1 else 's'} due"
    return _held(at, jobs) or _wake(at, jobs)


def _held(at: Situation, jobs: str) -> Outcome | None:
    """What must be known, or gone, before anybody is woken (P1, P2)."""
    if at.sample_is_old:
        return hold(
            at,
            ScalingReason.OBSERVING,
            f"{jobs}, but the database was not sampled since the last step",
        )
    if hidden(at.autoscaler):
        return hold(
            at,
            ScalingReason.AUTOSCALER_NOT_KNOWN,
            f"{jobs}, but autoscalers of the target are not known",
        )
    if isinstance(at.budget, Unknown):
        return hold(at, no_budget(at.budget), f"{jobs}, but no budget: {at.budget.message}")
    if at.budget is not None and at.pressure is None:
        return hold(
            at, ScalingReason.HEALTH_NOT_KNOWN, f"{jobs}, but the database's health cannot be read"
        )
    if at.pressure:
        return hold(at, ScalingReason.PRESSURE, f"{jobs}, but {'; '.join(at.pressure)}")
    until = at.before.hold_down_until
    if until is not None and at.now < until:
        return hold(
            at, ScalingReason.HOLD_DOWN, f"{jobs}, but a step failed: until {until:%H:%M:%S} UTC"
        )
    return None


def _wake(at: Situation, jobs: str) -> Outcome:
    """As many as are known to be needed, one step at most; one where that is not known."""
    scaling, target = at.spec.scaling, at.spec.target
    wanted = need(demand(at.load, scaling.drain_within), at.before.throughput_per_replica)
    if wanted is None:
        wanted = scaling.step_up if at.missed else 1
    to = min(max(1, wanted), scaling.step_up)
    if target.max_replicas is not None:
        to = min(to, target.max_replicas)
    if isinstance(at.budget, BudgetStatus):
        to = min(to, at.budget.replicas)
    if at.free_steps is not None:
        to = min(to, at.free_steps)
    if to < 1:
        budget = at.budget.replicas if isinstance(at.budget, BudgetStatus) else 0
        message = f"{jobs}, but the budget is {budget} and no connections are free now"
        return hold(at, ScalingReason.BUDGET_EXHAUSTED, message)
    slept = ""
    if at.before.asleep_since is not None:
        slept = f" after {format_duration(at.now - at.before.asleep_since)} of sleep"
    at = remember(at, quiet_since=None, idle_since=None)
    return take_step(at, StepKind.WAKE, to, jobs + slept)
