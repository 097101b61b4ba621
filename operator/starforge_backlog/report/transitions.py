"""Events: one for each thing that changed, with the numbers that led to it (P8). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseState,
    QueueBacklogPolicyStatus,
    StepVerdict,
)
from starforge_backlog.decide.plan import Pause, Resume, SetMaximum
from starforge_backlog.outcome import Failed, Result
from starforge_backlog.producers.protocol import Paused, Resumed, ResumeOutcome
from starforge_backlog.report.metrics import maximum_verb
from starforge_backlog.report.summary import done, went_on


@dataclass(frozen=True, slots=True)
class Note:
    """An Event before it is posted."""

    warning: bool
    reason: str
    action: str
    text: str


def transitions(
    before: QueueBacklogPolicyStatus,
    after: QueueBacklogPolicyStatus,
    results: tuple[Result, ...],
) -> tuple[Note, ...]:
    """What changed between two statuses, in the order in which a person would tell it."""
    return (
        *_breakers(before, after),
        *_verdict(before, after),
        *_actions(before, results),
        *_pauses(before, after),
        *_conditions(before, after),
    )


def _breakers(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    old = {b.name: b.state for b in before.breakers}
    return [
        Note(
            warning=b.state is BreakerState.OPEN,
            reason=f"Breaker{b.state}",
            action="Decide",
            text=f"breaker {b.name}: {b.why}" + _owners(b),
        )
        for b in after.breakers
        if b.state is not old.get(b.name, BreakerState.CLOSED)
    ]


def _owners(breaker: BreakerStatus) -> str:
    """Whom an opening concerns (runbook: pause that type and notify its owners)."""
    named = breaker.owners if breaker.state is BreakerState.OPEN else ()
    return f"; owners: {', '.join(named)}" if named else ""


def _told(result: Result) -> bool:
    """What goes on was told when it began: the next batch, or what leaked meanwhile."""
    match result:
        case Result(Resume(held), Resumed(ResumeOutcome.PARTLY)):
            return held.resuming
        case _:
            return went_on(result)


def _actions(before: QueueBacklogPolicyStatus, results: tuple[Result, ...]) -> list[Note]:
    """Every action. A pause that fails again for the same reason was told already."""
    told = {entry.producer: entry.message for entry in before.paused}
    ready = before.condition("Ready")
    told[""] = ready.message if ready is not None else ""
    notes = []
    for result in results:
        if _told(result):
            continue
        action, failed = result.action, isinstance(result.got, Failed) or not result.ok
        match action:
            case Pause(producer):
                reason, verb = ("PauseFailed" if failed else "Paused"), "Pause"
            case Resume(held):
                producer = held.producer
                reason, verb = ("ResumeFailed" if failed else _resumed(result)), "Resume"
            case SetMaximum():
                producer, verb = "", "Guard"
                reason = "MaximumFailed" if failed else maximum_verb(action)
            case _:
                producer = ""
                reason, verb = ("ScaleFailed" if failed else f"Scaled{action.kind}"), "Scale"
        got = result.got
        if failed and isinstance(got, Failed | Paused) and told.get(producer) == got.message:
            continue
        notes.append(Note(failed, reason, verb, done(result)))
    return notes


def _resumed(result: Result) -> str:
    match result.got:
        case Resumed(ResumeOutcome.PARTLY):
            return "Resuming"
        case _:
            return "Resumed"


def _pauses(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    """What others did to a pause; our own doing is told by the actions."""
    reasons = {
        PauseState.FOREIGN: "PausedByOthers",
        PauseState.CHANGED: "PauseChangedByOthers",
        PauseState.OVERRIDDEN: "ResumedByOthers",
    }
    old = {entry.producer: entry.state for entry in before.paused}
    return [
        Note(True, reasons[entry.state], "Observe", f"{entry.producer}: {entry.message}")
        for entry in after.paused
        if entry.state in reasons and old.get(entry.producer) is not entry.state
    ]


def _verdict(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    """A verdict, even where the next step followed in the same pass."""
    step, old = after.scaling.last_judged, before.scaling.last_judged
    if step is None or (old is not None and old.at == step.at):
        return []
    return [
        Note(
            warning=step.verdict is StepVerdict.FAILED,
            reason=f"Step{step.verdict}",
            action="Judge",
            text=f"step {step.from_} -> {step.to}: {step.verdict_why}",
        )
    ]


def _conditions(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    """Conditions that flipped. `Scaling` flips with every step, which is told already."""
    notes = []
    for condition in after.conditions:
        old = before.condition(condition.type)
        if condition.type == "Scaling" or (old is not None and old.status == condition.status):
            continue
        good = condition.status == "True"
        if old is None and good:
            continue
        name = condition.type if good else f"Not{condition.type}"
        if condition.status == "Unknown":
            name = f"{condition.type}Unknown"
        notes.append(Note(not good, name, "Observe", f"{condition.reason}: {condition.message}"))
    return notes
