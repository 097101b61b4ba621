"""What became of a plan, and how it changes what is remembered. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from starforge_backlog.api.policy import Producer, QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    GuardStatus,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.cluster.autoscalers_write import MaximumResult
from starforge_backlog.decide.pauses.server_identity import stored
from starforge_backlog.decide.plan import Action, Pause, Resume, ScaleTo, SetMaximum
from starforge_backlog.producers.protocol import Paused, PauseOutcome, Resumed, ResumeOutcome
from starforge_backlog.snapshot import Why


class NotDone(StrEnum):
    """Why an action was not carried out although everything could be reached."""

    ELSEWHERE = "AnotherServer"  # the Secret leads away from where the pause was made
    CONFLICT = "Conflict"  # somebody else wrote at the same moment; the next pass looks again


# Reasons of a failed write that leave open whether it happened, or that pass by themselves.
MAYBE: Final[frozenset[Why | NotDone]] = frozenset({NotDone.CONFLICT, Why.TIMEOUT, Why.UNREACHABLE})
# Something of it runs again: the observation window of the next release begins.
_RELEASING = frozenset({ResumeOutcome.RESUMED, ResumeOutcome.PARTLY})


@dataclass(frozen=True, slots=True)
class Written:
    """Replicas were written."""

    replicas: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The action was not carried out, or it is not known whether it was."""

    reason: Why | NotDone
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """One action and what became of it."""

    action: Action
    got: Paused | Resumed | Written | MaximumResult | Failed

    @property
    def ok(self) -> bool:
        """Whether the actions after it may go on."""
        match self.got:
            case Failed():
                return False
            case Paused(outcome):
                return outcome not in {PauseOutcome.ROW_MISSING, PauseOutcome.BAD_SHAPE}
            case _:
                return True


def merge(
    status: QueueBacklogPolicyStatus, results: tuple[Result, ...], now: datetime
) -> QueueBacklogPolicyStatus:
    """The status after acting: what was intended became held, refused or gone."""
    for result in results:
        match result:
            case Result(Pause(producer), got):
                status = _paused_entry(status, producer, got)
            case Result(Resume(held), got):
                status = _paused_entry(status, held.producer, got)
                if isinstance(got, Resumed) and got.outcome in _RELEASING:
                    status = status.model_copy(update={"released_at": now})
            case Result(ScaleTo(), Written(replicas)):
                scaling = status.scaling.model_copy(
                    update={"applied_replicas": replicas, "replicas": replicas}
                )
                status = status.model_copy(update={"scaling": scaling})
            case Result(ScaleTo(), Failed(reason)) if reason not in MAYBE:
                # Refused for good: asked again after a window, not with every pass.
                scaling = status.scaling.model_copy(update={"last_step": None})
                status = status.model_copy(update={"scaling": scaling})
            case Result(SetMaximum() as step, got):
                guard = _guarded(step, got)
                scaling = status.scaling.model_copy(update={"guard": guard})
                status = status.model_copy(update={"scaling": scaling})
            case _:
                pass  # a scale that may have happened: the next pass sees whether it did
    return status


def _guarded(
    step: SetMaximum, got: Paused | Resumed | Written | MaximumResult | Failed
) -> GuardStatus | None:
    """What is remembered of an autoscaler after a write of its maximum."""
    match got:
        case MaximumResult(maximum=maximum) if step.restore:
            # The object says no more of us; where we guard it still, the next pass looks.
            return step.guard.model_copy(update={"token": "", "previous": None, "maximum": maximum})
        case _ if step.follows:
            return step.guard  # KEDA's own autoscaler: the guarded object is as it was
        case Failed(reason) if reason not in MAYBE and not step.restore:
            # Refused: what stands there still has to be given back one day, if it is ours.
            return step.guard.model_copy(update={"maximum": None})
        case _:
            return step.guard


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
    if held.resuming and resumed.outcome is ResumeOutcome.NOT_PAUSED:
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


def _paused_entry(
    status: QueueBacklogPolicyStatus,
    producer: str,
    got: Paused | Resumed | Written | MaximumResult | Failed,
) -> QueueBacklogPolicyStatus:
    """The entry of one producer after a pause or a resume; None drops it."""

    def after(entry: PauseStatus) -> PauseStatus | None:
        match got:
            case Paused():
                return _after_pause(entry, got)
            case Resumed():
                return _after_resume(entry, got)
            case Failed(reason, message):
                return _after_failure(entry, reason, message)
            case Written() | MaximumResult():
                return entry

    changed = [after(e) if e.producer == producer else e for e in status.paused]
    return status.model_copy(update={"paused": tuple(e for e in changed if e is not None)})


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
                "by": "us",
                "version": paused.version,
                # Without one it is as the intent stored it: nothing of a plan is ever lost.
                "previous": entry.previous if paused.previous is None else paused.previous,
                "message": paused.message,
                "complete": paused.complete,
                "resuming": False,
                "where": stored(paused.where) or entry.where,
            }
        case PauseOutcome.ALREADY_PAUSED if entry.state is PauseState.HELD:
            # Carried on, and the rest was paused by others meanwhile. What is ours stays ours.
            update = {"complete": True, "resuming": False, "message": paused.message}
        case PauseOutcome.ALREADY_PAUSED:
            update = {
                "state": PauseState.FOREIGN,
                "by": "other",
                "message": paused.message or "somebody else paused it before; it stays theirs",
            }
        case PauseOutcome.ROW_MISSING | PauseOutcome.BAD_SHAPE if entry.state is PauseState.HELD:
            # More of it cannot be paused. What is ours has to be released all the same.
            return entry.model_copy(update={"message": paused.message, "failed": True})
        case PauseOutcome.ROW_MISSING | PauseOutcome.BAD_SHAPE:
            update = {"state": PauseState.REFUSED, "message": paused.message}
    return entry.model_copy(update={"failed": False, **update})


def _after_resume(entry: PauseStatus, resumed: Resumed) -> PauseStatus | None:
    update: dict[str, object]
    match resumed.outcome:
        case ResumeOutcome.RESUMED | ResumeOutcome.NOT_PAUSED | ResumeOutcome.ROW_MISSING:
            return None
        case ResumeOutcome.PARTLY:
            update = {"resuming": True, "message": resumed.message}
        case ResumeOutcome.NOT_OURS:
            update = {"state": PauseState.FOREIGN, "by": "other", "message": resumed.message}
        case ResumeOutcome.CHANGED_SINCE | ResumeOutcome.BAD_SHAPE:
            update = {"state": PauseState.CHANGED, "message": resumed.message}
    return entry.model_copy(update={"failed": False, **update})
