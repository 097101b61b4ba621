"""The sentence: is it bad, why, what was done, what comes next, what has a person to do (P8)."""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Breaker, QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    QueueStatus,
)
from starforge_backlog.decide.breakers.breaker import recovers_at
from starforge_backlog.decide.breakers.signals import trips_at
from starforge_backlog.decide.pauses.moved import is_stuck
from starforge_backlog.decide.pauses.standing import OURS
from starforge_backlog.decide.plan import Pause, Plan, Resume, ScaleTo, SetMaximum
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.results import (
    Failed,
    MaximumOutcome,
    MaximumResult,
    Paused,
    PauseOutcome,
    Result,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.by_hand import how_to_resume
from starforge_backlog.report.pauses import concerned, waits_for, what_was_paused
from starforge_backlog.report.rounding import UNKNOWN


def summary(
    spec: QueueBacklogPolicySpec,
    plan: Plan,
    results: tuple[Result, ...],
    status: QueueBacklogPolicyStatus,
) -> str:
    """One line; the parts that say nothing are left out."""
    parts = (
        _is_it_bad(status.queues),
        _why(plan),
        _done(results) or _standing(spec, status, plan.seen.taken_at),
        concerned(status),
        _unreadable(plan, status),
        _would(plan),
        _next(plan),
        _todo(status),
    )
    return f"{spec.target.name}: " + "; ".join(part for part in parts if part)


def _is_it_bad(queues: tuple[QueueStatus, ...]) -> str:
    return ", ".join(_queue(queue) for queue in queues) or "no queue was read"


def _queue(queue: QueueStatus) -> str:
    """`missed` holds exact numbers; the published ones are the rounded ones beside it."""
    if queue.waiting == UNKNOWN:
        return f"{queue.name} {UNKNOWN}"
    bad = "" if queue.missed_since is None else " (objective missed)"
    return f"{queue.name} {queue.waiting} waiting, oldest {queue.oldest}{bad}"


def _why(plan: Plan) -> str:
    findings = plan.assessment.findings
    if not findings:
        return ""
    return f"{findings[0].cause}: {findings[0].evidence}"


def _done(results: tuple[Result, ...]) -> str:
    """A pause that only went on is no news, or the sentence would change with every leak."""
    return ", ".join(done(result) for result in results if not went_on(result))


def went_on(result: Result) -> bool:
    """Whether a pause of ours was carried out once more, because more of it ran."""
    return isinstance(result.action, Pause) and result.action.again and result.ok


def done(result: Result) -> str:
    """One action and what became of it, in words."""
    match result:
        case Result(Pause(producer=producer, why=why) as pause, Paused(outcome=outcome) as paused):
            match outcome:
                case PauseOutcome.PAUSED | PauseOutcome.ALREADY_OURS:
                    what = what_was_paused(pause, paused)
                    return f"paused {producer}{f': {what}' if what else ''} ({why})"
                case PauseOutcome.ALREADY_PAUSED:
                    return f"{producer} was paused already by another client"
                case PauseOutcome.ROW_MISSING | PauseOutcome.BAD_SHAPE:
                    return f"could NOT pause {producer}"
        case Result(Resume(held=held, why=why), Resumed(outcome=outcome, message=message)):
            if outcome is ResumeOutcome.RESUMED:
                return f"resumed {held.producer} ({why})"
            if outcome is ResumeOutcome.PARTLY:
                return f"resumed a part of {held.producer} ({why}): {message}"
            return f"did not resume {held.producer}: {outcome}"
        case Result(ScaleTo() as step, Failed(message=message)):
            return f"could not scale {step.from_} -> {step.to} ({step.why}): {message}"
        case Result(ScaleTo() as step, _):
            return f"scaled {step.from_} -> {step.to} ({step.why})"
        case Result(SetMaximum() as step, Failed(message=message)):
            what = f"maximum of {step.object} {step.from_} -> {step.to}"
            return f"could not set the {what} ({step.why}): {message}"
        case Result(SetMaximum() as step, MaximumResult(outcome, maximum, message)):
            if outcome is not MaximumOutcome.WRITTEN:
                return f"did not restore the maximum of {step.object}: {message}"
            verb = "restored" if step.restore else "set"
            return f"{verb} the maximum of {step.object} {step.from_} -> {maximum} ({step.why})"
        case Result(Pause(producer=producer), Failed(message=message)):
            return f"could not pause {producer}: {message}"
        case Result(Resume(held=held), Failed(message=message)):
            return f"could not resume {held.producer}: {message}"
        case _:
            return ""  # the pairs that `act` never makes


def _in_part(entry: PauseStatus) -> str:
    resuming = entry.progress is PauseProgress.RESUMING
    return f"{entry.producer} {'resumed' if resuming else 'paused'} in part"


def _standing(spec: QueueBacklogPolicySpec, status: QueueBacklogPolicyStatus, now: datetime) -> str:
    """What earlier passes did that is still in force, and what ends it."""
    parts = []
    held = [e for e in status.paused if e.state is PauseState.HELD]
    whole = [entry.producer for entry in held if entry.progress.is_whole]
    if whole:
        parts.append(f"{', '.join(whole)} paused by the operator")
    parts += [_in_part(entry) for entry in held if not entry.progress.is_whole]
    rules = {breaker.name: breaker for breaker in spec.breakers}
    parts += [
        _breaker(spec, rules[breaker.name], breaker, status, now)
        for breaker in status.breakers
        if breaker.name in rules
    ]
    return ", ".join(part for part in parts if part)


def _breaker(
    spec: QueueBacklogPolicySpec,
    rule: Breaker,
    breaker: BreakerStatus,
    status: QueueBacklogPolicyStatus,
    now: datetime,
) -> str:
    """What ends it, and whom it waits for."""
    theirs = waits_for(rule, status)
    ours = any(e.producer in rule.pause and e.state in OURS for e in status.paused)
    if breaker.state is BreakerState.OPEN and (ours or not theirs):
        time = format_duration(rule.recover.for_)
        return f"breaker {breaker.name} goes half-open once {_recovered(spec, rule)} for {time}"
    if breaker.state is not BreakerState.CLOSED and theirs:
        state = "half-open" if breaker.state is BreakerState.HALF_OPEN else "open"
        return f"breaker {breaker.name} {state}, waits for {_others(spec, theirs)}"
    if breaker.state is BreakerState.HALF_OPEN and breaker.since is not None:
        until = breaker.since + rule.recover.probe_for
        judged = f"until {until:%H:%M:%S} UTC at least" if now < until else "not judged yet"
        return f"breaker {breaker.name} half-open, {judged}"
    return ""


def _recovered(spec: QueueBacklogPolicySpec, rule: Breaker) -> str:
    """`waiting is below 150`, for each of its rules."""
    database = spec.database
    pressure = database.pressure.utilization_percent if database is not None else 100
    parts = []
    for trip in rule.trip:
        level = recovers_at(trip, rule.recover.below_percent, pressure)
        signal, value = trips_at(trip)
        bound = value * level / 100
        shown = format_duration(bound) if isinstance(bound, timedelta) else f"{round(bound, 1):g}"
        parts.append(f"{signal} is below {shown}")
    return " and ".join(dict.fromkeys(parts))


def _others(spec: QueueBacklogPolicySpec, theirs: tuple[PauseStatus, ...]) -> str:
    """Who keeps them paused, since when, and what resumes them."""
    words = []
    for entry in theirs:
        if entry.state is PauseState.UNRECORDED:
            words.append(entry.producer)  # what to do is said behind TO DO
            continue
        producer = spec.producer(entry.producer)
        how = f"; to resume it, {how_to_resume(producer)}" if producer is not None else ""
        words.append(f"{entry.producer} ({entry.message}; since {entry.since:%H:%M:%S} UTC{how})")
    return ", ".join(words)


def _unreadable(plan: Plan, status: QueueBacklogPolicyStatus) -> str:
    """Why no probe comes, or none ends. What a closed breaker cannot see is in a condition."""
    unreadable = plan.assessment.unreadable
    return ", ".join(
        unreadable[breaker.name]
        for breaker in status.breakers
        if breaker.state is not BreakerState.CLOSED and breaker.name in unreadable
    )


def _would(plan: Plan) -> str:
    return f"Observe: would {', '.join(plan.would)}" if plan.would else ""


def _next(plan: Plan) -> str:
    facts = plan.assessment
    match facts.scaling_reason:
        case ScalingReason.STEADY:
            return facts.scaling_message
        case ScalingReason.STEPPING:
            return ""  # reported by what was done, or would be
        case reason:
            return f"{reason}: {facts.scaling_message}"


def _todo(status: QueueBacklogPolicyStatus) -> str:
    """What only a person can fix."""
    ready = status.condition("Ready")
    if ready is not None and ready.status == "False":
        return f"TO DO: {ready.message}"
    by_hand = {PauseState.CHANGED, PauseState.UNRECORDED, PauseState.REFUSED}
    changed = [e for e in status.paused if e.state in by_hand]
    stuck = [e for e in status.paused if is_stuck(e)]
    if changed or stuck:
        first = (*changed, *stuck)[0]
        return f"TO DO: {first.producer}: {first.message}"
    return ""
