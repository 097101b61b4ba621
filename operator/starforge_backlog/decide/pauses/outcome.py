"""How the result of a pause or a resume changes its entry (`pausing.py` decided it). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starforge_backlog.api.policy import Producer, QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.pauses.server_identity import stored
from starforge_backlog.decide.plan import Action, Pause
from starforge_backlog.decide.results import (
    MAYBE,
    Failed,
    Got,
    MaximumResult,
    NotDone,
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
    Written,
)
from starforge_backlog.snapshot import Why

# Something of it runs again: the observation window of the next release begins.
RELEASING: Final = frozenset({ResumeOutcome.RESUMED, ResumeOutcome.PARTLY})


def locate(
    status: QueueBacklogPolicyStatus, spec: QueueBacklogPolicySpec, actions: Iterable[Action] = ()
) -> QueueBacklogPolicyStatus:
    """Note with each pause where it is made, for the day the spec forgets it.

    One that was refused names the place that the spec corrects meanwhile: its next pause is made at
    the new one. A pause that is held stays where it is.
    """
    pausing = {action.producer for action in actions if isinstance(action, Pause)}

    def with_place(entry: PauseStatus) -> PauseStatus:
        producer = spec.producer(entry.producer)
        made_now = entry.producer in pausing and entry.state is not PauseState.HELD
        if producer is None or (entry.locator and not made_now):
            return entry
        return entry.model_copy(update={"locator": spec.locator(producer)})

    return status.model_copy(update={"paused": tuple(with_place(e) for e in status.paused)})


def ended(held: PauseStatus, resumed: Resumed) -> Resumed:
    """A release in parts of which nothing is left was ours, in the passes before: nobody else's."""
    if held.progress is PauseProgress.RESUMING and resumed.outcome is ResumeOutcome.NOT_PAUSED:
        return Resumed(ResumeOutcome.RESUMED)
    return resumed


def entry_of(
    spec: QueueBacklogPolicySpec, producer: Producer, entries: Iterable[PauseStatus]
) -> PauseStatus | None:
    """The entry of a producer: by its name, or by its place when it had another name before."""
    kept = tuple(entries)
    here = spec.locator(producer)
    named = next((entry for entry in kept if entry.producer == producer.name), None)
    return named or next((entry for entry in kept if entry.locator == here), None)


def after_effect(
    entries: tuple[PauseStatus, ...], producer: str, got: Got
) -> tuple[PauseStatus, ...]:
    """The entries after a pause or a resume of one producer; one that is over is dropped."""
    changed = (_after(e, got) if e.producer == producer else e for e in entries)
    return tuple(e for e in changed if e is not None)


def _after(entry: PauseStatus, got: Got) -> PauseStatus | None:
    match got:
        case Paused():
            return _after_pause(entry, got)
        case Resumed():
            return _after_resume(entry, got)
        case Failed(reason, message):
            return _after_failure(entry, reason, message)
        case Written() | MaximumResult():
            return entry


def _after_failure(entry: PauseStatus, reason: Why | NotDone, message: str) -> PauseStatus:
    update: dict[str, object] = {"message": message, "failed": True}
    if entry.state is PauseState.REFUSED and reason in MAYBE:
        update["state"] = PauseState.INTENDED  # this time it may have happened
    return entry.model_copy(update=update)


def _after_pause(entry: PauseStatus, paused: Paused) -> PauseStatus:
    update: dict[str, object]
    match paused.outcome:
        case PauseOutcome.PAUSED | PauseOutcome.ALREADY_OURS:
            update = {
                "state": PauseState.HELD,
                "by": PausedBy.US,
                "version": paused.version,
                # Without one it is as the intent stored it: nothing of a plan is ever lost.
                "previous": entry.previous if paused.previous is None else paused.previous,
                "message": paused.message,
                "progress": _whole(entry) if paused.complete else PauseProgress.PARTIAL,
                "server": stored(paused.where) or entry.server,
            }
        case PauseOutcome.ALREADY_PAUSED if entry.state is PauseState.HELD:
            # Carried on, and the rest was paused by others meanwhile. What is ours stays ours.
            update = {"progress": _whole(entry), "message": paused.message}
        case PauseOutcome.ALREADY_PAUSED:
            update = {
                "state": PauseState.FOREIGN,
                "by": PausedBy.OTHER,
                "message": paused.message
                or "another client paused it before; the operator does not change it",
            }
        case PauseOutcome.ROW_MISSING | PauseOutcome.BAD_SHAPE if entry.state is PauseState.HELD:
            # More of it cannot be paused. What is ours has to be released all the same.
            return entry.model_copy(update={"message": paused.message, "failed": True})
        case PauseOutcome.ROW_MISSING | PauseOutcome.BAD_SHAPE:
            update = {"state": PauseState.REFUSED, "message": paused.message}
    return entry.model_copy(update={"failed": False, **update})


def _whole(entry: PauseStatus) -> PauseProgress:
    """All of it is paused. That it was set again before stays known."""
    renewed = entry.progress is PauseProgress.RENEWED
    return PauseProgress.RENEWED if renewed else PauseProgress.COMPLETE


def _after_resume(entry: PauseStatus, resumed: Resumed) -> PauseStatus | None:
    update: dict[str, object]
    match resumed.outcome:
        case ResumeOutcome.RESUMED | ResumeOutcome.NOT_PAUSED | ResumeOutcome.ROW_MISSING:
            return None
        case ResumeOutcome.PARTLY:
            update = {"progress": PauseProgress.RESUMING, "message": resumed.message}
        case ResumeOutcome.NOT_OURS:
            update = {"state": PauseState.FOREIGN, "by": PausedBy.OTHER, "message": resumed.message}
        case ResumeOutcome.CHANGED_SINCE | ResumeOutcome.BAD_SHAPE:
            update = {"state": PauseState.CHANGED, "message": resumed.message}
    return entry.model_copy(update={"failed": False, **update})
