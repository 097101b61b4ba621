"""All readings of a pass, at once and under one deadline → Snapshot.

A source that is slow or gone delays nobody: its readings are `Unknown` with the reason, the
others stand.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.breaker_status import PauseStatus
from starforge_backlog.api.policy import Producer, Queue
from starforge_backlog.api.prometheus import PrometheusDatabase
from starforge_backlog.clock import Clock
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.secrets import SecretReader
from starforge_backlog.cluster.workload import WorkloadReader
from starforge_backlog.coordination.target_election import TargetElection
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import ConsoleHub, Samples, workers_pools
from starforge_backlog.databases.pgbouncer_pools import Workers
from starforge_backlog.databases.prometheus import ScrapedDatabases
from starforge_backlog.databases.url import ServerKey
from starforge_backlog.decide.pauses.outcome import entry_of
from starforge_backlog.decide.pauses.standing import with_unrecorded
from starforge_backlog.decide.pauses.whose import lacks_record
from starforge_backlog.isolation import FaultIsolation
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.producers.adapters import ProducerAdapters
from starforge_backlog.producers.by_hand import by_hand_without_record
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.prometheus.server import invalidate, resolve
from starforge_backlog.queues.adapters import QueueAdapters
from starforge_backlog.snapshot import (
    Autoscaler,
    DatabaseReading,
    Known,
    PerReplica,
    ProducerReading,
    QueueReading,
    Reading,
    Snapshot,
    Source,
    SourceKind,
    Unknown,
    Why,
    unread,
)

# A pass that waits longer decides about the past. Three statements of 0.8 s fit in it.
LONGEST_WAIT = timedelta(seconds=5)
# ... and a policy of a short interval must be done before its next pass.
PART_OF_INTERVAL = 0.8
# Samples this young are shared by the policies that run at the same moment (see scheduler.py).
SHARED_FOR = timedelta(seconds=1)


class Access(Protocol):
    """What readings and effects both need: what leads to a policy's secrets, its database and its
    producers."""

    @property
    def clock(self) -> Clock: ...

    @property
    def secrets(self) -> SecretReader: ...

    @property
    def databases(self) -> DatabaseHub: ...

    @property
    def producers(self) -> ProducerAdapters: ...

    @property
    def isolation(self) -> FaultIsolation: ...


class Sources(Access, Protocol):
    """Those of the process' services that a pass reads from."""

    @property
    def targets(self) -> TargetElection: ...

    @property
    def workloads(self) -> WorkloadReader: ...

    @property
    def autoscalers(self) -> AutoscalerReader: ...

    @property
    def poolers(self) -> ConsoleHub: ...

    @property
    def prometheus(self) -> PrometheusHub: ...

    @property
    def queues(self) -> QueueAdapters: ...


async def observe(sources: Sources, policy: Policy, entries: tuple[PauseStatus, ...]) -> Snapshot:
    """Read everything the policy names. `entries` are its pauses, as status has them."""
    began = sources.clock()
    rival = sources.targets.ask(policy.body)
    wait = min(policy.spec.interval * PART_OF_INTERVAL, LONGEST_WAIT)
    late = Unknown(Why.TIMEOUT, f"no answer within {format_duration(wait)}", began)
    access = access_of(sources, policy, wait, late)
    deadline, spec = access.deadline, policy.spec
    target = sources.workloads.read(policy.namespace, spec.target)
    autoscaler = sources.autoscalers.read(policy.namespace, spec.target)
    isolated = partial(sources.isolation.run, policy.key)
    (workload, per_replica), scaler, database, samples, queues, producers = await asyncio.gather(
        isolated(
            Source(SourceKind.TARGET), deadline.keep(target, (late, late)), lambda bug: (bug, bug)
        ),
        isolated(Source(SourceKind.AUTOSCALER), deadline.keep(autoscaler, late), _itself),
        isolated(Source(SourceKind.DATABASE), _database(sources, policy, access), _no_database),
        isolated(Source(SourceKind.PGBOUNCER), _console(sources, policy, access), _itself),
        asyncio.gather(
            *(
                isolated(
                    Source(SourceKind.QUEUE, queue.name),
                    _queue(sources, policy, queue, access),
                    unread,
                )
                for queue in spec.queues
            )
        ),
        asyncio.gather(
            *(
                isolated(
                    Source(SourceKind.PRODUCER, p.name),
                    read_producer(sources.producers, policy, p, entries, access),
                    _itself,
                )
                for p in spec.producers
            )
        ),
    )
    reading, login = database
    per_replica = _with_role(policy, per_replica, login)
    direct = reading, per_replica

    async def behind_pooler() -> tuple[DatabaseReading | None, Reading[PerReplica]]:
        return _behind_pooler(policy, *direct, samples, login)

    def unknown_pools(bug: Unknown) -> tuple[DatabaseReading | None, Reading[PerReplica]]:
        return replace(reading, pooler=bug) if reading is not None else None, direct[1]

    pools = Source(SourceKind.PGBOUNCER, "pools")
    reading, per_replica = await isolated(pools, behind_pooler(), unknown_pools)
    return Snapshot(
        taken_at=began,
        workload=workload,
        per_replica=per_replica,
        database=reading,
        queues={queue.name: found for queue, found in zip(spec.queues, queues, strict=True)},
        producers={p.name: found for p, found in zip(spec.producers, producers, strict=True)},
        rival=rival,
        autoscaler=_orphaned(sources, scaler),
    )


