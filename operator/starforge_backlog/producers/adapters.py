"""From a producer in a spec (or a place in a status) to the thing that can be paused."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.pausing import BackfillJobs, JobTypes
from starforge_backlog.api.policy import FeatureFlag, Producer
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.producers.backfill_jobs import HeldBackfills
from starforge_backlog.producers.backfill_jobs_table import BackfillJobsTable
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.job_types import HeldTypes
from starforge_backlog.producers.job_types_table import JobTypesTable
from starforge_backlog.producers.outside import OutsideAdapters
from starforge_backlog.producers.protocol import Holder, Pausable
from starforge_backlog.producers.shared import SHARED_FOR, KeptProducers
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Unknown, Why


@dataclass(frozen=True, slots=True)
class ProducerAdapters:
    """What is shared between policies: one reading per producer and server, gone with it."""

    databases: DatabaseHub
    redis: RedisHub
    outside: OutsideAdapters
    clock: Clock

    async def find(
        self, producer: Producer, access: PolicyAccess, holder: Holder
    ) -> Pausable | Unknown:
        """The one way that the spec names; the schema has seen to it that there is exactly one.

        `holder` is the policy that asks and its entry in status: rows of a table have no place for
        a token, so both together show whose pause it is.
        """
        if producer.in_database:
            opened = await access.database()
            if isinstance(opened, Unknown):
                return opened
            return self._in_database(producer, opened[1], holder)
        if producer.queue is not None:
            return await self._brake(producer.queue, access)
        return await self.outside.find(producer, access, holder)

    async def _brake(self, queue: BullmqQueue, access: PolicyAccess) -> Pausable | Unknown:
        server = await access.redis(self.redis, queue.url, queue.tls)
        if isinstance(server, Unknown):
            return server
        kept = self.redis.attached(server, KeptProducers, KeptProducers)
        return kept.shared(queue, lambda: BrakeProducer(server, queue, self.clock))

    def _in_database(
        self, producer: Producer, database: Database, holder: Holder
    ) -> Pausable | Unknown:
        kept = self.databases.attached(database, KeptProducers, KeptProducers)
        match producer.way[1]:
            case FeatureFlag() as flag:
                return kept.shared(flag, lambda: FeatureFlagProducer(database, flag, self.clock))
            case BackfillJobs() as jobs:
                backfills = kept.get(
                    jobs,
                    lambda: BackfillJobsTable(database, jobs, self.clock, shared_for=SHARED_FOR),
                )
                return HeldBackfills(backfills, holder)
            case JobTypes() as types:
                table = kept.get(
                    types,
                    lambda: JobTypesTable(database, types, self.clock, shared_for=SHARED_FOR),
                )
                return HeldTypes(table, holder)
            case _:
                message = "this way to pause is not known to this version of the operator"
                return Unknown(Why.NOT_CONFIGURED, message, self.clock())
