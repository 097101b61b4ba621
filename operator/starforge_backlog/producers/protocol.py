"""What every way to pause a producer promises, whatever stands behind it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from starforge_backlog.api.server_place import ServerPlace
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
