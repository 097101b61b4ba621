"""Pausing by a workload: Deployments, StatefulSets and CronJobs, with their real controllers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.cluster.support import workload as etl_worker
from tests.e2e.api import APPS, Api, Json, Refused
from tests.producers.objects import OWNER, TOKEN, Person, operators, paused, resumed, seen

from local.cluster import LocalCluster
from starforge_backlog.api.pausing import WorkloadKind
from starforge_backlog.api.policy import PausedWorkload, Target
from starforge_backlog.decide.results import PauseOutcome, ResumeOutcome
from starforge_backlog.producers.marked_object import MarkedObjectProducer
from starforge_backlog.producers.workload import WorkloadField
from starforge_backlog.snapshot import FlagValue, Unknown, Why

pytestmark = pytest.mark.cluster

BATCH = "/apis/batch/v1"
NAME = "etl-worker"  # of every kind here
OTHER = Target(name="other")
SCALED = [WorkloadKind.DEPLOYMENT, WorkloadKind.STATEFUL_SET]
ALL = [*SCALED, WorkloadKind.CRON_JOB]


@pytest.fixture(params=ALL, ids=str)
def kind(request: pytest.FixtureRequest) -> WorkloadKind:
    found: WorkloadKind = request.param
    return found


def manifest(kind: WorkloadKind) -> Json:
    """With 3 replicas; or a CronJob that would run once a year."""
    if kind is not WorkloadKind.CRON_JOB:
        extra = {"serviceName": NAME} if kind is WorkloadKind.STATEFUL_SET else {}
        return dict(etl_worker(kind, replicas=3, **extra))
    pod = {"containers": [{"name": "c", "image": "none"}], "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": kind,
        "metadata": {"name": NAME},
        "spec": {
            "schedule": "0 0 1 1 *",
            "jobTemplate": {"spec": {"template": {"spec": pod}}},
        },
    }


@pytest.fixture
def person(api: Api, namespace: str, kind: WorkloadKind) -> Person:
    """Who made the workload."""
    group = BATCH if kind is WorkloadKind.CRON_JOB else APPS
    path = f"{group}/namespaces/{namespace}/{kind.lower()}s"
    api.create(path, manifest(kind))
    return Person(api, f"{path}/{NAME}")


@pytest.fixture
async def producer(
    cluster: LocalCluster, namespace: str, kind: WorkloadKind
) -> AsyncIterator[MarkedObjectProducer]:
    field = WorkloadField(namespace, PausedWorkload(kind=kind, name=NAME), OTHER)
    async with operators(cluster, field) as (producer,):
        yield producer


def state(person: Person) -> Any:
    """Replicas, or whether it is suspended."""
    spec = person.read()["spec"]
    return spec.get("suspend", spec.get("replicas"))


def stop(kind: WorkloadKind) -> Json:
    return {"spec": {"suspend": True} if kind is WorkloadKind.CRON_JOB else {"replicas": 0}}


def start(kind: WorkloadKind) -> Json:
    return {"spec": {"suspend": False} if kind is WorkloadKind.CRON_JOB else {"replicas": 5}}


async def test_paused_and_back_to_the_letter(
    person: Person, producer: MarkedObjectProducer, kind: WorkloadKind
) -> None:
    before = person.read()
    assert (await seen(producer)).value is FlagValue.RUNNING
    held = await paused(producer)
    assert held.outcome is PauseOutcome.PAUSED
    assert held.previous == ("false" if kind is WorkloadKind.CRON_JOB else "3")
    assert state(person) == (True if kind is WorkloadKind.CRON_JOB else 0)
    (mark,) = person.marks().values()
    assert (mark["token"], mark["by"], mark["previous"]) == (TOKEN, OWNER, held.previous)
    now = await seen(producer)
    assert (now.value, now.token, now.version) == (FlagValue.PAUSED, TOKEN, held.version)
    assert now.previous == held.previous, "for a person, where status has no record"
    assert (await paused(producer)).outcome is PauseOutcome.ALREADY_OURS
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    after = person.read()
    assert after["spec"] == before["spec"]
    assert "backlog.starforge.dev/paused" not in after["metadata"].get("annotations", {})
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_PAUSED


async def test_with_its_token_alone(
    person: Person, producer: MarkedObjectProducer, kind: WorkloadKind
) -> None:
    before = state(person)
    await paused(producer)
    assert (await resumed(producer)).outcome is ResumeOutcome.RESUMED
    assert state(person) == before


async def test_who_stopped_it_before_us_keeps_it(
    person: Person, producer: MarkedObjectProducer, kind: WorkloadKind
) -> None:
    person.write(stop(kind), "alice")
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert "by another client (alice)" in got.message
    assert (await resumed(producer)).outcome is ResumeOutcome.NOT_OURS
    assert person.marks() is None


async def test_who_starts_it_meanwhile_is_respected(
    person: Person, producer: MarkedObjectProducer, kind: WorkloadKind
) -> None:
    held = await paused(producer)
    person.write(start(kind), "alice")
    after = state(person)
    assert (await seen(producer)).value is FlagValue.RUNNING
    left = await resumed(producer, held)
    assert (left.outcome, "alice" in left.message) == (ResumeOutcome.NOT_PAUSED, True)
    assert state(person) == after


async def test_who_starts_and_stops_it_meanwhile_has_to_be_asked(
    person: Person, producer: MarkedObjectProducer, kind: WorkloadKind
) -> None:
    held = await paused(producer)
    person.write(start(kind), "alice")
    person.write(stop(kind), "alice")
    assert (await seen(producer)).version != held.version
    for after in (held, None):
        left = await resumed(producer, after)
        assert left.outcome is ResumeOutcome.CHANGED_SINCE
        assert "alice" in left.message
        assert "--type=merge" in left.message


async def test_no_such_workload_is_loud(
    person: Person, producer: MarkedObjectProducer, kind: WorkloadKind
) -> None:
    person.delete()
    until(lambda: gone(person))
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ROW_MISSING
    assert f"There is no {kind} {NAME}" in got.message
    assert (await resumed(producer, got)).outcome is ResumeOutcome.ROW_MISSING


def gone(person: Person) -> bool:
    try:
        person.read()
    except Refused as refused:
        return refused.status == 404
    return False


@pytest.mark.parametrize("kind", SCALED, ids=str, indirect=True)
async def test_pods_that_come_and_go_are_no_write_of_a_person(
    person: Person, producer: MarkedObjectProducer
) -> None:
    until(lambda: person.read()["status"].get("readyReplicas") == 3)
    held = await paused(producer)
    version = person.read()["metadata"]["resourceVersion"]
    until(lambda: not person.read()["status"].get("replicas"))
    assert person.read()["metadata"]["resourceVersion"] != version, "pods move it"
    assert (await seen(producer)).version == held.version
    person.write({"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}}, "alice")
    assert (await seen(producer)).version == held.version, "a new image is no pause of a person"
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    until(lambda: person.read()["status"].get("readyReplicas") == 3)


@pytest.mark.parametrize("kind", SCALED, ids=str, indirect=True)
async def test_pausing_while_pods_move_the_object(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """Conflicts with the controllers' writes are no conflicts with people."""
    for round_ in range(10):
        person.write({"spec": {"replicas": 3 + round_ % 2}})
        token = f"uid/api/{round_}"
        held = await paused(producer, token)
        assert held.outcome is PauseOutcome.PAUSED
        assert (await resumed(producer, held, token)).outcome is ResumeOutcome.RESUMED


