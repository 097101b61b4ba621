"""Steps: one at a time, observed, taken back when they hurt (P3; runbook, *Safe scaling guidance*).

`scale` walks one table from top to bottom; the first row that applies decides:

 1. the workload cannot be read, was scaled to 0 by a person, is scaled by an autoscaler, or is
    written by another (P9): hold; asleep (`minReplicas: 0`): sleep on, or wake
 2. the last step: judge it; revert it when it failed; hold while it is observed
 3. over the budget: down, one window at a time - under pressure to the safe size in one write
 4. readings missing, pressure, a rollout: hold; above maxReplicas, or above the share that others
    wait for: down, one window at a time
 5. more needed: up by one step within the budget and the share
 6. less needed for `scaleDownAfter`: down by one step
"""

from __future__ import annotations

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.status import BudgetStatus
from starforge_backlog.decide.assess.need import TOLERANCE, chance, demand
from starforge_backlog.decide.budget.holders import holders_text
from starforge_backlog.decide.plan import StepKind
from starforge_backlog.decide.reasons import ScalingReason, no_budget
from starforge_backlog.decide.situation import (
    Outcome,
    Situation,
    hold,
    remember,
    safe_size,
    take_step,
)
from starforge_backlog.decide.steps.desired import DesiredReplicas, desired_in
from starforge_backlog.decide.steps.ownership import hidden, yield_to_others
from starforge_backlog.decide.steps.sleep import asleep, may_sleep, watch
from starforge_backlog.decide.steps.step_observation import judge_last_step
from starforge_backlog.snapshot import Unknown


def scale(at: Situation) -> Outcome:
    """The table above."""
    at, foreign = yield_to_others(watch(at))
    if foreign is not None:
        return foreign
    slept = asleep(at)
    if slept is not None:
        return slept
    at, pending = judge_last_step(at)
    if pending is not None:
        return pending if pending.step is not None else _safe(at) or pending
    return (
        _safe(at)
        or _over_budget(at)
        or _blocked(at)
        or _over_maximum(at)
        or _over_share(at)
        or _up(at)
        or _down(at)
    )


# --- 3. and 4. what forbids a step up ----------------------------------------------------------


def _safe(at: Situation) -> Outcome | None:
    """Over the budget and under pressure: to the safe size in one write, whatever is observed."""
    limit = _limit(at)
    if limit is None or not at.pressure or not isinstance(at.budget, BudgetStatus):
        return None
    why = f"over the budget ({at.budget.formula}) and under pressure: {'; '.join(at.pressure)}"
    return take_step(at, StepKind.SAFE, limit, why)


def _over_budget(at: Situation) -> Outcome | None:
    """Replicas above what the database serves: down, one window at a time."""
    limit = _limit(at)
    if limit is None or at.pressure is None or at.workload.changing:
        return None
    if not isinstance(at.budget, BudgetStatus):
        return None
    to = max(limit, at.workload.replicas - at.spec.scaling.step_down)
    return _windowed(at, StepKind.OVER_BUDGET, to, f"over the budget: {at.budget.formula}")


def _limit(at: Situation) -> int | None:
    """The safe size, when there are more replicas than that; `minReplicas` is never undercut."""
    most = safe_size(at)
    if most is None:
        return None
    limit = max(at.spec.target.min_replicas, most)
    return limit if at.workload.replicas > limit else None


def _blocked(at: Situation) -> Outcome | None:
    """What allows neither up nor down."""
    workload = at.workload
    if workload.paused:
        return hold(
            at, ScalingReason.ROLLOUT_PAUSED, "the rollout is paused: `kubectl rollout resume` it"
        )
    if workload.changing:
        return hold(
            at,
            ScalingReason.ROLLOUT_IN_PROGRESS,
            "a rollout is under way; no step until it is done",
        )
    if at.sample_is_old:
        return hold(at, ScalingReason.OBSERVING, "the database was not sampled since the last step")
    if isinstance(at.budget, Unknown):
        return hold(_busy(at), no_budget(at.budget), f"no budget: {at.budget.message}")
    if at.budget is not None and at.pressure is None:
        return hold(
            _busy(at), ScalingReason.HEALTH_NOT_KNOWN, "the database's health cannot be read"
        )
    if at.load.missing:
        warming_up = at.load.warming_up
        reason = ScalingReason.WARMING_UP if warming_up else ScalingReason.LOAD_NOT_KNOWN
        return hold(_busy(at), reason, "; ".join(at.load.missing))
    if hidden(at.autoscaler) and isinstance(at.autoscaler, Unknown):
        return hold(
            _busy(at),
            ScalingReason.AUTOSCALER_NOT_KNOWN,
            f"autoscalers of the target are not known: {at.autoscaler.message}",
        )
    if at.pressure:
        return hold(_busy(at), ScalingReason.PRESSURE, "; ".join(at.pressure))
    return None


