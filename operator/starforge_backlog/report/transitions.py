"""Events: one for each thing that changed, with the numbers that led to it (P8). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starforge_backlog.api.fitting import LEAST_CHARACTERS
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    Condition,
    PausedBy,
    PauseProgress,
    PauseState,
    QueueBacklogPolicyStatus,
    StepVerdict,
)
from starforge_backlog.decide.plan import Pause, Resume, ScaleTo, SetMaximum
from starforge_backlog.decide.reasons import Reported, stored
from starforge_backlog.decide.results import Failed, Paused, Result, Resumed, ResumeOutcome
from starforge_backlog.report.metrics import maximum_verb
from starforge_backlog.report.pauses import owners
from starforge_backlog.report.summary import done, went_on
from starforge_backlog.snapshot import Why

READY: Final = "Ready"
SCALING: Final = "Scaling"
_BECAME: Final = {
    BreakerState.OPEN: "opened",
    BreakerState.HALF_OPEN: "is half-open",
    BreakerState.CLOSED: "closed",
}


# What happened when a condition became True, False or Unknown.
FLIPPED: Final[Mapping[str, Mapping[str, str]]] = {
    READY: {"True": "Ready", "False": "NotReady", "Unknown": "ReadyNotKnown"},
    "BacklogHealthy": {
        "True": "ObjectivesMet",
        "False": "ObjectivesMissed",
        "Unknown": "ObjectivesNotKnown",
    },
    "DatabaseHeadroom": {
        "True": "DatabaseHeadroomRegained",
        "False": "DatabaseHeadroomLost",
        "Unknown": "DatabaseHeadroomNotKnown",
    },
    "ConsumersHealthy": {
        "True": "ConsumersReady",
        "False": "ConsumersFailing",
        "Unknown": "ConsumersNotKnown",
    },
    "ProducersRunning": {
        "True": "ProducersRunning",
        "False": "ProducersPaused",
        "Unknown": "ProducersNotKnown",
    },
}
# By the reason of the condition, where the word above would be wrong: nothing is paused.
FLIPPED_FOR: Final[Mapping[str, str]] = {
    "PauseFailed": "ProducerNotPaused",
    "Pausing": "ProducerNotPaused",
}


@dataclass(frozen=True, slots=True)
class Note:
    """An Event before it is posted."""

    warning: bool
    reason: str
    action: str
    text: str
    # What shares a limit with others of the same name; empty: an action, which is never left out.
    limit: str = ""


def transitions(
    before: QueueBacklogPolicyStatus,
    after: QueueBacklogPolicyStatus,
    results: tuple[Result, ...],
) -> tuple[Note, ...]:
    """What changed between two statuses, in the order in which a person would report it."""
    return (
        *_breakers(before, after),
        *_verdict(before, after),
        *_clocks(before, after),
        *_actions(before, results),
        *_found_done(before, after, results),
        *_pauses(before, after, results),
        *_scaling(before, after),
        *_conditions(before, after),
    )


def _breakers(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    old = {b.name: b.state for b in before.breakers}
    return [
        Note(
            warning=b.state is BreakerState.OPEN,
            reason=f"Breaker{b.state}",
            action="Decide",
            text=f"breaker {b.name} {_BECAME[b.state]}: {b.message}" + _owners(b),
        )
        for b in after.breakers
        if b.state is not old.get(b.name, BreakerState.CLOSED)
    ]


def _owners(breaker: BreakerStatus) -> str:
    """Whom an opening concerns (runbook: pause that type and notify its owners)."""
    named = breaker.owners if breaker.state is BreakerState.OPEN else ()
    return f"; {owners(named)}" if named else ""


def _is_reported(result: Result) -> bool:
    """What continues was reported when it began: the next batch, or what leaked meanwhile."""
    match result:
        case Result(Resume(held), Resumed(ResumeOutcome.PARTLY)):
            return held.progress is PauseProgress.RESUMING
        case _:
            return went_on(result)


def _actions(before: QueueBacklogPolicyStatus, results: tuple[Result, ...]) -> list[Note]:
    """Every action. A pause that fails again for the same reason was reported already."""
    reported = {entry.producer: entry.message for entry in before.paused}
    ready = before.condition("Ready")
    reported[""] = ready.message if ready is not None else ""
    notes = []
    for result in results:
        if _is_reported(result):
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
        if (
            failed
            and isinstance(got, Failed | Paused)
            and _is_said(got.message, reported, producer)
        ):
            continue
        # What fails for another reason with each pass is limited, what was done is not.
        limit = f"{reason} {producer}" if failed else ""
        notes.append(Note(failed, reason, verb, done(result), limit))
    return notes


def _resumed(result: Result) -> str:
    match result.got:
        case Resumed(ResumeOutcome.PARTLY):
            return "Resuming"
        case _:
            return "Resumed"


def _is_said(message: str, said: Mapping[str, str], producer: str) -> bool:
    """Whether status says it already, be it in the length that status can hold."""
    known = said.get(producer, "")
    return known in {message, shortened(message, max(len(known), LEAST_CHARACTERS))}


def _found_done(
    before: QueueBacklogPolicyStatus,
    after: QueueBacklogPolicyStatus,
    results: tuple[Result, ...],
) -> list[Note]:
    """What had no answer and is found done: else the last word of it would be that it failed."""
    notes = []
    tried = {result.action.held.producer for result in results if isinstance(result.action, Resume)}
    left = {entry.producer for entry in after.paused}
    for entry in before.paused:
        ours = entry.state in {PauseState.HELD, PauseState.INTENDED} and entry.by is PausedBy.US
        if ours and entry.failed and entry.producer not in left | tried:
            text = (
                f"{entry.producer} is no longer paused: the resume that had no answer took effect"
            )
            notes.append(Note(False, "Resumed", "Observe", text))
    step, old = after.scaling.last_step, before.scaling
    if step is None or old.last_step is None or step.at != old.last_step.at:
        return notes
    scaled = any(isinstance(result.action, ScaleTo) for result in results)
    now = after.scaling.replicas
    landed = now == step.to or step.reverted
    if not scaled and landed and now == after.scaling.applied_replicas and now != old.replicas:
        text = f"replicas are {now}: the write from {old.replicas} that had no answer took effect"
        kind = "Revert" if step.reverted else "Up" if step.to > step.from_ else "Down"
        notes.append(Note(False, f"Scaled{kind}", "Observe", text))
    return notes


def _pauses(
    before: QueueBacklogPolicyStatus,
    after: QueueBacklogPolicyStatus,
    results: tuple[Result, ...],
) -> list[Note]:
    """What others did to a pause, and one that was refused before it was tried; our own doing is
    reported by the actions."""
    reasons = {
        PauseState.FOREIGN: "PausedByOthers",
        PauseState.CHANGED: "PauseChangedByOthers",
        PauseState.UNRECORDED: "PauseWithoutRecord",
        PauseState.OVERRIDDEN: "ResumedByOthers",
        PauseState.REFUSED: "PauseFailed",
    }
    tried = {result.action.producer for result in results if isinstance(result.action, Pause)}
    old = {entry.producer: entry.state for entry in before.paused}
    return [
        Note(
            True,
            reasons[entry.state],
            "Observe",
            f"{entry.producer}: {entry.message}",
            f"{reasons[entry.state]} {entry.producer}",
        )
        for entry in after.paused
        if entry.state in reasons
        and old.get(entry.producer) is not entry.state
        and not (entry.state is PauseState.REFUSED and entry.producer in tried)
    ]


def _clocks(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    """Queues under another name: what was remembered of them is gone, as if calm."""
    old, now = ({queue.name: queue for queue in s.queues} for s in (before, after))
    gone = [queue for name, queue in old.items() if name not in now]
    new = [name for name in now if name not in old]
    if not gone or not new:
        return []
    late = [queue.name for queue in gone if queue.missed_since is not None]
    lost = f"; {', '.join(late)} missed its objectives at that moment" if late else ""
    text = (
        f"queues {', '.join(queue.name for queue in gone)} were removed and {', '.join(new)} were"
        f" added: the clocks of their objectives and their rates start again{lost}"
    )
    return [Note(bool(late), "ClocksRestarted", "Observe", text, limit="ClocksRestarted")]


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
            text=f"step {step.from_} -> {step.to}: {step.verdict_message}",
        )
    ]


def _scaling(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    """What holds the next step, when that changes: another writer, the budget, a person's hold.
    Steps, and the time in which they are observed, are reported by the actions and verdicts."""
    now, old = after.condition(SCALING), before.condition(SCALING)
    if now is None:
        return []
    writer, known = after.scaling.external, before.scaling.external
    if writer is not None and (known is None or writer.since != known.since):
        return [Note(True, "ReplicasWrittenByOthers", "Observe", now.message, SCALING)]
    was = "" if old is None else old.reason
    if now.reason == was or _is_of_ready(now, before, after):
        return []
    if _when_reported(now.reason) is not Reported.NEVER:
        warning = now.status != "True"
        return [Note(warning, now.reason, "Decide", now.message, f"{SCALING} {now.reason}")]
    if _when_reported(was) is Reported.FIRST_AND_LAST:
        return [Note(False, f"{was}Ended", "Decide", f"{now.reason}: {now.message}", SCALING)]
    return []


def _when_reported(word: str) -> Reported:
    """Of a reason as status keeps it. Another version's is news."""
    reason = stored(word)
    return Reported.FIRST if reason is None else reason.means.reported


