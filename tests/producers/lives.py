"""Lives of operators in a `nursery`: each pauses and resumes one producer until it is killed.

The name of a life comes first, then `say`, which announces a token before it is written anywhere,
as a status does; then words of a command line.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from tests.patience import be_patient
from tests.producers.webhook_api import producer_of

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.pausing import BackfillJobs, JobTypes, WorkloadKind
from starforge_backlog.api.policy import ConfigMapKey, FeatureFlag, PausedWorkload
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.url import parse_url
from starforge_backlog.decide.results import Resumed, ResumeOutcome
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.producers.backfill_jobs import HeldBackfills
from starforge_backlog.producers.backfill_jobs_table import BackfillJobsTable
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.producers.config_map import ConfigMapField
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.producers.job_types import HeldTypes
from starforge_backlog.producers.job_types_table import JobTypesTable
from starforge_backlog.producers.marked_object import Field, MarkedObjectProducer
from starforge_backlog.producers.protocol import Holder, Pausable
from starforge_backlog.producers.workload import WorkloadField
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Known, Unknown

Say = Callable[[str], None]

be_patient()  # the process of a life is another one

OWNER = "ns/etl"
# More than any life has time for.
PAUSES = 10_000


async def by_object(
    life: str, say: Say, kubeconfig: str, namespace: str, kind: str, name: str
) -> None:
    """By a ConfigMap's default key, or by a workload."""
    client = await ClusterClient.connect({"KUBECONFIG": kubeconfig})
    producer = MarkedObjectProducer(client, field_of(namespace, kind, name), utc_now)
    await _live(producer, life, say)


def field_of(namespace: str, kind: str, name: str) -> Field:
    if kind == "ConfigMap":
        return ConfigMapField(namespace, ConfigMapKey(name=name))
    return WorkloadField(namespace, PausedWorkload(kind=WorkloadKind(kind), name=name), None)


async def by_webhook(life: str, say: Say, url: str) -> None:
    await _live(producer_of(HttpCaller(), url, seconds=30), life, say)


async def by_feature_flag(life: str, say: Say, url: str) -> None:
    await _live(FeatureFlagProducer(Database(parse_url(url)), FeatureFlag(), utc_now), life, say)


async def by_brake(life: str, say: Say, url: str, name: str) -> None:
    nowhere = SecretValue.model_validate({"secretKeyRef": {"name": "redis", "key": "url"}})
    queue = BullmqQueue(url=nowhere, name=name)
    await _live(BrakeProducer(RedisHub().get(url, owner=OWNER), queue, utc_now), life, say)


async def by_backfills(life: str, say: Say, url: str, audit_table: str) -> None:
    table = BackfillJobsTable(
        Database(parse_url(url)),
        BackfillJobs(audit_table=audit_table),
        utc_now,
        shared_for=timedelta(),
    )
    await _live(HeldBackfills(table, Holder("ns", "etl")), f"ns/etl/2026-{life}", say, planned=True)


async def by_job_types(life: str, say: Say, url: str, uid: str, kind: str, batch: str) -> None:
    table = JobTypesTable(
        Database(parse_url(url)),
        JobTypes(types=(kind,)),
        utc_now,
        shared_for=timedelta(),
        batch=int(batch),
    )
    # Not all of it in one go: a kill meets a pause, or a release, half way.
    held = HeldTypes(table, Holder(uid, "etl"))
    await _live(held, f"{uid}/etl/2026-{life}", say, planned=True, with_plan=True)


async def _live(
    producer: Pausable, life: str, say: Say, *, planned: bool = False, with_plan: bool = False
) -> None:
    """`planned`: what may be paused is read first, and all of it is resumed before the next.
    `with_plan`: it is announced with the token, as `token|plan`."""
    for number in range(PAUSES):
        token, plan = f"{life}-{number}", None
        if planned:
            seen = await producer.read()
            assert isinstance(seen, Known), seen
            plan = seen.value.plan
        say(f"{token}|{plan}" if with_plan else token)
        held = await producer.pause(owner=OWNER, token=token, at=utc_now(), plan=plan)
        if isinstance(held, Unknown):
            continue
        left: Resumed | Unknown | None = None
        while left is None or (planned and _partly(left)):
            left = await producer.resume(token=token, version=held.version, previous=held.previous)


def _partly(left: Resumed | Unknown) -> bool:
    """A backfill that writes its progress at this moment is not waited for."""
    return isinstance(left, Resumed) and left.outcome is ResumeOutcome.PARTLY
