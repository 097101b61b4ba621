"""What became of an action: values that adapters return and rules remember by. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.decide.plan import Action
from starforge_backlog.snapshot import Why


class PauseOutcome(StrEnum):
    """What a pause found and did."""

    PAUSED = "Paused"  # by us, now
    ALREADY_OURS = "AlreadyOurs"  # a write of ours before a crash: carry on as if just done
    ALREADY_PAUSED = "AlreadyPaused"  # by another client: not ours to resume, ever
    ROW_MISSING = "RowMissing"  # nothing was paused: loud
    BAD_SHAPE = "BadShape"  # nothing was paused: loud


class ResumeOutcome(StrEnum):
    """What a resume found and did."""

    RESUMED = "Resumed"
    PARTLY = "Partly"  # a bounded batch was released; the next pass goes on under the same token
    NOT_PAUSED = "NotPaused"  # another client resumed it already
    NOT_OURS = "NotOurs"  # another token stands there
    CHANGED_SINCE = (
        "ChangedSince"  # token ours, version not: another client wrote over it; ask a human
    )
    ROW_MISSING = "RowMissing"
    BAD_SHAPE = "BadShape"


@dataclass(frozen=True, slots=True)
class Paused:
    """Result of a pause. `version` and `previous` are stored in status for the resume."""

    outcome: PauseOutcome
    version: str = ""
    previous: str | None = None  # JSON text of the value before; None: the key was absent
    message: str = ""
    # False: a bounded batch was done and more is left; the next pass pauses again, same token.
    complete: bool = True
    where: ServerPlace | None = None  # the server at which it was paused, see `Pausable.where`


@dataclass(frozen=True, slots=True)
class Resumed:
    """Result of a resume."""

    outcome: ResumeOutcome
    message: str = ""


class MaximumOutcome(StrEnum):
    """What became of a write."""

    WRITTEN = "Written"
    CHANGED = "Changed"  # it is not what was decided from; the next pass reads it again
    NOT_OURS = "NotOurs"  # another client wrote the maximum since, or took our mark away
    GONE = "Gone"  # the object does not exist any more


@dataclass(frozen=True, slots=True)
class MaximumResult:
    """A write's outcome. `maximum` is what the object has now, as far as it was seen."""

    outcome: MaximumOutcome
    maximum: int | None = None
    message: str = ""


class NotDone(StrEnum):
    """Why an action was not carried out although everything could be reached."""

    UNRECORDED = "PausedWithoutRecord"  # nothing proves that the pause there is ours
    ELSEWHERE = "AnotherServer"  # the Secret leads away from where the pause was made
    CONFLICT = "Conflict"  # another client wrote at the same moment; the next pass reads it again


# Reasons of a failed write that leave open whether it happened, or that pass by themselves.
MAYBE: Final[frozenset[Why | NotDone]] = frozenset({NotDone.CONFLICT, Why.TIMEOUT, Why.UNREACHABLE})


@dataclass(frozen=True, slots=True)
class Written:
    """Replicas were written."""

    replicas: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The action was not carried out, or it is not known whether it was."""

    reason: Why | NotDone
    message: str


Got = Paused | Resumed | Written | MaximumResult | Failed
"""What became of one action."""


@dataclass(frozen=True, slots=True)
class Result:
    """One action and what became of it."""

    action: Action
    got: Got

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