def _over_maximum(at: Situation) -> Outcome | None:
    """`maxReplicas` was lowered: an admin's decision, carried out even while work waits."""
    replicas, maximum = at.workload.replicas, at.spec.target.max_replicas
    if maximum is None or replicas <= maximum:
        return None
    to = max(maximum, replicas - at.spec.scaling.step_down)
    return _windowed(at, StepKind.DOWN, to, f"maxReplicas is {maximum}")


def _over_share(at: Situation) -> Outcome | None:
    """More than the share, and another policy has a right to it, waits, and finds nothing free."""
    if at.share is None or not at.share.lacking:
        return None
    replicas = at.workload.replicas
    least = max(at.share.entitled, at.spec.target.min_replicas)
    if replicas <= least:
        return None
    to = max(least, replicas - at.spec.scaling.step_down)
    waiting = ", ".join(at.share.waiting)
    why = f"the share is {least}, and {waiting} waits for connections that are its own"
    return _windowed(at, StepKind.OVER_SHARE, to, why)


def _busy(at: Situation) -> Situation:
    """Not idle, or not known to be: the idle time starts again."""
    return remember(at, idle_since=None)


# --- 5. up -------------------------------------------------------------------------------------


def _up(at: Situation) -> Outcome | None:
    """One step up, or the reason why not although more is needed; None when enough run."""
    replicas, target = at.workload.replicas, at.spec.target
    desired = desired_in(at)
    if desired is None or desired.replicas <= replicas:
        return None
    at = _busy(at)
    held = _held(at)
    if held is not None:
        return held
    ceiling, limit = _ceiling(at)
    if replicas >= ceiling:
        text = f"{replicas} replicas, {desired.why}, but {_limit_text(at, limit, desired)}"
        return hold(at, limit, text)
    size = at.before.step_size or at.spec.scaling.step_up
    to = min(replicas + size, ceiling, max(desired.replicas, target.min_replicas))
    if at.free_steps is not None and at.free_steps < to - replicas:
        to = replicas + max(0, at.free_steps)
        if to <= replicas:
            message = f"{desired.why}, but no connections are free for one more replica now"
            return hold(at, ScalingReason.BUDGET_EXHAUSTED, message + _held_by(at))
    return take_step(at, StepKind.UP, to, desired.why)


def _held(at: Situation) -> Outcome | None:
    """Reasons to wait although the budget has room."""
    if at.pausing and at.load.drains_within(at.spec.scaling.drain_within):
        return hold(
            at, ScalingReason.DRAINING, "producers are paused and the backlog drains in time"
        )
    if at.load.limited and at.workload.replicas >= at.spec.target.min_replicas:
        return hold(
            at, ScalingReason.QUEUE_LIMIT, f"{at.load.limited}, so more replicas do not help"
        )
    workload = at.workload
    if workload.crash_looping and workload.stuck_since is None:
        return hold(
            at,
            ScalingReason.PODS_CRASHING,
            f"more replicas would crash too: {workload.not_ready_why}",
        )
    if not workload.all_arrived or (workload.stuck_since is not None and not workload.ready):
        why = workload.trouble
        return hold(
            at,
            ScalingReason.PODS_PENDING,
            f"{workload.ready} of {workload.replicas} pods Ready" + (f": {why}" if why else ""),
        )
    until = at.before.hold_down_until
    if until is not None and at.now < until:
        failed = at.before.last_step.verdict_message if at.before.last_step else "a step failed"
        return hold(at, ScalingReason.HOLD_DOWN, f"until {until:%H:%M:%S} UTC, because {failed}")
    return _window(at)


