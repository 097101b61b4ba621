"""`spec.queues`: what is watched, where its jobs are, and what healthy means."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import combinations
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.prometheus import PrometheusQueue, PrometheusSignals
from starforge_backlog.api.rules import WHOLE, Rule, exactly_one, rules
from starforge_backlog.api.terms import (
    Identifier,
    JobType,
    Name,
    StatusWord,
    TableName,
    span,
    whole,
    words,
)

MOST_WAITING = 1_000_000_000  # jobs; fits an int32

MOST_WORDS = 16  # status words per group; the three published schemas have one each
MOST_TYPES = 32  # job types per queue; each is a row of the status

_GROUPS = ("waiting", "inProgress", "failed", "finished", "ignored")
_NO_WORD_TWICE = " && ".join(
    f"(!has(self.{one}) || !has(self.{other}) || !self.{one}.exists(w, w in self.{other}))"
    for one, other in combinations(_GROUPS, 2)
)


class Priority(StrEnum):
    """What kind of work a queue holds."""

    CRITICAL = "Critical"
    NORMAL = "Normal"
    BACKGROUND = "Background"

    @property
    def place(self) -> int:
        """Order among policies that share a database; 0 comes first."""
        return tuple(Priority).index(self)


class StatusNames(Model):
    """Which words of the status column mean what. Unset: recognised from the catalog."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                _NO_WORD_TWICE,
                "a status word is in two of waiting, inProgress, failed, finished and ignored: keep"
                " it in one, or jobs would be counted twice",
            )
        )
    )

    waiting: Annotated[tuple[StatusWord, ...], words(MOST_WORDS, least=1)] | None = None
    """Words of jobs that wait for a worker. If left out: pending, waiting or queued, where
    the table has them."""

    in_progress: Annotated[tuple[StatusWord, ...], words(MOST_WORDS, least=1)] | None = None
    """Words of jobs that a worker has claimed. If left out: running, processing or
    active."""

    failed: Annotated[tuple[StatusWord, ...], words(MOST_WORDS, least=1)] | None = None
    """Words of jobs that ended badly. If left out: failed."""

    finished: Annotated[tuple[StatusWord, ...], words(MOST_WORDS, least=1)] | None = None
    """Words of jobs that ended well. If left out: done, completed or succeeded."""

    ignored: Annotated[tuple[StatusWord, ...], words(MOST_WORDS, least=1)] | None = None
    """Words of jobs that are counted nowhere, besides cancelled and canceled; NULL means rows
    without a word. Jobs with a word that is in no list may be waiting: while there are any,
    counts are lower bounds and the queue is not healthy."""


class ColumnPart(StrEnum):
    """A column that a job table can do without."""

    TYPE = "type"
    RUN_AFTER = "runAfter"
    CREATED_AT = "createdAt"
    UPDATED_AT = "updatedAt"


class ColumnNames(Model):
    """Names of the job table's columns, where they differ from the StarForge schema."""

    type: Identifier = "type"
    """Kind of a job, for example process_snapshot."""

    status: Identifier = "status"
    """Status word of a job: text, an enum, a number or a boolean."""

    run_after: Identifier = "run_after"
    """When a job is due. Tables without it: a job is due when it is created."""

    created_at: Identifier = "created_at"
    """When a job was enqueued."""

    updated_at: Identifier = "updated_at"
    """When a job changed last; processed_at in the first migration."""

    absent: Annotated[tuple[ColumnPart, ...], words(len(ColumnPart), least=1)] | None = None
    """Columns that the table does not have, although one of that name exists with another meaning
    or type, for example created_at as a number. Where both runAfter and createdAt are absent, the
    age of jobs is not waited for: the queue is judged by what waits."""


class PostgresQueue(Model):
    """A job table in the policy's database."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    table: TableName = "queue_jobs"
    """The job table, as table or schema.table; without a schema the connection's search path
    finds it."""

    types: Annotated[tuple[JobType, ...], words(MOST_TYPES)] = ()
    """Job types that belong to this queue; all of the table if empty. Two queues can share one
    table by their types, for example process_snapshot and backfill_range."""

    columns: ColumnNames = ColumnNames()
    """Names of the table's columns, where they differ. A column that the table does not have makes
    the readings that need it unknown, and the queue's status says so."""

    statuses: StatusNames = StatusNames()
    """Which words of the status column mean what. Groups that are left out are recognised from
    the catalog (enum labels, check constraints) among the words of StarForge's schemas."""


class Objectives(Model):
    """What healthy means for a queue."""

    waiting: Annotated[int, whole(1, MOST_WAITING)] = 500
    """Most jobs that may wait. 500 pages in the runbook."""

    oldest_age: Annotated[Duration, span("1s", "720h")] | None = None
    """Most time that the oldest due job may have waited. If left out, 30m; 24h for a queue of
    priority Background (runbook: 30 min for real time, 24 h for backfills)."""

    failed_percent: Annotated[int, whole(0, 100)] = 1
    """Most failed jobs in percent of those that ended. 1 % pages in the runbook."""

    for_: Annotated[Duration, span("1s", "24h")] = timedelta(minutes=5)
    """How long an objective must be missed without a break before the queue counts as backed up.
    5 minutes is the runbook's time for an alert."""


class Queue(Model):
    """A queue that is watched. Exactly one kind of source."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                exactly_one("postgres", "bullmq", "prometheus"),
                "a queue needs exactly one source: postgres: {} for a job table in spec.database,"
                " bullmq for a queue on Redis, prometheus for series",
                reason="FieldValueRequired",
            ),
            Rule(
                "!has(self.signals) || !has(self.prometheus)",
                "signals is for single signals of a postgres or bullmq queue: put the expressions"
                " into prometheus",
                path=".signals",
            ),
        )
    )

    name: Name
    """Name of the queue in status, Events, metrics and in breakers[].scope.queues. Once only."""

    priority: Priority = Priority.NORMAL
    """What kind of work this is. Background is for backfills: its oldest job may wait 24h instead
    of 30m. Where several policies share a database, the policy with the most important queue gets
    connections first, after the minimum of every policy."""

    postgres: PostgresQueue | None = None
    """Jobs are rows of a table in spec.database. {} fits StarForge's queue_jobs in each of its
    published variants."""

    bullmq: BullmqQueue | None = None
    """Jobs are in a queue of BullMQ on Redis."""

    prometheus: PrometheusQueue | None = None
    """Series are the only source for the jobs. Each signal is a PromQL expression that answers with
    one number; $window in it is replaced by scaling.observeFor."""

    signals: PrometheusSignals | None = None
    """Single signals from Prometheus that replace the queue's own, for example the throughput of
    one job type, which a table does not show. Each is a PromQL expression that answers with one
    number; $window in it is replaced by scaling.observeFor. One that cannot be read is unknown: the
    queue's own number does not replace it."""

    objectives: Objectives = Objectives()
    """What healthy means. Missing one of them for its time turns BacklogHealthy False. Steps up do
    not wait for that: they follow what the queue needs or, where throughput is unknown, the first
    miss."""

    @property
    def oldest_age(self) -> timedelta:
        """The age objective: 30 min for real time, 24 h for backfills (runbook, alerts to add)."""
        if self.objectives.oldest_age is not None:
            return self.objectives.oldest_age
        background = self.priority is Priority.BACKGROUND
        return timedelta(hours=24) if background else timedelta(minutes=30)
