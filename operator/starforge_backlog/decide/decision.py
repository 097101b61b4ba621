"""One decision: spec, memory and readings in, a plan out (DESIGN §4).

The order is the runbook's *Immediate mitigations (ordered, safe)*:
1. pause producers  2. (background queues)  3. (dead letters)
4. step down under database pressure  5. step up within the budget.
Recovery runs backwards, one thing per observation window.
"""

from __future__ import annotations

from datetime import datetime

from starforge_backlog.api.policy import Mode, QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    BudgetStatus,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
)
from starforge_backlog.decide import breaker as breakers
from starforge_backlog.decide.budget import budget, free_replicas
from starforge_backlog.decide.clocks import not_from_the_future
from starforge_backlog.decide.diagnosis import diagnose
from starforge_backlog.decide.freshness import judged
from starforge_backlog.decide.laststep import longest_hold_down, settled
from starforge_backlog.decide.need import (
    Load,
    demand,
    load,
    measured_per_replica,
    steady_need,
)
from starforge_backlog.decide.objectives import missed
from starforge_backlog.decide.plan import Action, Assessment, Pause, Plan, Resume
from starforge_backlog.decide.pressure import pressure, utilization_percent
from starforge_backlog.decide.producers import Producers, decide_producers, release_all
from starforge_backlog.decide.scaling import scale
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.decide.verdict import baseline
from starforge_backlog.snapshot import Known, Reading, Snapshot, Unknown, Why


def decide(
    spec: QueueBacklogPolicySpec,
    before: QueueBacklogPolicyStatus,
    seen: Snapshot,
    now: datetime,
    *,
    owner: str,
    hold: str | None = None,
) -> Plan:
    """Decide one pass.

    `owner` is the policy's uid, the first part of every ownership token. `hold` is the text of
    the hold annotation: like `suspend` it stops every action, releases included.
    """
    before = not_from_the_future(
        before,
        now,
        longest_window=spec.scaling.observe_for,
        longest_hold_down=longest_hold_down(spec.scaling.observe_for),
    )
    seen = judged(spec, seen, now)
    work = load(seen.queues.items())
    used = _utilization(spec, seen)
    signs = _pressure(spec, seen)
    limit = _budget(spec, before, seen)
    misses = {queue.name: missed(queue, seen.queues[queue.name]) for queue in spec.queues}
    status = before.model_copy(
        update={
            "scaling": _measured(spec, before.scaling, seen, work, limit, now),
            # The last known terms stay: they hold the peak of other clients over a restart (P6).
            "budget": limit if isinstance(limit, BudgetStatus) else before.budget,
        }
    )
    stopped = _stopped(spec, hold)
    if stopped is not None:
        reason, message = stopped
        findings = diagnose(work, seen.workload, status.scaling, signs)
        facts = Assessment(findings, misses, signs, used, limit, reason, message)
        return Plan((), (), _nobody_looks(status, now), seen, facts)

    states = _breakers(spec, before, seen, used, now)
    observing = spec.mode is Mode.OBSERVE
    pauses = decide_producers(
        spec,
        states,
        before.paused,
        seen.producers,
        owner,
        work.arrivals,
        now,
        unreadable=frozenset(
            rule.name for rule in spec.breakers if not breakers.readable(rule, seen.queues, used)
        ),
        released_at=before.released_at,
    )
    pauses = _one_release_per_window(pauses, spec, before, now)
    released = [action for action in pauses.actions if isinstance(action, Resume)]
    opens = before.released_at + spec.scaling.observe_for if before.released_at else None
    outcome = _scale(
        spec,
        _watched_only(status.scaling, seen) if observing else status.scaling,
        seen,
        work,
        limit,
        signs,
        any(misses.values()),
        _pausing(states, pauses.entries),
        now + spec.scaling.observe_for if released else opens,
        now,
    )
    findings = diagnose(work, seen.workload, outcome.status, signs)
    facts = Assessment(findings, misses, signs, used, limit, outcome.reason, outcome.message)
    actions = _in_order(pauses, outcome)
    status = status.model_copy(
        update={"breakers": states, "paused": pauses.entries, "scaling": outcome.status}
    )
    if observing:
        return _observe_only(actions, before, status, seen, facts)
    return Plan(actions, (), status, seen, facts)


