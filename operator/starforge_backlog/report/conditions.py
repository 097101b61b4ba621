"""Conditions: one function per type, each a table over the plan. Positive polarity throughout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BudgetStatus,
    Condition,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    QueueStatus,
    ScalingStatus,
    StepVerdict,
)
from starforge_backlog.cluster.annotations import RELEASE, RELEASE_ABANDON
from starforge_backlog.decide.assess.objectives import lasting, readable
from starforge_backlog.decide.pauses.moved import is_stuck
from starforge_backlog.decide.pauses.ways import never_readable
from starforge_backlog.decide.plan import Assessment, Plan, taken
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.results import NotDone
from starforge_backlog.decide.said_once import said_once
from starforge_backlog.producers.by_hand import how_to_resume
from starforge_backlog.report.draft import FALSE, MESSAGE_LIMIT, TRUE, UNKNOWN, Draft, dated
from starforge_backlog.report.effect import useless
from starforge_backlog.report.faults import HARMLESS, broken_readings
from starforge_backlog.report.pauses import concerned, progress
from starforge_backlog.report.pods import unless_nothing_works, with_commands
from starforge_backlog.snapshot import (
    Autoscaler,
    DatabaseReading,
    Known,
    Reading,
    Unknown,
    Why,
)

Trouble = tuple[Why | NotDone, str]
"""What failed while acting: reason and message."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """What failed of all actions, and of a step."""

    acting: Trouble | None = None
    step: Trouble | None = None


def conditions(
    spec: QueueBacklogPolicySpec,
    plan: Plan,
    status: QueueBacklogPolicyStatus,
    troubles: Troubles,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """All conditions of this pass; a transition time moves only when a status flips."""
    found = (
        _ready(spec, plan, troubles.acting),
        _backlog(spec, plan, status.queues, now),
        _with_caveats(_headroom(spec, plan), status.scaling, plan.seen.database),
        with_commands(_consumers(spec, plan, status.scaling), plan.seen.workload),
        _with_unreadable_rules(_producers(spec, plan, status, now), plan.assessment),
        unless_nothing_works(_scaling(spec, plan, troubles.step), plan, status.scaling),
    )
    return tuple(dated(draft, status, generation, now) for draft in found)


def _ready(spec: QueueBacklogPolicySpec, plan: Plan, trouble: Trouble | None) -> Draft:
    """Spec valid, the target its own, everything reachable."""
    if plan.seen.rival is not None:
        return Draft("Ready", FALSE, ScalingReason.TARGET_TAKEN, taken(plan.seen.rival))
    broken = broken_readings(spec, plan)
    if broken:
        message = said_once((str(what), reading.message) for what, reading in broken)
        return Draft("Ready", FALSE, broken[0][1].why, message[:MESSAGE_LIMIT])
    if trouble is not None:
        return Draft("Ready", FALSE, trouble[0], trouble[1][:MESSAGE_LIMIT])
    return Draft("Ready", TRUE, "AllReadable", "everything the policy names can be read")


def _backlog(
    spec: QueueBacklogPolicySpec,
    plan: Plan,
    queues: tuple[QueueStatus, ...],
    now: datetime,
) -> Draft:
    """Every queue within its objectives, or missed for less than their time."""
    objectives = {queue.name: queue.objectives for queue in spec.queues}
    late: list[str] = []
    early: list[str] = []
    for queue in queues:
        if queue.missed_since is None:
            continue
        since = f"since {queue.missed_since:%H:%M:%S} UTC"
        missed = f"objective missed {since}, and it cannot be read now"
        text = f"{queue.name}: {', '.join(queue.missed) or missed}"
        lasts = lasting(objectives[queue.name], queue.missed_since, now)
        (late if lasts else early).append(text)
    if late:
        causes = plan.assessment.findings
        reason = causes[0].cause.value if causes else "ObjectiveMissed"
        evidence = f"; {causes[0].evidence}" if causes else ""
        return Draft("BacklogHealthy", FALSE, reason, "; ".join(late) + evidence)
    unread = [q.name for q in spec.queues if not readable(q, plan.seen.queues[q.name])]
    if unread:
        reason, message = _unread(plan, unread)
        return Draft("BacklogHealthy", UNKNOWN, reason, message)
    if early:
        return Draft("BacklogHealthy", TRUE, "MissedForNow", "; ".join(early))
    return Draft("BacklogHealthy", TRUE, "WithinObjectives", "all queues within objectives")


def _unread(plan: Plan, names: list[str]) -> tuple[Why, str]:
    """The queues that cannot be judged, and why the first of them cannot."""
    seen = [plan.seen.queues[name] for name in names]
    parts = (part for queue in seen for part in (queue.waiting, queue.oldest_due_age))
    missing = next((part for part in parts if isinstance(part, Unknown)), None)
    reason = Why.CAPPED if missing is None else missing.why
    message = missing.message if missing is not None else ""
    message = message or "not all jobs are counted (status.queues)"
    return reason, f"cannot read {', '.join(names)}: {message}"


def _headroom(spec: QueueBacklogPolicySpec, plan: Plan) -> Draft:
    """Connections are left for others, and the database is not in trouble."""
    kind, facts = "DatabaseHeadroom", plan.assessment
    match facts.budget:
        case None:
            text = "the policy names no database, so replicas are not limited by a budget"
            return Draft(kind, UNKNOWN, "NoDatabase", text)
        case Unknown(why, message):
            return Draft(kind, UNKNOWN, why, message)
        case BudgetStatus() as budget:
            pass
    if facts.pressure:
        return Draft(kind, FALSE, "Pressure", "; ".join(facts.pressure))
    if budget.replicas < spec.target.min_replicas:
        text = (
            f"minReplicas {spec.target.min_replicas} is above the budget of {budget.replicas}"
            f" ({budget.formula}); "
        )
        # What passes by itself is no reason to change a policy.
        text += budget.passing or "lower it, PG_POOL_MAX or the headroom"
        return Draft(kind, FALSE, "MinimumAboveBudget", text)
    if facts.pressure is None:
        reason = _unread_health(plan.seen.database)
        return Draft(kind, UNKNOWN, reason, "the database's health cannot be read")
    text = f"budget {budget.replicas} replicas: {budget.formula}"
    if budget.passing:
        text += f"; {budget.passing}"
    return Draft(kind, TRUE, "Available", text)


def _unread_health(database: DatabaseReading | None) -> Why:
    """Why it is not known whether the database is under pressure."""
    if database is None:
        return Why.NOT_YET
    parts = (database.health, database.connections, database.pooler)
    return next((part.why for part in parts if isinstance(part, Unknown)), Why.NOT_YET)


def _with_caveats(draft: Draft, scaling: ScalingStatus, database: DatabaseReading | None) -> Draft:
    """Why the budget counts with more than it seems to have to, what is not watched, and what a
    person can do."""
    texts = [draft.message]
    health = database.health if database is not None else None
    if isinstance(health, Known) and health.value.lock_waiters is None:
        texts.append("lock waiters: not watched (set database.prometheus.lockWaiters)")
    if scaling.old_pool is not None:
        texts.append(
            f"pods from before {scaling.old_pool.since:%H:%M:%S} UTC may still have a pool of"
            f" {scaling.old_pool.pool}, which counts until they are replaced: run `kubectl rollout"
            " restart`"
        )
    if scaling.surplus is not None:
        texts.append(
            f"{scaling.surplus.connections} connections of the workers' role are not from the"
            " workers: give the workers a database role of their own to make the budget exact"
        )
    return replace(draft, message="; ".join(texts))


def _consumers(spec: QueueBacklogPolicySpec, plan: Plan, scaling: ScalingStatus) -> Draft:
    """All pods Ready, none crashing. Pods that a step of ours has just asked for may start, and
    none are missed of a target that we sent to sleep."""
    step = scaling.last_step
    kind = "ConsumersHealthy"
    match plan.seen.workload:
        case Unknown() as unknown:
            return Draft(kind, UNKNOWN, unknown.why, unknown.message)
        case Known(pods):
            pass
    if pods.replicas == 0 and scaling.asleep_since is not None:
        return Draft(kind, TRUE, "Asleep", f"asleep since {scaling.asleep_since:%H:%M:%S} UTC")
    if pods.replicas == 0:
        return Draft(kind, FALSE, "ScaledToZero", "no replicas are asked for")
    if pods.stuck_since is not None:
        target = f"{spec.target.kind.lower()}/{spec.target.name}"
        text = (
            f"the rollout of {target} has made no progress since {pods.stuck_since:%Y-%m-%d}"
            f" {pods.stuck_since:%H:%M:%S} UTC: {pods.ready} of {pods.replicas} pods Ready;"
            f" {pods.trouble or 'no pod says why'}. Correct it, or go back with `kubectl rollout"
            f" undo {target}`; steps continue with the pods that work"
        )
        return Draft(kind, FALSE, "RolloutStuck", text)
    if pods.not_created_why and pods.ready < pods.replicas:
        text = f"{pods.ready} of {pods.replicas} pods Ready; no more can be created:"
        return Draft(kind, FALSE, "PodsNotCreated", f"{text} {pods.not_created_why}")
    if pods.crash_looping:
        return Draft(kind, FALSE, "CrashLoopBackOff", pods.not_ready_why)
    if pods.oom_killed:
        return Draft(kind, FALSE, "OOMKilled", pods.not_ready_why)
    if pods.ready < pods.replicas:
        why = f": {pods.not_ready_why}" if pods.not_ready_why else ""
        text = f"{pods.ready} of {pods.replicas} pods Ready{why}"
        starting = step is not None and step.ready_at is None and step.to == pods.replicas
        if starting and step is not None and step.verdict is StepVerdict.OBSERVING:
            return Draft(kind, TRUE, "PodsStarting", text)
        return Draft(kind, FALSE, "PodsNotReady", text)
    return Draft(kind, TRUE, "AllReady", f"{pods.ready} of {pods.replicas} pods Ready")


def _producers(
    spec: QueueBacklogPolicySpec, plan: Plan, status: QueueBacklogPolicyStatus, now: datetime
) -> Draft:
    """Nobody is paused, by us or by others; and a pause does what it should."""
    kind = "ProducersRunning"
    order = {
        PauseState.REFUSED: ("PauseFailed", "is NOT paused: {message}"),
        PauseState.CHANGED: ("ChangedByOthers", "{message}"),
        PauseState.UNRECORDED: ("PausedWithoutRecord", "{message}{forget}"),
        PauseState.INTENDED: ("Pausing", "is being paused: {message}"),
        PauseState.HELD: ("PausedByBreaker", "paused by breaker {breaker} since {since}{effect}"),
        PauseState.OVERRIDDEN: ("Overridden", "{message}"),
        PauseState.FOREIGN: ("PausedByOthers", "{message} (seen since {since}){how}"),
    }
    pauses = [
        ("ReleaseFailed", f"{entry.producer} is still paused at its former place: {entry.message}")
        for entry in status.paused
        if is_stuck(entry)
    ]
    for state, (reason, text) in order.items():
        pauses += [
            _pause(spec, entry, reason, text, useless(spec, plan.seen, status, entry, now))
            for entry in status.paused
            if entry.state is state and not is_stuck(entry)
        ]
    if pauses:
        # All of them, the most urgent first: its reason is the condition's.
        running = all(e.state is PauseState.OVERRIDDEN for e in status.paused)
        messages = (*(message for _, message in pauses), *filter(None, (concerned(status),)))
        return Draft(kind, TRUE if running else FALSE, pauses[0][0], "; ".join(messages))
    for name, reading in plan.seen.producers.items():
        if isinstance(reading, Known) and reading.value.note:
            return Draft(kind, UNKNOWN, "HeldWithoutRecord", f"{name}: {reading.value.note}")
        if isinstance(reading, Unknown) and reading.why not in HARMLESS:
            return Draft(kind, UNKNOWN, reading.why, f"{name}: {reading.message}")
    probing = [b.name for b in status.breakers if b.state is BreakerState.HALF_OPEN]
    if probing:
        return Draft(kind, TRUE, "Probing", f"breaker {probing[0]} is half-open")
    if not spec.producers:
        return Draft(kind, TRUE, "NoProducers", "the policy names no producers")
    return Draft(kind, TRUE, "Running", "no producer is paused")


def _with_unreadable_rules(draft: Draft, facts: Assessment) -> Draft:
    """What no breaker can see: the reason why none opens, or why a pause does not end."""
    message = "; ".join((draft.message, *facts.unreadable.values()))
    return replace(draft, message=message[:MESSAGE_LIMIT])


def _pause(
    spec: QueueBacklogPolicySpec, entry: PauseStatus, reason: str, text: str, in_vain: bool
) -> tuple[str, str]:
    """Reason and sentence of one pause; `in_vain` where arrivals do not fall under it."""
    effect = ""
    if entry.state is PauseState.HELD:
        effect = progress(entry)
        if in_vain:
            reason = "PausedWithoutEffect"
            effect += "; but arrivals did not fall: is something else enqueueing?"
    message = text.format(
        message=entry.message,
        breaker=entry.breaker,
        since=f"{entry.since:%H:%M:%S} UTC",
        effect=effect,
        how=_how(spec, entry),
        forget=_forget(spec, entry),
    )
    return reason, f"{entry.producer} {message}".strip()


def _forget(spec: QueueBacklogPolicySpec, entry: PauseStatus) -> str:
    """How to end it where no reading shows that it was resumed."""
    producer = spec.producer(entry.producer)
    if producer is not None and not never_readable(producer):
        return ""
    return f"; then annotate the policy with {RELEASE}={RELEASE_ABANDON}"


def _how(spec: QueueBacklogPolicySpec, entry: PauseStatus) -> str:
    producer = spec.producer(entry.producer)
    return "" if producer is None else f"; to resume it, {how_to_resume(producer)}"


def _scaling(spec: QueueBacklogPolicySpec, plan: Plan, stuck: Trouble | None) -> Draft:
    """Able to step; the reason says what holds it."""
    if stuck is not None:
        return Draft("Scaling", FALSE, stuck[0], stuck[1][:MESSAGE_LIMIT])
    reason = plan.assessment.scaling_reason
    message = plan.assessment.scaling_message or "no step needed"
    if spec.target.guard is None:
        message += _autoscaler_caveat(plan.seen.autoscaler)
    return Draft("Scaling", reason.means.status, reason, message[:MESSAGE_LIMIT])


def _autoscaler_caveat(reading: Reading[Autoscaler | None] | None) -> str:
    """What a person should know of an autoscaler that does not hold us."""
    match reading:
        case Unknown(Why.NO_PERMISSION, message):
            return f"; whether an autoscaler scales the target is not seen: {message}"
        case Known(Autoscaler(name=name, paused=True) as found):
            return f"; {found.kind} {name} is paused; once it is resumed, replicas are left to it"
        case _:
            return ""
