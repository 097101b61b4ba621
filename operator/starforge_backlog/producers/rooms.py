"""From a producer in a spec (or a place in a status) to the thing that can be paused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from datetime import timedelta

from starforge_backlog.access import Access
from starforge_backlog.api.policy import FeatureFlag, Producer
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.producers.shared import SharedProducer
from starforge_backlog.snapshot import Unknown, Why

# Younger readings are shared by the policies that run at the same moment (see passes.py): most of
# them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR = timedelta(seconds=1)
# A producer that nobody asked for this long is forgotten: its policies are gone or were changed.
FORGET_AFTER = timedelta(minutes=30)


class ProducerRooms:
    """What is shared between policies: one reading per producer and server, gone with it."""

    def __init__(self, databases: DatabaseHub, clock: Clock) -> None:
        self._databases = databases
        self._clock = clock

    async def find(self, producer: Producer, access: Access) -> Pausable | Unknown:
        """The one way that the spec names; the schema has seen to it that there is exactly one."""
        if producer.in_database:
            opened = await access.database()
            if isinstance(opened, Unknown):
                return opened
            return self._in_database(producer, opened[1])
        message = "this way to pause is not known to this version of the operator"
        return Unknown(Why.NOT_CONFIGURED, message, self._clock())

    def _in_database(self, producer: Producer, database: Database) -> Pausable | Unknown:
        kept = self._databases.attached(database, _Kept, _Kept)
        match producer.way[1]:
            case FeatureFlag() as flag:
                return kept.get(flag, lambda: FeatureFlagProducer(database, flag, self._clock))
            case _:
                message = "this way to pause is not known to this version of the operator"
                return Unknown(Why.NOT_CONFIGURED, message, self._clock())


class _Kept:
    """The producers of one server, each with the readings that its policies share."""

    def __init__(self) -> None:
        self._shared: dict[Hashable, SharedProducer] = {}

    def get(self, place: Hashable, make: Callable[[], Pausable]) -> SharedProducer:
        """The shared reading of a producer at its place."""
        if place not in self._shared:
            oldest = asyncio.get_running_loop().time() - FORGET_AFTER.total_seconds()
            for idle in [p for p, one in self._shared.items() if one.idle_since() < oldest]:
                del self._shared[idle]
            self._shared[place] = SharedProducer(make(), SHARED_FOR)
        return self._shared[place]
