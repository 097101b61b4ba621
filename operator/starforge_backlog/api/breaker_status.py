"""`status.breakers` and `status.paused`: what is open, what is paused, and by whom."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, Field

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import KEPT, PARAGRAPH, REMEMBERED, SENTENCE, Shown
from starforge_backlog.api.breaker import MOST_NAMES, MOST_RULES
from starforge_backlog.api.terms import CONTACT_LENGTH, LABEL_LENGTH, Schema, replaced

# A token of a policy has some 130; a person may have written anything.
FOREIGN_TOKEN_CHARACTERS = 500


class RuleStatus(StatusModel):
    """One trip rule's memory."""

    signal: Annotated[str, KEPT]
    """The rule's signal with its value, for example waiting>=5000."""

    exceeded_since: AwareDatetime | None = None
    """Since when the signal is above its value."""

    unknown_since: AwareDatetime | None = None
    """Since when there is no reading; a gap does not count as sustained."""

    recovered_since: AwareDatetime | None = None
    """Since when the signal is below the value to recover."""


class BreakerState(StrEnum):
    """closed → open → half-open → closed."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class BreakerStatus(StatusModel):
    """A breaker's state and why."""

    name: Annotated[str, KEPT]
    """The breaker's name in spec.breakers."""

    state: BreakerState = BreakerState.CLOSED
    """Closed: producers run. Open: they are paused. HalfOpen: they run, and the rules decide
    whether they keep running.
    """

    since: AwareDatetime | None = None
    """Since when it is in this state."""

    message: Annotated[str, Shown(SENTENCE)] = ""
    """What led to this state, with the numbers."""

    owners: Annotated[
        tuple[str, ...], Shown(CONTACT_LENGTH, items=MOST_NAMES), replaced(MOST_NAMES)
    ] = ()
    """Whom it concerns, from spec.owners; named while it is not closed."""

    trips: int = 0
    """Openings without a calm time between them; the next probe waits longer."""

    seen_at: Annotated[AwareDatetime | None, REMEMBERED] = None
    """While a time runs that opens it or lets it probe: when its rules were last evaluated, to
    half a minute. Time that was not evaluated does not count."""

    rules: Annotated[
        tuple[RuleStatus, ...], Shown(items=MOST_RULES), replaced(MOST_RULES), REMEMBERED
    ] = ()
    """Memory of each trip rule, in the order of the spec."""


class PausedBy(StrEnum):
    """Whose pause it is."""

    US = "Us"
    OTHER = "Other"


class PauseState(StrEnum):
    """Where a pause is between intent and release."""

    INTENDED = "Intended"  # the token is in status; the write may or may not have happened
    HELD = "Held"  # we paused it, verified by the row version
    FOREIGN = "Foreign"  # another client paused it; it stays theirs (P4)
    CHANGED = "Changed"  # another client wrote over our pause; a person must resume it
    OVERRIDDEN = "Overridden"  # another client resumed it while we wanted it paused; respected
    UNRECORDED = "Unrecorded"  # paused by us, and the memory of it is gone; a person must resume it
    REFUSED = "Refused"  # row missing or bad shape: the producer is NOT paused


class PauseProgress(StrEnum):
    """How much of a pause is done. Only what is paused in parts is ever partial or resuming, and
    only what can be lost as a whole is renewed."""

    COMPLETE = "Complete"
    PARTIAL = "Partial"
    RESUMING = "Resuming"
    RENEWED = "Renewed"

    @property
    def is_whole(self) -> bool:
        """Whether the operator has paused all of it."""
        return self in {PauseProgress.COMPLETE, PauseProgress.RENEWED}


# Behind the name of a producer: when the pause was made that is at its former place.
FORMER: Final = "@"
FORMER_LENGTH: Final = len("@2026-01-01T00:00:00Z")


class PauseStatus(StatusModel):
    """A producer that is paused, by the operator or by another client."""

    producer: Annotated[str, KEPT, Schema({"maxLength": LABEL_LENGTH + FORMER_LENGTH})]
    """The producer's name in spec.producers. With an @ and a time behind it: a pause of that time
    at a place that the spec no longer names, which is being released."""

    by: PausedBy
    """Us or Other. What others paused is never resumed by the operator."""

    state: PauseState
    """Intended: about to be written. Held: paused by the operator. Foreign: paused by another
    client. Changed: another client overwrote the operator's pause, a person must resume it.
    Overridden: another client resumed it, which is respected. Unrecorded: the operator paused it
    and status.memory has no record of that, a person must resume it. Refused: what would hold the
    pause is missing or has a bad shape (for example a flag's row), so the producer is NOT
    paused."""

    since: AwareDatetime
    """Since when."""

    breaker: Annotated[str, KEPT] = ""
    """The breaker that asked for it."""

    token: Annotated[str, KEPT, REMEMBERED] = ""
    """Proves that the pause is the operator's; stored here before it is written to the producer."""

    foreign_token: Annotated[str, Shown(FOREIGN_TOKEN_CHARACTERS)] = ""
    """Foreign: the ownership token that the producer has. If it is another policy's and is
    removed, the operator sets a pause that is still wanted."""

    version: Annotated[str, KEPT, REMEMBERED] = ""
    """The producer's version right after the operator's write, for example of a row."""

    previous: Annotated[str | None, KEPT, REMEMBERED] = None
    """JSON text of what a resume puts back: the value before; for a backfill the rows that are
    paused, for job types what was moved. Absent: there was no value."""

    progress: PauseProgress = PauseProgress.COMPLETE
    """Complete: the whole of it is paused. Partial: it was paused in a bounded batch and more of
    it runs; the next pass continues. Resuming: a part of it was resumed already; the next pass
    continues with the rest. Renewed: complete, but it was lost, for example in a failover of Redis,
    and set again; lost once more, it counts as resumed by another client."""

    locator: Annotated[dict[str, str], KEPT, REMEMBERED] = Field(default_factory=dict)
    """Where the pause is, so that it is released even when the spec has forgotten the producer."""

    server: Annotated[str, KEPT, REMEMBERED] = ""
    """The server behind the Secret at which the pause was made, without its login. Another one that
    knows nothing of the pause is no proof that it was released."""

    arrivals_before: Annotated[float | None, REMEMBERED] = None
    """Jobs per second that arrived before the pause, to verify its effect."""

    message: Annotated[str, Shown(PARAGRAPH)] = ""
    """What a person should know or do."""

    failed: Annotated[bool, REMEMBERED] = False
    """Whether the last write failed. What failed is tried after everything else."""
