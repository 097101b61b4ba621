"""What was seen of a producer that can be paused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from starforge_backlog.api.server_place import ServerPlace


class FlagValue(StrEnum):
    """What a pausable producer says of itself."""

    RUNNING = "Running"
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class ProducerReading:
    """A producer's own state, e.g. a row of `feature_flags`."""

    value: FlagValue
    token: str | None  # the ownership token found there; None: nobody's, or not written there
    version: str  # changes with every write (xmin)
    # Paused, but something it should cover runs (a new backfill, rows that arrived since): the
    # pause has to be carried out again.
    leaking: bool = False
    # What a pause would cover, for producers without a place for a token (ids, as JSON text). It is
    # stored with the intent, before the effect (P6).
    plan: str | None = None
    writer: str = ""  # who made it what it is, where that is known: "kubectl-edit", "argocd"
    # Running, and who lifts a pause here leaves its token: where that is gone too, the pause was
    # lost and not lifted.
    leaves_token: bool = False
    # The server behind a Secret, without its login (see `same_server`); None: the spec itself says
    # where it is, or it is not known.
    where: ServerPlace | None = None
    note: str = ""  # what a person should know or do, whatever is paused
    # Where the mark at its place says what was there before the pause: that, as JSON text.
    previous: str | None = None
    # How a person releases what is paused here, for a pause of which status has no record.
    release: str = ""
