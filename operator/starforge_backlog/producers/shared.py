"""One reading of a producer for all policies that name it at the same moment (P7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.decide.results import Paused, Resumed
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.shared_tasks import await_shared
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown

T = TypeVar("T")


class SharedReading(Generic[T]):
    """One reading for all who ask while it is young."""

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]], max_age: timedelta) -> None:
        self._read = read
        self._max_age = max_age.total_seconds()
        self._last: asyncio.Task[T] | None = None
        self._asked_at = asyncio.get_running_loop().time()
        self._not_before = 0.0  # loop time

    def idle_since(self) -> float:
        """Loop time of the last read."""
        return self._asked_at

    def rest(self, seconds: float) -> None:
        """The last reading was dear: it lasts this long, unless it is forgotten."""
        self._not_before = asyncio.get_running_loop().time() + seconds

    async def read(self) -> T:
        """The state, as read within the last moments."""
        now = asyncio.get_running_loop().time()
        old = now - self._asked_at > self._max_age and now >= self._not_before
        if self._last is None or self._last.cancelled() or (self._last.done() and old):
            self._last = asyncio.create_task(self._read())
            self._asked_at = now
        # One pass that runs out of time must not cancel what the others wait for.
        return await await_shared(self._last)

    def forget(self) -> None:
        """Something was written: all earlier readings are old, also one that is under way."""
        self._last = None


class SharedProducer:
    """A `Pausable` whose readings are shared while they are young.

    A write of ours makes all earlier readings old, also one that is under way: the pass that
    follows a pause must not see the time before it and take that for somebody's resume.
    """

    def __init__(self, producer: Pausable, max_age: timedelta) -> None:
        self._producer = producer
        self._shared = SharedReading(producer.read, max_age)

    def idle_since(self) -> float:
        """Loop time of the last read."""
        return self._shared.idle_since()

    async def read(self) -> Reading[ProducerReading]:
        """Its state, as read within the last moments."""
        return await self._shared.read()

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
