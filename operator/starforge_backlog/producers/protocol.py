"""What every way to pause a producer promises, whatever stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown


class PauseOutcome(StrEnum):
    """What a pause found and did."""

    PAUSED = "Paused"  # by us, now
    ALREADY_OURS = "AlreadyOurs"  # a write of ours before a crash: carry on as if just done
    ALREADY_PAUSED = "AlreadyPaused"  # by somebody else: not ours to resume, ever
    ROW_MISSING = "RowMissing"  # nothing was paused: loud
    BAD_SHAPE = "BadShape"  # nothing was paused: loud


class ResumeOutcome(StrEnum):
    """What a resume found and did."""

    RESUMED = "Resumed"
    PARTLY = "Partly"  # a bounded batch was released; the next pass goes on under the same token
    NOT_PAUSED = "NotPaused"  # somebody resumed it already
    NOT_OURS = "NotOurs"  # another token stands there
    CHANGED_SINCE = "ChangedSince"  # token ours, version not: somebody wrote over it; ask a human
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


class Pausable(Protocol):
    """One producer that can be paused. Expected faults come back as `Unknown`, not exceptions."""

    async def read(self) -> Reading[ProducerReading]:
        """Its own state now."""

    async def where(self) -> ServerPlace | Unknown | None:
        """The server that the Secret leads to, without its login (decide/pauses/); None
        where the spec itself says where the producer is."""

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Pause it unless somebody else did. Idempotent for one token.

        `why` is for people who find the pause. `plan` is the reading's `plan` as the intent stored
        it: nothing beyond it may be paused under this token.
        """

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Resume it only if token and version are still ours. Idempotent."""
