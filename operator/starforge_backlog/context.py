"""The services of the process, made in one place and closed in reverse: what a pass works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.guard_watch import GuardWatches
from starforge_backlog.cluster.scale import ReplicaWriter
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.cluster.status import StatusWriter
from starforge_backlog.cluster.workload import WorkloadReader
from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.coordination.target_election import TargetElection
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import ConsoleHub
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.isolation import FaultIsolation
from starforge_backlog.producers.adapters import ProducerAdapters
from starforge_backlog.producers.outside import OutsideAdapters
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.adapters import QueueAdapters
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.report.events import EventPoster
from starforge_backlog.report.health import Health
from starforge_backlog.report.metrics import Metrics
from starforge_backlog.report.status_writes import StatusWriteReport
from starforge_backlog.slow_passes import SlowPassPacer


@dataclass(frozen=True, slots=True)
class Services:
    """One adapter per outside system, and the memory that policies share."""

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
    queues: QueueAdapters
    http: HttpCaller
    producers: ProducerAdapters
    ledger: ConnectionLedger
    slow_passes: SlowPassPacer
    targets: TargetElection
    events: EventPoster
    metrics: Metrics
    health: Health
    isolation: FaultIsolation

    @classmethod
    async def open(cls, environ: Mapping[str, str], instance: str) -> Services:
        """Make them; connections are opened when they are needed. `instance` is who we are in
        Events. Raises NoCluster."""
        metrics = Metrics()
        client = await ClusterClient.connect(environ, observer=metrics.request)
        store, databases, redis = KeyValueStore(client), DatabaseHub(), RedisHub()
        prometheus, http = PrometheusHub(), HttpCaller()
        events = EventPoster(client, instance=instance, count=metrics.event)
        return cls(
            clock=utc_now,
            client=client,
            secrets=SecretReader(store),
            workloads=WorkloadReader(client, store),
            replicas=ReplicaWriter(client),
            autoscalers=AutoscalerReader(client),
            maximums=MaximumWriter(client),
            guards=GuardWatches(client),
            statuses=StatusWriter(client, StatusWriteReport(events, metrics), utc_now),
            databases=databases,
            poolers=ConsoleHub(),
            prometheus=prometheus,
            redis=redis,
            queues=QueueAdapters(databases, prometheus, redis, utc_now),
            http=http,
            producers=ProducerAdapters(
                databases, redis, OutsideAdapters(client, http, utc_now), utc_now
            ),
            ledger=ConnectionLedger(),
            slow_passes=SlowPassPacer(),
            targets=TargetElection(),
            events=events,
            metrics=metrics,
            health=Health(),
            isolation=FaultIsolation(utc_now, metrics.error),
        )

    async def close(self) -> None:
        """Close what holds connections."""
        await self.guards.close()
        await self.http.close()
        await self.redis.close()
        await self.prometheus.close()
        await self.poolers.close()
        await self.databases.close()
        await self.client.close()