def _orphaned(sources: Sources, reading: Reading[Autoscaler | None]) -> Reading[Autoscaler | None]:
    """Whether the policy that marked it is gone: one in the same namespace would be known."""
    if isinstance(reading, Unknown) or reading.value is None or reading.value.token is None:
        return reading
    found = reading.value
    policy = (found.token or "").split("/", 1)[0]
    return replace(reading, value=replace(found, orphan=not sources.targets.knows(policy)))


def _itself(bug: Unknown) -> Unknown:
    return bug


def _no_database(bug: Unknown) -> tuple[DatabaseReading | None, ServerKey | None]:
    return DatabaseReading(bug, bug), None


def access_of(ways: Access, policy: Policy, wait: timedelta, late: Unknown) -> PolicyAccess:
    """The policy's secrets and database, until `wait` from now."""
    database = policy.spec.database
    return PolicyAccess(
        policy=policy.key,
        namespace=policy.namespace,
        database=database.url if database is not None else None,
        tls=database.tls if database is not None else None,
        secrets=ways.secrets,
        databases=ways.databases,
        deadline=Deadline(asyncio.get_running_loop().time() + wait.total_seconds()),
        late=late,
        target=policy.spec.target,
        types=frozenset(b.scope.type for b in policy.spec.breakers if b.scope.type is not None),
    )


async def _database(
    sources: Sources, policy: Policy, access: PolicyAccess
) -> tuple[DatabaseReading | None, ServerKey | None]:
    """Connections and health, and where the policy's login leads to."""
    spec = policy.spec.database
    if spec is None:
        return None, None
    late = DatabaseReading(access.late, access.late)
    opened = await access.database() if spec.url is not None else None
    login = opened[1].key if isinstance(opened, tuple) else None
    if spec.prometheus is not None:
        scraped = _scraped(sources, policy, spec.prometheus, access)
        reading = await access.deadline.keep(scraped, late)
        if isinstance(opened, tuple):
            reading = await access.deadline.keep(_named(sources, opened[1], reading), reading)
        return reading, login
    assert opened is not None, "the CRD refuses a database without url and prometheus"
    if isinstance(opened, Unknown):
        return DatabaseReading(opened, opened), None
    headroom = sources.databases.headroom(opened[1])
    reading = await access.deadline.keep(headroom.read(SHARED_FOR), late)
    if spec.url is not None:
        access.invalidate(spec.url, reading.connections)
        if spec.tls is not None:
            access.invalidate(spec.tls.ca, reading.connections)
    return reading, login


async def _named(sources: Sources, database: Database, reading: DatabaseReading) -> DatabaseReading:
    """With the server's own name, which policies that have only a login know it by (P1). While it
    cannot be asked, the name that the policy gives it stands."""
    connections = reading.connections
    if not isinstance(connections, Known):
        return reading
    try:
        own = await sources.databases.headroom(database).identity()
    except DatabaseFault:
        return reading
    alias = connections.value.server
    named = replace(connections, value=replace(connections.value, server=own, alias=alias))
    return replace(reading, connections=named)


