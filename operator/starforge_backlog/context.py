"""The rooms of the process, made in one place and closed in reverse: what a pass works with."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.bugs import Bugs
from starforge_backlog.clock import Clock
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.guard_watch import GuardWatches
from starforge_backlog.cluster.scale import ReplicaWriter
from starforge_backlog.cluster.secrets import SecretReader
from starforge_backlog.cluster.status import StatusWriter
from starforge_backlog.cluster.workload import WorkloadReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import ConsoleHub
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.lane import SlowLane
from starforge_backlog.ledger import Ledger
from starforge_backlog.producers.rooms import ProducerRooms
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.rooms import QueueRooms
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.report.events import EventPoster
from starforge_backlog.report.health import Health
from starforge_backlog.report.metrics import Metrics
from starforge_backlog.targets import Targets


@dataclass(frozen=True, slots=True)
class Rooms:
    """One room per outside system, and the memory that policies share."""

    clock: Clock
    client: ClusterClient
    secrets: SecretReader
    workloads: WorkloadReader
    replicas: ReplicaWriter
    autoscalers: AutoscalerReader
    maximums: MaximumWriter
    guards: GuardWatches
    statuses: StatusWriter
    databases: DatabaseHub
    poolers: ConsoleHub
    prometheus: PrometheusHub
    redis: RedisHub
    queues: QueueRooms
    http: HttpCaller
    producers: ProducerRooms
    ledger: Ledger
    lane: SlowLane
    targets: Targets
    events: EventPoster
    metrics: Metrics
    health: Health
    bugs: Bugs

    async def close(self) -> None:
        """Close what holds connections."""
        await self.guards.close()
        await self.http.close()
        await self.redis.close()
        await self.prometheus.close()
        await self.poolers.close()
        await self.databases.close()
        await self.client.close()