def _conditions(before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus) -> list[Note]:
    """Conditions that flipped, each fault once: what cannot be read makes Ready False and others
    Unknown, and Ready names all of it."""
    notes = []
    ready = before.condition(READY)
    was_broken = ready is not None and ready.status != "True"
    for condition in after.conditions:
        old = before.condition(condition.type)
        if condition.type == SCALING or (old is not None and old.status == condition.status):
            continue
        good = condition.status == "True"
        if old is None and good:
            continue
        if condition.type != READY and _is_of_ready(condition, before, after):
            continue
        before_it = old.status if old is not None else "True"
        if condition.reason == Why.NOT_YET and before_it == "True":
            continue  # not read often enough yet: that passes by itself
        if good and old and old.reason == Why.NOT_YET:
            continue
        if condition.type != READY and good and was_broken and old and old.status == "Unknown":
            continue  # Ready, which is True again, says it
        name = FLIPPED[condition.type][condition.status]
        if not good:
            name = FLIPPED_FOR.get(condition.reason, name)
        text = f"{condition.reason}: {condition.message}"
        notes.append(Note(not good, name, "Observe", text, condition.type))
    return notes


def _is_of_ready(
    condition: Condition, before: QueueBacklogPolicyStatus, after: QueueBacklogPolicyStatus
) -> bool:
    """Whether it is a consequence of what Ready says, now or already before."""
    ready, old = after.condition(READY), before.condition(READY)
    if ready is None or ready.status == "True" or condition.status == "True":
        return False
    if old is None or old.status == "True":  # Ready has its Event in this pass
        return condition.status == "Unknown" or condition.reason == ready.reason
    return condition.reason == ready.reason == old.reason