@pytest.mark.parametrize("kind", SCALED, ids=str, indirect=True)
async def test_scaled_through_the_subresource_by_kubectl(
    cluster: LocalCluster,
    namespace: str,
    person: Person,
    producer: MarkedObjectProducer,
    kind: WorkloadKind,
) -> None:
    held = await paused(producer)
    scale = ("scale", f"{kind.lower()}/{NAME}", "-n", namespace)
    cluster.kubectl(*scale, "--replicas=2")
    assert (await seen(producer)).value is FlagValue.RUNNING
    cluster.kubectl(*scale, "--replicas=0")
    left = await resumed(producer, held)
    assert left.outcome is ResumeOutcome.CHANGED_SINCE
    assert "kubectl" in left.message


@pytest.mark.parametrize("kind", [WorkloadKind.DEPLOYMENT], ids=str, indirect=True)
async def test_the_policys_own_target_is_refused(
    cluster: LocalCluster, namespace: str, person: Person
) -> None:
    target = Target(name=NAME)
    field = WorkloadField(namespace, PausedWorkload(name=NAME), target)
    async with operators(cluster, field) as (producer,):
        reading = await producer.read()
        assert isinstance(reading, Unknown)
        assert (reading.why, "own target" in reading.message) == (Why.BAD_SHAPE, True)
        got = await paused(producer)
        assert (got.outcome, got.message) == (PauseOutcome.BAD_SHAPE, reading.message)
    assert state(person) == 3


@pytest.mark.parametrize("kind", [WorkloadKind.DEPLOYMENT], ids=str, indirect=True)
async def test_an_autoscaler_leaves_it_at_zero_and_goes_on_afterwards(
    cluster: LocalCluster, api: Api, namespace: str, person: Person, producer: MarkedObjectProducer
) -> None:
    """With the real controller: it says ScalingDisabled of a workload of 0 replicas."""
    path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    spec = {"scaleTargetRef": target, "minReplicas": 4, "maxReplicas": 9}
    person.write({"spec": {"replicas": 3}})
    held = await paused(producer)
    api.create(path, {"metadata": {"name": NAME}, "spec": spec})
    until(lambda: "ScalingDisabled" in reasons(api, f"{path}/{NAME}"))
    assert (state(person), (await seen(producer)).version) == (0, held.version)
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    until(lambda: state(person) == 4)  # its minimum: it scales again


def reasons(api: Api, path: str) -> list[str]:
    conditions = api.get(path).get("status", {}).get("conditions", ())
    return [condition["reason"] for condition in conditions]


def until(read: Callable[[], bool], within: float = 180) -> None:
    end = time.monotonic() + within
    while not read():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("kind", [WorkloadKind.DEPLOYMENT], ids=str, indirect=True)
async def test_nothing_but_the_field_and_the_mark_is_ours(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """Never the pod template, which would restart producers in the middle of an incident."""
    await paused(producer)
    entries = person.read()["metadata"]["managedFields"]
    (ours,) = (e["fieldsV1"] for e in entries if e["manager"] == "starforge-backlog")
    assert ours["f:spec"] == {"f:replicas": {}}
    assert set(ours["f:metadata"]["f:annotations"]) - {"."} == {"f:backlog.starforge.dev/paused"}
    assert set(ours) == {"f:metadata", "f:spec"}
