"""From a producer in a spec (or a place in a status) to the thing that can be paused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Protocol, TypeVar, cast

from starforge_backlog.access import Access
from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.pausing import BackfillJobs, JobTypes
from starforge_backlog.api.policy import FeatureFlag, Producer
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.producers.backfill_jobs import BackfillJobsProducer
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.holder import Holder
from starforge_backlog.producers.job_types import JobTypesProducer
from starforge_backlog.producers.protocol import Pausable
from starforge_backlog.producers.shared import SharedProducer
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Unknown, Why

# Younger readings are shared by the policies that run at the same moment (see passes.py): most of
# them pause the same flag, and 200 statements for one row kept the others waiting for a second.
SHARED_FOR = timedelta(seconds=1)
# A producer that nobody asked for this long is forgotten: its policies are gone or were changed.
FORGET_AFTER = timedelta(minutes=30)


class ProducerRooms:
    """What is shared between policies: one reading per producer and server, gone with it."""

    def __init__(self, databases: DatabaseHub, redis: RedisHub, clock: Clock) -> None:
        self._databases = databases
        self._redis = redis
        self._clock = clock

    async def find(self, producer: Producer, access: Access, holder: Holder) -> Pausable | Unknown:
        """The one way that the spec names; the schema has seen to it that there is exactly one.

        `holder` is the policy that asks and its entry in status: rows of a table have no place for
        a token, so whose pause it is is told from both.
        """
        if producer.in_database:
            opened = await access.database()
            if isinstance(opened, Unknown):
                return opened
            return self._in_database(producer, opened[1], holder)
        if producer.queue is not None:
            return await self._brake(producer.queue, access)
        message = "this way to pause is not known to this version of the operator"
        return Unknown(Why.NOT_CONFIGURED, message, self._clock())

    async def _brake(self, queue: BullmqQueue, access: Access) -> Pausable | Unknown:
        server = await access.redis(self._redis, queue.url, queue.tls)
        if isinstance(server, Unknown):
            return server
        kept = self._redis.attached(server, _Kept, _Kept)
        return kept.shared(queue, lambda: BrakeProducer(server, queue, self._clock))

    def _in_database(
        self, producer: Producer, database: Database, holder: Holder
    ) -> Pausable | Unknown:
        kept = self._databases.attached(database, _Kept, _Kept)
        match producer.way[1]:
            case FeatureFlag() as flag:
                return kept.shared(flag, lambda: FeatureFlagProducer(database, flag, self._clock))
            case BackfillJobs() as jobs:
                return kept.get(
                    jobs,
                    lambda: BackfillJobsProducer(
                        database, jobs, self._clock, shared_for=SHARED_FOR
                    ),
                ).held_by(holder)
            case JobTypes() as types:
                return kept.get(
                    types,
                    lambda: JobTypesProducer(database, types, self._clock, shared_for=SHARED_FOR),
                ).held_by(holder)
            case _:
                message = "this way to pause is not known to this version of the operator"
                return Unknown(Why.NOT_CONFIGURED, message, self._clock())


class _Keepable(Protocol):
    """What is kept beside a server's connection."""

    def idle_since(self) -> float:
        """Loop time of the last question."""


K = TypeVar("K", bound=_Keepable)


class _Kept:
    """The producers of one server, each with the readings that its policies share."""

    def __init__(self) -> None:
        self._producers: dict[Hashable, _Keepable] = {}

    def shared(self, place: Hashable, make: Callable[[], Pausable]) -> SharedProducer:
        """A producer that looks the same to all policies."""
        return self.get(place, lambda: SharedProducer(make(), SHARED_FOR))

    def get(self, place: Hashable, make: Callable[[], K]) -> K:
        """The one producer at a place. `place` is its part of the spec, so it tells the kind."""
        found = self._producers.get(place)
        if found is None:
            oldest = asyncio.get_running_loop().time() - FORGET_AFTER.total_seconds()
            for idle in [p for p, one in self._producers.items() if one.idle_since() < oldest]:
                del self._producers[idle]
            found = self._producers[place] = make()
        return cast("K", found)