def _stopped(spec: QueueBacklogPolicySpec, hold: str | None) -> tuple[str, str] | None:
    if hold is not None:
        return "Held", f"held by annotation: {hold or 'no reason given'}; remove it to go on"
    if spec.suspend:
        return "Suspended", "spec.suspend is true; what we paused stays paused until it is false"
    return None


def _nobody_looks(status: QueueBacklogPolicyStatus, now: datetime) -> QueueBacklogPolicyStatus:
    """While nothing is decided nothing is sustained: the clocks of rules and of idling stop."""
    return status.model_copy(
        update={
            "breakers": tuple(breakers.stop_clocks(state, now) for state in status.breakers),
            "scaling": status.scaling.model_copy(update={"idle_since": None}),
        }
    )


def _breakers(
    spec: QueueBacklogPolicySpec,
    before: QueueBacklogPolicyStatus,
    seen: Snapshot,
    used: Reading[float],
    now: datetime,
) -> tuple[BreakerStatus, ...]:
    """Each breaker's next state."""
    remembered = {state.name: state for state in before.breakers}
    held = {entry.producer for entry in before.paused if entry.state in _OURS}
    return tuple(
        breakers.step(
            rule,
            remembered.get(rule.name),
            seen.queues,
            used,
            now,
            held=not held.isdisjoint(rule.pause),
            released_at=before.released_at,
            pressure_percent=spec.database.pressure.utilization_percent if spec.database else 0,
        )
        for rule in spec.breakers
    )


def _in_order(pauses: Producers, outcome: Outcome) -> tuple[Action, ...]:
    """Mitigation before recovery: pauses, a step down, releases, and a step up at the very end.

    The first action that fails ends the pass, so a release that cannot be carried out must not
    keep the database from being spared.
    """
    paused = [action for action in pauses.actions if isinstance(action, Pause)]
    resumed = [action for action in pauses.actions if isinstance(action, Resume)]
    step = outcome.step
    if step is None:
        return (*paused, *resumed)
    if step.to < step.from_:
        return (*paused, step, *resumed)
    return (*paused, *resumed, step)


def _utilization(spec: QueueBacklogPolicySpec, seen: Snapshot) -> Reading[float]:
    if spec.database is None or seen.database is None:
        return Unknown(Why.NOT_CONFIGURED, "the policy names no database", seen.taken_at)
    match seen.database.connections:
        case Known(connections, at):
            return Known(utilization_percent(spec.database, connections), at)
        case Unknown() as unknown:
            return unknown


def _pressure(spec: QueueBacklogPolicySpec, seen: Snapshot) -> tuple[str, ...] | None:
    """Signs of pressure; None when they cannot be read. No database, no pressure."""
    if spec.database is None or seen.database is None:
        return ()  # both or neither, see `judged`
    connections, health = seen.database.connections, seen.database.health
    if not isinstance(connections, Known) or not isinstance(health, Known):
        return None
    return pressure(spec.database, connections.value, health.value)


def _budget(
    spec: QueueBacklogPolicySpec, before: QueueBacklogPolicyStatus, seen: Snapshot
) -> BudgetStatus | Unknown | None:
    if spec.database is None or seen.database is None:
        return None
    connections, workload, each = seen.database.connections, seen.workload, seen.per_replica
    for part in (connections, workload, each):
        if isinstance(part, Unknown):
            return part
    assert isinstance(connections, Known)
    assert isinstance(workload, Known)
    assert isinstance(each, Known)
    if connections.value.read_only:
        return Unknown(
            Why.READ_ONLY,
            "the server is a read-only standby; point spec.database.url at the primary",
            connections.at,
        )
    if not seen.claims_complete:
        return Unknown(
            Why.NOT_YET, "not every policy of this database was read yet", connections.at
        )
    if not each.value.role:
        return Unknown(
            Why.NOT_CONFIGURED,
            "nothing tells which role the workers log in as; set spec.database.workerRole",
            each.at,
        )
    remembered = before.budget.others if before.budget is not None else None
    return budget(
        spec.database, connections.value, workload.value, each.value, seen.claims, remembered
    )