def _window(at: Situation) -> Outcome | None:
    opens = max(
        (m for m in (at.before.next_step_not_before, at.window_opens) if m is not None),
        default=None,
    )
    if opens is not None and at.now < opens:
        return hold(at, ScalingReason.OBSERVING, f"next step not before {opens:%H:%M:%S} UTC")
    return None


def _ceiling(at: Situation) -> tuple[int, ScalingReason]:
    """The most replicas allowed now, and the name of what limits them."""
    maximum = at.spec.target.max_replicas
    budget = at.budget.replicas if isinstance(at.budget, BudgetStatus) else None
    if budget is not None and at.share is not None:
        budget = min(budget, at.share.most)
    if budget is not None and (maximum is None or budget < maximum):
        return budget, ScalingReason.BUDGET_EXHAUSTED
    if maximum is not None:
        return maximum, ScalingReason.AT_MAXIMUM
    step = at.before.step_size or at.spec.scaling.step_up
    return at.workload.replicas + step, ScalingReason.NO_BUDGET


def _limit_text(at: Situation, limit: ScalingReason, desired: DesiredReplicas) -> str:
    if limit is not ScalingReason.BUDGET_EXHAUSTED or not isinstance(at.budget, BudgetStatus):
        return f"maxReplicas is {at.spec.target.max_replicas}"
    budget, share = at.budget.replicas, at.share
    if share is None:
        return f"the budget is {budget}"  # its sum is in DatabaseHeadroom
    text = f"the share is {share.most} of {at.before.need or desired.replicas}"
    if budget < share.most:
        text += f", and {budget} fit beside the others now"
    return text + _held_by(at)


def _held_by(at: Situation) -> str:
    """Who holds the rest, so that nobody has to search for it at night."""
    holders = at.budget.held_by if isinstance(at.budget, BudgetStatus) else ()
    return f"; {holders_text(holders)}" if holders else ""


# --- 6. down -----------------------------------------------------------------------------------


def _down(at: Situation) -> Outcome:
    """One step down after `scaleDownAfter` without work for it; else all is well."""
    replicas, scaling = at.workload.replicas, at.spec.scaling
    floor = max(at.spec.target.min_replicas, replicas - scaling.step_down)
    if floor <= 0:
        if may_sleep(at):
            after = format_duration(scaling.scale_down_after)
            return _windowed(
                at, StepKind.DOWN, 0, f"no job was due for {after}: scaled to 0 until one is"
            )
        floor = 1
    if floor >= replicas or at.missed or not _idle_at(at, floor):
        return hold(_busy(at), ScalingReason.STEADY, "")
    idle_since = at.before.idle_since or at.now
    at = remember(at, idle_since=min(idle_since, at.now))
    if at.now - idle_since < scaling.scale_down_after:
        after = format_duration(scaling.scale_down_after)
        return hold(at, ScalingReason.STEADY, f"fewer replicas are enough; step down after {after}")
    return _windowed(at, StepKind.DOWN, floor, "the work is done")


def _idle_at(at: Situation, replicas: int) -> bool:
    """Whether that many replicas would still serve the demand, with spare capacity."""
    if at.load.waiting is None or not at.load.waiting_exact:
        return False
    per_replica = at.before.throughput_per_replica
    wanted = demand(at.load, at.spec.scaling.drain_within)
    if at.pausing and at.load.waiting >= at.workload.replicas:
        # Without arrivals any number of replicas seems enough. Only when the backlog is gone do
        # idle pods help nobody - and their pools may be what keeps a breaker open.
        return False
    if per_replica and wanted is not None:
        capacity = per_replica * replicas
        window = at.spec.scaling.observe_for
        if at.before.idle_since is None:
            # Idle by more than chance, or replicas would go and come back with every quiet minute.
            return wanted + chance(at.load.arrivals or 0.0, window) <= capacity * (1 - TOLERANCE)
        # Once idle, one job more in a window does not start the time again.
        return wanted <= capacity + chance(0.0, window)
    # Never seen under load: with fewer jobs waiting than workers, nobody is late.
    return at.load.waiting < at.workload.replicas


def _windowed(at: Situation, kind: StepKind, to: int, why: str) -> Outcome:
    return _window(at) or take_step(at, kind, to, why)
