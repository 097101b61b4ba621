"""The last step: observe it, judge it, take it back when it failed (P3)."""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.policy import Growth
from starforge_backlog.api.status import BudgetStatus, ScalingStatus, Step, StepFailure, StepVerdict
from starforge_backlog.decide.plan import StepKind
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.situation import (
    Outcome,
    Situation,
    hold,
    remember,
    safe_size,
    write,
)
from starforge_backlog.decide.steps.verdict import Evidence, failed, judge
from starforge_backlog.snapshot import Workload

# The wait after a failed step doubles with each further failure ...
HOLD_DOWN_GROWTH = 2
# ... up to this: long enough for a person to check, short enough for a night without one.
LONGEST_HOLD_DOWN = timedelta(minutes=30)
# ... unless one observation is longer than that: a hold-down is never shorter than its growth.
_MOST_DOUBLINGS = 16
# What a failed wake-up leaves: with none, due jobs have no worker, and there is no pod to examine.
LEAST_AWAKE = 1
# What follows a step that could not be judged: the lower of the runbook's 1-2 replicas.
SMALLEST_STEP = 1


def hold_down(failed_steps: int, observe_for: timedelta) -> timedelta:
    """How long no up-step follows that many failed ones in a row."""
    factor: int = HOLD_DOWN_GROWTH ** min(failed_steps, _MOST_DOUBLINGS)
    grown = observe_for * factor
    return min(grown, longest_hold_down(observe_for))


def longest_hold_down(observe_for: timedelta) -> timedelta:
    """The longest wait after failed steps."""
    return max(LONGEST_HOLD_DOWN, observe_for * HOLD_DOWN_GROWTH)


def settled(before: ScalingStatus, workload: Workload, window: timedelta, now: datetime) -> bool:
    """Whether the rates of the last window belong to the replicas that run now."""
    if workload.changing or workload.terminating or not workload.all_arrived:
        return False
    if workload.stuck_since is None and workload.ready != workload.replicas:
        return False
    if before.external is not None:
        return False
    if before.applied_replicas not in {None, workload.replicas}:
        return False  # another client's change, noticed in this pass
    opens = before.next_step_not_before
    step = before.last_step
    if step is not None and step.to > step.from_ and step.verdict is StepVerdict.OBSERVING:
        if step.ready_at is None:
            return False
        opens = step.ready_at + window
    return opens is None or now >= opens


def last_write(before: ScalingStatus, observe_for: timedelta) -> datetime | None:
    """When we wrote `replicas` last. A revert is no step of its own: its window shows it."""
    step, opens = before.last_step, before.next_step_not_before
    moments = [step.at] if step is not None else []
    if opens is not None:
        moments.append(opens - observe_for)
    return max(moments, default=None)


def judge_last_step(at: Situation) -> tuple[Situation, Outcome | None]:
    """Judge the last step. Returns an outcome while it decides what happens now."""
    step = at.before.last_step
    if step is None:
        return at, None
    replicas = at.workload.replicas
    if step.verdict is StepVerdict.FAILED and replicas == step.to > step.from_:
        return at, _revert(at, step)  # decided before, not carried out yet
    if step.verdict not in {StepVerdict.OBSERVING, StepVerdict.INCONCLUSIVE}:
        return at, None
    if step.verdict_at is not None:
        return at, None  # let go without a verdict
    if replicas != step.to:
        # The intent was stored, the write never happened: as if it had not been decided.
        return remember(at, last_step=None, next_step_not_before=None), None
    if at.workload.changing:
        # Pods are replaced under the step: what it did shows only when they are all back.
        if step.ready_at is not None:
            step = step.model_copy(update={"ready_at": None})
            at = remember(at, last_step=step)
    elif step.ready_at is None and at.workload.all_arrived:
        step = step.model_copy(update={"ready_at": at.now})
        at = remember(at, last_step=step)
    if step.to < step.from_:
        return _judge_down(at, step)
    return _judge_up(at, step)