def _measured(
    spec: QueueBacklogPolicySpec,
    before: ScalingStatus,
    seen: Snapshot,
    work: Load,
    limit: BudgetStatus | Unknown | None,
    now: datetime,
) -> ScalingStatus:
    """What this pass measured, whatever is decided from it."""
    if not isinstance(seen.workload, Known):
        return before
    workload, window = seen.workload.value, spec.scaling.observe_for
    per_replica = before.throughput_per_replica
    if settled(before, workload, window, now):
        per_replica = measured_per_replica(work, workload.ready, per_replica, window)
    wanted = demand(work, spec.scaling.drain_within)
    return before.model_copy(
        update={
            "replicas": workload.replicas,
            "budget": limit.replicas if isinstance(limit, BudgetStatus) else None,
            "need": steady_need(wanted, per_replica, before.need),
            "throughput_per_replica": per_replica,
        }
    )


_OURS = frozenset({PauseState.INTENDED, PauseState.HELD})


def _pausing(states: tuple[BreakerStatus, ...], entries: tuple[PauseStatus, ...]) -> bool:
    return any(state.state is not BreakerState.CLOSED for state in states) or any(
        entry.state in _OURS for entry in entries
    )


def _one_release_per_window(
    pauses: Producers,
    spec: QueueBacklogPolicySpec,
    before: QueueBacklogPolicyStatus,
    now: datetime,
) -> Producers:
    """Recovery runs backwards, one thing per observation window: keep at most one release, and
    none while a step or another release is younger than a window."""
    step = before.scaling.last_step
    done = [m for m in (before.released_at, step.at if step else None) if m is not None]
    open_window = all(now - moment >= spec.scaling.observe_for for moment in done)
    kept: list[Pause | Resume] = []
    for action in pauses.actions:
        if isinstance(action, Resume):
            if not open_window:
                continue
            open_window = False
        kept.append(action)
    return Producers(tuple(kept), pauses.entries)


def _watched_only(before: ScalingStatus, seen: Snapshot) -> ScalingStatus:
    """`Observe`: replicas are nobody's business of ours, and no step of ours is pending."""
    replicas = seen.workload.value.replicas if isinstance(seen.workload, Known) else None
    return before.model_copy(
        update={
            "applied_replicas": replicas,
            "external": None,
            "last_step": None,
            "next_step_not_before": None,
            "hold_down_until": None,
        }
    )


def _scale(
    spec: QueueBacklogPolicySpec,
    before: ScalingStatus,
    seen: Snapshot,
    work: Load,
    limit: BudgetStatus | Unknown | None,
    signs: tuple[str, ...] | None,
    any_missed: bool,
    pausing: bool,
    window_opens: datetime | None,
    now: datetime,
) -> Outcome:
    """Gather what a step depends on; without a workload there is none."""
    match seen.workload:
        case Unknown() as unknown:
            return Outcome(None, before, unknown.why, unknown.message)
        case Known(workload):
            pass
    if isinstance(seen.per_replica, Unknown) and spec.database is not None:
        return Outcome(None, before, seen.per_replica.why, seen.per_replica.message)
    used = _utilization(spec, seen)
    free = None
    if spec.database is not None and seen.database is not None:
        connections, each = seen.database.connections, seen.per_replica
        if isinstance(connections, Known) and isinstance(each, Known):
            free = free_replicas(spec.database, connections.value, each.value)
    return scale(
        Situation(
            spec=spec,
            workload=workload,
            before=before,
            load=work,
            budget=limit,
            free_steps=free,
            pressure=signs,
            missed=any_missed,
            pausing=pausing,
            now_reading=baseline(work, workload, used.value if isinstance(used, Known) else None),
            window_opens=window_opens,
            now=now,
        )
    )


def _observe_only(
    actions: tuple[Action, ...],
    before: QueueBacklogPolicyStatus,
    status: QueueBacklogPolicyStatus,
    seen: Snapshot,
    facts: Assessment,
) -> Plan:
    """`Observe`: release what is ours, say the rest (P4)."""
    release = release_all(before.paused, "the policy was switched to Observe")
    would = tuple(_words(action) for action in actions if not isinstance(action, Resume))
    kept = tuple(
        entry
        for entry in status.paused
        if entry.state is not PauseState.INTENDED
        or any(e.producer == entry.producer for e in before.paused)
    )
    scaling = status.scaling.model_copy(update={"last_step": None, "next_step_not_before": None})
    status = status.model_copy(update={"paused": kept, "scaling": scaling})
    return Plan(release.actions, would, status, seen, facts)


def _words(action: Action) -> str:
    match action:
        case Pause():
            return f"pause {action.producer}: {action.why}"
        case Resume():
            return f"resume {action.held.producer}: {action.why}"
        case _:
            return f"scale {action.from_} -> {action.to}: {action.why}"
