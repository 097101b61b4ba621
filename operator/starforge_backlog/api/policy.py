"""`QueueBacklogPolicy.spec`: what an admin writes. Defaults are the runbook's numbers."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from starforge_backlog.api.base import Duration, Model


class Mode(StrEnum):
    """Whether the operator acts (`Enforce`) or only says what it would do (`Observe`)."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


class Priority(StrEnum):
    """How early a queue is served when capacity is short."""

    CRITICAL = "Critical"
    NORMAL = "Normal"
    BACKGROUND = "Background"


class Growth(StrEnum):
    """How up-steps grow: always `stepUp`, or doubled after each passed step."""

    FIXED = "Fixed"
    SLOW_START = "SlowStart"


class SecretKeyRef(Model):
    """A key of a Secret in the policy's namespace."""

    name: str
    key: str


class SecretValue(Model):
    """A value that is only ever given by reference."""

    secret_key_ref: SecretKeyRef


class ConnectionsPerReplica(Model):
    """How many database connections one replica can open: pool × processes + extra."""

    env: str | None = None
    value: int | None = None
    processes: int = 1
    extra: int = 0


class Target(Model):
    """The workload that is scaled: anything with a scale subresource."""

    api_version: str = "apps/v1"
    kind: str = "Deployment"
    name: str
    min_replicas: int = 1
    max_replicas: int | None = None
    connections_per_replica: ConnectionsPerReplica = ConnectionsPerReplica(env="PG_POOL_MAX")


class Pressure(Model):
    """When the database is under pressure: no up-step, and the last one is reverted."""

    utilization_percent: int = 80
    lock_waiters: int = 5
    longest_transaction: Duration = timedelta(minutes=5)


class Database(Model):
    """The database whose connections the workers share with everybody else."""

    url: SecretValue
    headroom: int = 20
    max_connections: int | None = None
    worker_role: str | None = None
    pressure: Pressure = Pressure()


class StatusNames(Model):
    """Which words of the status column mean what. Unset: recognised from the catalog."""

    waiting: tuple[str, ...] | None = None
    in_progress: tuple[str, ...] | None = None
    failed: tuple[str, ...] | None = None
    finished: tuple[str, ...] | None = None


class ColumnNames(Model):
    """Names of the job table's columns, where they differ from the StarForge schema."""

    id: str = "id"
    type: str = "type"
    status: str = "status"
    run_after: str = "run_after"
    created_at: str = "created_at"
    updated_at: str = "updated_at"
    attempts: str = "attempts"


class PostgresQueue(Model):
    """A job table in the policy's database."""

    table: str = "queue_jobs"
    types: tuple[str, ...] = ()
    columns: ColumnNames = ColumnNames()
    statuses: StatusNames = StatusNames()


class Objectives(Model):
    """What healthy means for a queue."""

    waiting: int = 500
    oldest_age: Duration | None = None
    failed_percent: int = 1
    for_: Duration = Field(default=timedelta(minutes=5), alias="for")


class Queue(Model):
    """A queue that is watched. Exactly one kind of source."""

    name: str
    priority: Priority = Priority.NORMAL
    postgres: PostgresQueue | None = None
    objectives: Objectives = Objectives()

    @property
    def oldest_age(self) -> timedelta:
        """The age objective: 30 min for real time, 24 h for backfills (runbook, alerts to add)."""
        if self.objectives.oldest_age is not None:
            return self.objectives.oldest_age
        background = self.priority is Priority.BACKGROUND
        return timedelta(hours=24) if background else timedelta(minutes=30)


class Scaling(Model):
    """How steps are taken."""

    step_up: int = 2
    observe_for: Duration = timedelta(seconds=90)
    step_down: int = 1
    scale_down_after: Duration = timedelta(minutes=10)
    growth: Growth = Growth.FIXED
    drain_within: Duration = timedelta(minutes=15)
    # How long a change of `replicas` by somebody else is respected after their last write (P9).
    yield_for: Duration = timedelta(minutes=5)


class FeatureFlag(Model):
    """A row of a flag table whose JSON value says that ingestion is paused."""

    table: str = "feature_flags"
    name: str = "ingest_control"
    path: tuple[str, ...] = ("ingest_paused",)
    name_column: str = "name"
    data_column: str = "data"
    # Some applications validate the whole JSON value and refuse unknown keys.
    write_owner: bool = True


class Producer(Model):
    """Something that feeds a queue and can be paused. Exactly one way."""

    name: str
    feature_flag: FeatureFlag | None = None


class Trip(Model):
    """One rule that opens a breaker. Exactly one signal."""

    waiting: int | None = None
    oldest_age: Duration | None = None
    failed_percent: int | None = None
    database_utilization_percent: int | None = None
    for_: Duration = Field(default=timedelta(minutes=5), alias="for")
    min_samples: int = 20


class Recover(Model):
    """When an open breaker dares a probe, and how long the probe is."""

    below: int = 50
    for_: Duration = Field(default=timedelta(minutes=2), alias="for")
    probe_for: Duration = timedelta(minutes=5)


class Breaker(Model):
    """Pauses producers when any of its rules holds for its time."""

    name: str
    queues: tuple[str, ...] = ()
    pause: tuple[str, ...] = ()
    trip: tuple[Trip, ...]
    recover: Recover = Recover()


class QueueBacklogPolicySpec(Model):
    """What the operator is to guard, and within which bounds."""

    mode: Mode = Mode.ENFORCE
    suspend: bool = False
    interval: Duration = timedelta(seconds=15)
    target: Target
    database: Database | None = None
    queues: tuple[Queue, ...]
    scaling: Scaling = Scaling()
    producers: tuple[Producer, ...] = ()
    breakers: tuple[Breaker, ...] = ()

    def producer(self, name: str) -> Producer | None:
        """The producer of that name, or None when the spec has none (any more)."""
        return next((p for p in self.producers if p.name == name), None)
