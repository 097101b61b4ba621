"""Producers that are kept from pass to pass, each with one reading for all policies that name it at
the same moment (P7)."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from typing import Final

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.connections.kept import Kept
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.decide.results import Paused, Resumed
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown

# Younger readings are shared by the policies that run at the same moment (see scheduler.py): most
# of them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR: Final = timedelta(seconds=1)


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


class KeptProducers(Kept):
    """The producers behind one connection. The place is a producer's part of the spec."""

    def shared(self, place: Hashable, make: Callable[[], Pausable]) -> SharedProducer:
        """A producer that reads the same for all policies."""
        return self.get(place, lambda: SharedProducer(make(), SHARED_FOR))
