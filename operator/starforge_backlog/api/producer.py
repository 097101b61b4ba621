"""`spec.producers`: what feeds the queues and can be paused."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Model
from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.pausing import (
    BackfillJobs,
    ConfigMapKey,
    JobTypes,
    PausedWorkload,
    Webhook,
)
from starforge_backlog.api.rules import WHOLE, Rule, exactly_one, rules
from starforge_backlog.api.terms import FlagName, Identifier, Name, TableName, ordered

# In the order of mitigation: what feeds the queues, then background queues and backfills.
SOURCES = ("featureFlag", "configMap", "webhook", "workload")
BACKGROUND = ("queue", "backfillJobs", "jobTypes")
WAYS = (*SOURCES, *BACKGROUND)
# Rows of a table: what a pause may cover is in status before the write.
PLANNED = frozenset({"backfillJobs", "jobTypes"})

MOST_PATH_STEPS = 8  # depth of the JSON path; StarForge's flag needs one


class FeatureFlag(Model):
    """A row of a flag table whose JSON value says that ingestion is paused."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    table: TableName = "feature_flags"
    """The flag table in spec.database, as table or schema.table."""

    name: FlagName = "ingest_control"
    """The row: the value of nameColumn. The row must exist; if it does not, nothing is paused and
    the condition ProducersRunning says so."""

    path: Annotated[tuple[Identifier, ...], ordered(1, MOST_PATH_STEPS)] = ("ingest_paused",)
    """Where in the row's JSON the flag is, from the outside in: [ingest_paused] is
    data.ingest_paused, as in the runbook. The operator sets it to true and on release restores
    what was there."""

    name_column: Identifier = "name"
    """Column that identifies the row."""

    data_column: Identifier = "data"
    """Column of type json or jsonb that holds the flag."""

    # Some applications validate the whole JSON value and refuse unknown keys.
    write_owner: bool = True
    """Whether an object beside the flag says who paused it, since when, and under which token.
    Turn it off where the application refuses keys it does not know; then only the version
    of the row shows whether the pause is the operator's."""


class Producer(Model):
    """Something that feeds a queue and can be paused. Exactly one way."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                exactly_one(*WAYS),
                "a producer needs exactly one way to pause it: featureFlag, configMap, webhook,"
                " workload, queue, backfillJobs or jobTypes; featureFlag: {} is a row of"
                " feature_flags in spec.database",
                reason="FieldValueRequired",
            )
        )
    )

    name: Name
    """Name of the producer in status, Events, metrics and in breakers[].pause. Once only."""

    feature_flag: FeatureFlag | None = None
    """Paused by a flag in a table of spec.database, which the ingestion API reads: it then
    answers 429 or 503. {} is the runbook's flag."""

    config_map: ConfigMapKey | None = None
    """Paused by a key of a ConfigMap, for an API that reads it while it runs. GitOps that applies
    this key (Argo CD, Flux) takes the pause back, which is respected like a person's resume: leave
    the key out of what it applies. Needs the chart value rbac.producers.configMaps."""

    webhook: Webhook | None = None
    """Paused by a signed HTTP call to an API that pauses itself; docs/reference/webhook.md has what
    is sent, what must be answered, and a receiver."""

    workload: PausedWorkload | None = None
    """Paused by scaling a Deployment or StatefulSet of producers to zero, or by suspending a
    CronJob (Jobs that already run continue); the value before is kept on the object. A
    HorizontalPodAutoscaler does not change 0 replicas and continues afterwards; a KEDA ScaledObject
    may start the workload again, which is respected like a person's resume. Needs the chart value
    rbac.producers.deployments, statefulSets or cronJobs."""

    queue: BullmqQueue | None = None
    """Stops a background queue of BullMQ (for one, etl-backfill) by its global concurrency, never
    by BullMQ's own pause, which loses jobs where versions 5 and 6 share a queue. A queue that a
    person paused stays paused. Needs BullMQ 5.9 or later; jobs in progress finish."""

    backfill_jobs: BackfillJobs | None = None
    """Pauses running backfills in a table of spec.database: their rows go from running to paused,
    and those that are still as the pause left them go back. {} is StarForge's backfill_jobs."""

    job_types: JobTypes | None = None
    """Holds some job types of the job table back (runbook: keep only critical job types running):
    waiting rows, and those that arrive meanwhile, get a due time far in the future, and on release
    the one that they had. Refused where the table has no due time."""

    @property
    def way(self) -> tuple[str, Model]:
        """The one way that is given, under its name in YAML."""
        for name in WAYS:
            given = getattr(self, _FIELDS[name])
            if given is not None:
                assert isinstance(given, Model)
                return name, given
        msg = f"producer {self.name} has no way to pause it"
        raise ValueError(msg)

    @property
    def place(self) -> tuple[str, str]:
        """Where the pause is, without how one gets there: a changed login or time limit, or a
        Secret under another name, points at the same place. Which server that Secret leads to is
        for the readings to say (`PauseStatus.where`)."""
        way, given = self.way
        match given:
            case Webhook(url=url):
                return way, url
            case BullmqQueue():
                return way, given.model_dump_json(by_alias=True, exclude={"tls", "url"})
            case _:
                return way, given.model_dump_json(by_alias=True)

    @property
    def background(self) -> bool:
        """Whether it drains or feeds in the background: paused after the sources of new work."""
        return self.way[0] in BACKGROUND

    @property
    def planned(self) -> bool:
        """Whether it is rows of a table: what a pause may cover is in status before the write."""
        return self.way[0] in PLANNED

    @property
    def in_database(self) -> bool:
        """Whether it is in spec.database."""
        return self.way[0] in {"featureFlag", "backfillJobs", "jobTypes"}


_FIELDS = {field.alias: name for name, field in Producer.model_fields.items()}
