"""What every way to pause a producer promises, whatever stands behind it; and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.api.status import PauseStatus
from starforge_backlog.decide.results import Paused, Resumed
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown


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
        """Pause it unless another client did. Idempotent for one token.

        `why` is for people who find the pause. `plan` is the reading's `plan` as the intent stored
        it: nothing beyond it may be paused under this token.
        """

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Resume it only if token and version are still ours. Idempotent."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks, where rows have no place for a token: one policy, and its entry for the producer in
    status; None: it has none."""

    owner: str  # the first part of its tokens: the policy's uid
    producer: str
    entry: PauseStatus | None = None

    @property
    def name(self) -> str:
        """Owner and producer as they stand in a token, also after the producer was renamed."""
        if self.entry is not None and self.entry.token:
            return named_in(self.entry.token)
        return f"{self.owner}/{self.producer}"


def named_in(token: str) -> str:
    """Owner and producer: what two pauses by one policy of one producer have in common."""
    return token.rpartition("/")[0]