def _judge_down(at: Situation, step: Step) -> tuple[Situation, Outcome | None]:
    """A down-step needs only its window: what it costs shows as need, which steps up again."""
    ends = step.at + at.spec.scaling.observe_for
    if at.now < ends:
        until = f"{step.from_} -> {step.to}: observed until {ends:%H:%M:%S} UTC"
        return at, hold(at, ScalingReason.OBSERVING, until)
    return _closed(at, step, StepVerdict.PASSED, "window over"), None


def _judge_up(at: Situation, step: Step) -> tuple[Situation, Outcome | None]:
    scaling = at.spec.scaling
    judgement = judge(
        step,
        at.workload,
        Evidence(
            after=at.now_reading,
            pressure=at.pressure,
            missing=at.load.missing,
            read_at=at.read_at,
            counted=at.load.waiting_exact,
        ),
        at.spec.rate_window,
        max(queue.objectives.failed_percent for queue in at.spec.queues),
        at.now,
    )
    most = safe_size(at)
    if most is not None and most < step.to and isinstance(at.budget, BudgetStatus):
        why = f"the budget fell to {most}, with {at.budget.others} connections of others"
        judgement = failed(StepFailure.BUDGET, why)
    verdict, why = judgement.verdict, judgement.why
    where = f"{step.from_} -> {step.to}"
    match verdict:
        case StepVerdict.OBSERVING:
            return at, hold(at, ScalingReason.OBSERVING, f"{where}: {why}")
        case StepVerdict.INCONCLUSIVE if judgement.final:
            return remember(_closed(at, step, verdict, why), step_size=SMALLEST_STEP), None
        case StepVerdict.INCONCLUSIVE:
            if step.verdict is not verdict or step.verdict_message != why:
                step = step.model_copy(update={"verdict": verdict, "verdict_message": why})
                at = remember(at, last_step=step)
            return at, hold(at, ScalingReason.STEP_NOT_JUDGED, f"{where}: no verdict: {why}")
        case StepVerdict.PASSED:
            at = _closed(at, step, verdict, why)
            # Doubled from what was really added: a step that the budget cut short proves no more.
            doubled = max(scaling.step_up, 2 * (step.to - step.from_))
            grown = doubled if scaling.growth is Growth.SLOW_START else scaling.step_up
            return remember(at, step_size=grown, failed_steps=0, hold_down_until=None), None
        case StepVerdict.FAILED:
            at = _closed(at, step, verdict, why, judgement.failed_by)
            failures = at.before.failed_steps + 1
            at = remember(
                at,
                step_size=scaling.step_up,
                failed_steps=failures,
                hold_down_until=at.now + hold_down(failures, scaling.observe_for),
            )
            closed = at.before.last_step
            assert closed is not None
            return at, _revert(at, closed)


def _closed(
    at: Situation,
    step: Step,
    verdict: StepVerdict,
    why: str,
    failed_by: StepFailure | None = None,
) -> Situation:
    step = step.model_copy(
        update={
            "verdict": verdict,
            "verdict_message": why,
            "failed_by": failed_by,
            "verdict_at": at.now,
            "after": at.now_reading,
        }
    )
    return remember(at, last_step=step, last_judged=step)


def _revert(at: Situation, step: Step) -> Outcome | None:
    """Take a failed step back, and further where the budget fell below its start. Of a target that
    was asleep one replica stays, for the jobs that woke it are still there; None when that is all
    there is, and only the hold-down follows."""
    start = max(step.from_, LEAST_AWAKE)
    to = start
    most = safe_size(at)
    if most is not None:
        to = max(at.spec.target.min_replicas, min(to, most))
    to = min(to, start) if step.from_ else start
    if to >= at.workload.replicas:
        return None
    why = f"step {step.from_} -> {step.to} failed: {step.verdict_message}"
    reverted = step.model_copy(update={"reverted": True})
    status = at.before.model_copy(
        update={
            "last_step": reverted,
            # Known as ours even if we are killed between this write and its result (P6): unlike a
            # step's, its target can be a number that no step names.
            "applied_replicas": to,
            "next_step_not_before": at.now + at.spec.scaling.observe_for,
            "idle_since": None,
        }
    )
    back = write(at, StepKind.REVERT, to, why)
    return Outcome(back, status, ScalingReason.HOLD_DOWN, f"reverted to {to}: {why}")
