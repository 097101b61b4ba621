"""The ways to pause a producer besides a flag in a table. See `producer.py`."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.prometheus import Tls
from starforge_backlog.api.rules import WHOLE
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.terms import (
    ConfigKey,
    ConfigValue,
    HttpUrl,
    Identifier,
    JobType,
    ObjectName,
    StatusWord,
    TableName,
    span,
    whole,
    words,
)

MOST_HELD_TYPES = 32  # as many as a queue can have


class BackfillJobs(Model):
    """Rows of a table of backfills: their status goes from running to paused and back."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    table: TableName = "backfill_jobs"
    """The table in spec.database, as table or schema.table."""

    id_column: Identifier = "job_id"
    """Column that identifies a backfill."""

    status_column: Identifier = "status"
    """Column with the status word."""

    running: StatusWord = "running"
    """Word of a backfill that enqueues jobs."""

    paused: StatusWord = "paused"
    """Word of a backfill that is paused."""

    progress_columns: Annotated[tuple[Identifier, ...], words(8)] = (
        "processed_count",
        "error_count",
        "last_checkpoint",
    )
    """Columns that a backfill writes as it goes. The batch that is under way when it is paused
    still writes them; a row of which nothing else changed since is still as the pause left it,
    and is resumed. Columns that the table does not have are ignored."""

    audit_table: TableName | None = None
    """Table like StarForge's audit_logs(action, metadata jsonb) into which each pause and resume is
    written in the same statement. With it a pause is proven even when the operator is killed in
    the middle of it; without it such a pause is left for a person to resume."""


class JobTypes(Model):
    """Job types of the table that are held back, so that only the others are worked on.

    Waiting rows get a due time far in the future, and on release the one they had; rows that
    arrive meanwhile as well. Rows without a due time (NULL), and those that are due since or in
    more than a year, are not changed. Refused where the table has no due time.
    """

    model_config = ConfigDict(json_schema_extra=WHOLE)

    table: TableName = "queue_jobs"
    """The job table in spec.database, as table or schema.table."""

    types: Annotated[tuple[JobType, ...], words(MOST_HELD_TYPES, least=1)]
    """Job types that are held back, for example backfill_range."""

    id_column: Identifier = "id"
    """Primary key of the table."""

    type_column: Identifier = "type"
    """Column with the kind of a job."""

    status_column: Identifier = "status"
    """Column with the status word."""

    due_column: Identifier = "run_after"
    """Column with the time at which a job is due; a timestamp with or without time zone."""

    waiting: Annotated[tuple[StatusWord, ...], words(16, least=1)] = ("pending",)
    """Status words of jobs that wait for a worker."""


class ConfigMapKey(Model):
    """A key of a ConfigMap that an API reads while it runs (mounted as a file, or watched).

    The value before is kept in an annotation on the ConfigMap, written together with it, and is
    restored on release.
    """

    name: ObjectName
    """Name of the ConfigMap, in the policy's namespace. It must exist. A pod template is never
    changed: that would restart producers in the middle of an incident."""

    key: ConfigKey = "ingest_paused"
    """Key of its data."""

    paused: ConfigValue = "true"
    """Value that pauses. Any other value, and a missing key, counts as running."""


class Webhook(Model):
    """An HTTP API that pauses and resumes.

    The operator sends POST with a JSON body {action: pause|resume, producer, policy, token, at,
    reason}, the header Idempotency-Key, and, where there is a secret, X-StarForge-Signature:
    t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>">. The answer must be 2xx with a JSON body
    {"paused": true|false} that says what is in force now; {"owner": token} beside it, if the
    API keeps it, shows whose pause it is. docs/reference/webhook.md has the whole contract and a
    receiver.
    """

    url: HttpUrl
    """Where to send it."""

    secret: SecretValue | None = None
    """Key of the signature (HMAC-SHA256), by reference to a Secret. If left out, calls are not
    signed."""

    bearer_token: SecretValue | None = None
    """Token for the Authorization header, by reference to a Secret."""

    tls: Tls | None = None
    """Whom to trust when url is https."""

    readable: bool = True
    """Whether GET on the same URL answers the same JSON body. If it does not, the pause cannot
    be verified, and a resume by another client is not noticed."""

    timeout: Annotated[Duration, span("1s", "4s")] = timedelta(seconds=2)
    """Longest time of one attempt."""

    attempts: Annotated[int, whole(1, 3)] = 2
    """Attempts per pass; the next pass tries again, under the same key."""


class WorkloadKind(StrEnum):
    """Workloads that can be stopped without losing what they are."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    CRON_JOB = "CronJob"


class PausedWorkload(Model):
    """A workload that produces: scaled to zero, or a CronJob suspended.

    The value before is kept in an annotation on the workload, written together with it, and is
    restored on release. A workload that was stopped before stays stopped.
    """

    kind: WorkloadKind = WorkloadKind.DEPLOYMENT
    """Deployment or StatefulSet (scaled to zero), or CronJob (suspended)."""

    name: ObjectName
    """Name of the workload, in the policy's namespace. Not the policy's target."""
