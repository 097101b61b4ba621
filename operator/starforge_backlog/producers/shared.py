"""One reading of a producer for all policies that name it at the same moment (P7)."""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.decide.results import Paused, Resumed
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown


class SharedProducer:
    """A `Pausable` whose readings are shared while they are young.

    A write of ours makes all earlier readings old, also one that is under way: the pass that
    follows a pause must not see the time before it and take that for another client's resume.
    """

    def __init__(self, producer: Pausable, max_age: timedelta) -> None:
        self._producer = producer
        self._shared = SharedAnswer(producer.read, max_age)

    async def read(self) -> Reading[ProducerReading]:
        """Its state, as read within the last moments."""
        return await self._shared.get()

    async def where(self) -> ServerPlace | Unknown | None:
        """See `Pausable.where`."""
        return await self._producer.where()

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """See `Pausable.pause`."""
        try:
            return await self._producer.pause(owner=owner, token=token, at=at, why=why, plan=plan)
        finally:
            self._shared.forget()

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """See `Pausable.resume`."""
        try:
            return await self._producer.resume(token=token, version=version, previous=previous)
        finally:
            self._shared.forget()