async def _scraped(
    sources: Sources, policy: Policy, spec: PrometheusDatabase, access: PolicyAccess
) -> DatabaseReading:
    """The same from Prometheus."""
    server = await resolve(spec, access, "database.prometheus")
    if isinstance(server, Unknown):
        return DatabaseReading(server, server)
    prometheus = sources.prometheus.get(server, owner=policy.key)
    kept = sources.prometheus.attached(
        prometheus, ScrapedDatabases, lambda: ScrapedDatabases(prometheus)
    )
    reading = await kept.reader(spec).read(spec, policy.spec.rate_window)
    invalidate(spec, access, reading.connections)
    return reading


async def _console(
    sources: Sources, policy: Policy, access: PolicyAccess
) -> Reading[Samples] | None:
    """What the pooler's console shows; None: the policy names none."""
    spec = policy.spec.database.pgbouncer if policy.spec.database is not None else None
    if spec is None:
        return None
    url = await access.secret(spec.url)
    if isinstance(url, Unknown):
        return replace(url, message=f"database.pgbouncer: {url.message}")
    ca = await access.authorities(spec.tls)
    if isinstance(ca, Unknown):
        return replace(ca, message=f"database.pgbouncer: {ca.message}")
    try:
        console = sources.poolers.get(url.value, owner=policy.key, ca=ca.value)
    except DatabaseFault as fault:
        wrong = Unknown(fault.why, f"database.pgbouncer: {fault.message}", url.at)
        access.invalidate(spec.url, wrong)
        return wrong
    samples = await access.deadline.keep(console.sample(), access.late)
    access.invalidate(spec.url, samples)
    if spec.tls is not None:
        access.invalidate(spec.tls.ca, samples)
    return samples


def _behind_pooler(
    policy: Policy,
    reading: DatabaseReading | None,
    per_replica: Reading[PerReplica],
    samples: Reading[Samples] | None,
    login: ServerKey | None,
) -> tuple[DatabaseReading | None, Reading[PerReplica]]:
    """The workers' pools, and what all replicas together can hold behind them."""
    database = policy.spec.database
    if samples is None or reading is None or database is None or database.pgbouncer is None:
        return reading, per_replica
    role = per_replica.value.role if isinstance(per_replica, Known) else None
    workers = Workers(role, login.dbname if login is not None else None) if role else None
    pools = workers_pools(samples, workers, database.pgbouncer.replicas)
    if isinstance(pools, Known) and isinstance(per_replica, Known):
        pooled = replace(per_replica.value, pooled=pools.value.capacity)
        per_replica = replace(per_replica, value=pooled)
    return replace(reading, pooler=pools), per_replica


async def _queue(
    sources: Sources, policy: Policy, queue: Queue, access: PolicyAccess
) -> QueueReading:
    source = sources.queues.source(queue, access)
    window = policy.spec.rate_window
    reading = source.read(rate_window=window, max_age=SHARED_FOR)
    return await access.deadline.keep(reading, unread(access.late))


async def read_producer(
    producers: ProducerAdapters,
    policy: Policy,
    producer: Producer,
    entries: tuple[PauseStatus, ...],
    access: PolicyAccess,
) -> Reading[ProducerReading]:
    """The producer's own state, as the holder of these pauses sees it."""
    entry = entry_of(policy.spec, producer, with_unrecorded(entries))
    holder = Holder(policy.uid, producer.name, entry)

    async def read() -> Reading[ProducerReading]:
        found = await producers.find(producer, access, holder)
        return found if isinstance(found, Unknown) else await found.read()

    reading = await access.deadline.keep(read(), access.late)
    if producer.queue is not None:
        access.invalidate(producer.queue.url, reading)
    if isinstance(reading, Known) and lacks_record(entry, reading.value, policy.uid):
        release = by_hand_without_record(policy.namespace, producer, entry, reading)
        return replace(reading, value=replace(reading.value, release=release))
    return reading


def _with_role(
    policy: Policy, per_replica: Reading[PerReplica], login: ServerKey | None
) -> Reading[PerReplica]:
    """Whose sessions are the workers': the spec says it, or the pods' own environment, or the
    login that the policy was given for the same database."""
    if not isinstance(per_replica, Known):
        return per_replica
    named = policy.spec.database.worker_role if policy.spec.database else None
    role = named or per_replica.value.role or (login.user if login is not None else None)
    return replace(per_replica, value=replace(per_replica.value, role=role))
