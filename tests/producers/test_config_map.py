"""Pausing by a key of a ConfigMap, sentence by sentence, with people and GitOps writing it too."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator

import pytest
from tests.e2e.api import CORE, Api, Json
from tests.producers.objects import OWNER, TOKEN, Person, operators, paused, resumed, seen

from local.cluster import LocalCluster
from starforge_backlog.api.bounds import MOST_PREVIOUS_BYTES
from starforge_backlog.api.policy import ConfigMapKey
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.config_map import ConfigMapField
from starforge_backlog.producers.marked_object import MarkedObjectProducer
from starforge_backlog.snapshot import FlagValue, Unknown, Why

pytestmark = pytest.mark.cluster

NAME = "ingest-api"
KEY = ConfigMapKey(name=NAME)
BEFORE = {"ingest_paused": "false", "other": "kept\n"}


@pytest.fixture
def person(api: Api, namespace: str) -> Person:
    """Who made the ConfigMap."""
    path = f"{CORE}/namespaces/{namespace}/configmaps"
    api.create(path, {"metadata": {"name": NAME, "labels": {"a": "b"}}, "data": BEFORE})
    return Person(api, f"{path}/{NAME}")


@pytest.fixture
async def producer(cluster: LocalCluster, namespace: str) -> AsyncIterator[MarkedObjectProducer]:
    async with operators(cluster, ConfigMapField(namespace, KEY)) as (producer,):
        yield producer


async def test_a_pause_and_its_mark(person: Person, producer: MarkedObjectProducer) -> None:
    assert (await seen(producer)).value is FlagValue.RUNNING
    got = await paused(producer)
    assert (got.outcome, got.previous) == (PauseOutcome.PAUSED, '"false"')
    found = person.read()
    assert found["data"] == {**BEFORE, "ingest_paused": "true"}
    assert person.marks() == {
        "data.ingest_paused": {
            "token": TOKEN,
            "by": OWNER,
            "at": "2026-01-01T03:00:00+00:00",
            "why": "5,200 wait",
            "previous": '"false"',
        }
    }
    now = await seen(producer)
    assert (now.value, now.token, now.version) == (FlagValue.PAUSED, TOKEN, got.version)
    assert now.previous == got.previous, "for a person, where status has no record"


@pytest.mark.parametrize(
    "data",
    [
        BEFORE,
        {"other": "kept"},
        {},
        None,
        {"ingest_paused": ""},
        {"ingest_paused": "True"},  # not the value that pauses
        {"ingest_paused": "true\n"},
        {"ingest_paused": 'ü "quoted"\n', "other": "x"},
    ],
    ids=repr,
)
async def test_the_value_before_comes_back(
    person: Person, producer: MarkedObjectProducer, data: Json | None
) -> None:
    person.delete()
    person.api.create(person.path.rpartition("/")[0], {"metadata": {"name": NAME}, "data": data})
    before = person.read()
    held = await paused(producer)
    assert held.outcome is PauseOutcome.PAUSED
    assert person.read()["data"]["ingest_paused"] == "true"
    assert await resumed(producer, held) == Resumed(ResumeOutcome.RESUMED)
    after = person.read()
    assert after.get("data") == before.get("data")
    assert "annotations" not in after["metadata"]
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_PAUSED
    assert person.read() == after, "nothing is written for nothing"


async def test_a_value_that_status_could_not_hold_is_not_replaced(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """A key may hold a megabyte, and a resume has to put all of it back."""
    person.write({"data": {"ingest_paused": "x" * MOST_PREVIOUS_BYTES}})
    before = person.read()
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.BAD_SHAPE
    got = await paused(producer)
    assert got.outcome is PauseOutcome.BAD_SHAPE
    assert "nothing was paused" in got.message
    assert person.read() == before


async def test_annotations_of_others_and_marks_of_other_keys_stay(
    cluster: LocalCluster, namespace: str, person: Person, producer: MarkedObjectProducer
) -> None:
    person.write({"metadata": {"annotations": {"note": "x"}}})
    other = ConfigMapField(namespace, ConfigMapKey(name=NAME, key="other", paused="stop"))
    async with operators(cluster, other) as (second,):
        first_held, second_held = await paused(producer), await paused(second, "uid/b/1")
        assert set(person.marks()) == {"data.ingest_paused", "data.other"}
        assert (await seen(producer)).version == first_held.version, "the same to the other"
        assert (await resumed(producer, first_held)).outcome is ResumeOutcome.RESUMED
        assert set(person.marks()) == {"data.other"}
        assert (await resumed(second, second_held, "uid/b/1")).outcome is ResumeOutcome.RESUMED
    found = person.read()
    assert (found["data"], found["metadata"]["annotations"]) == (BEFORE, {"note": "x"})


async def test_after_a_crash_the_pause_is_known_again(
    person: Person, producer: MarkedObjectProducer
) -> None:
    first = await paused(producer)
    version = person.read()["metadata"]["resourceVersion"]
    assert await paused(producer) == Paused(PauseOutcome.ALREADY_OURS, first.version, '"false"')
    assert person.read()["metadata"]["resourceVersion"] == version
    # Killed before the status was written: the token alone proves it and the mark knows the value.
    assert (await resumed(producer)).outcome is ResumeOutcome.RESUMED
    assert person.read()["data"] == BEFORE


async def test_a_status_that_was_lost_and_found_by_its_token(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """It has the version that a reading gave, but no value before."""
    await paused(producer)
    found = Paused(PauseOutcome.PAUSED, (await seen(producer)).version, None)
    assert (await resumed(producer, found)).outcome is ResumeOutcome.RESUMED
    assert person.read()["data"] == BEFORE


async def test_a_person_paused_before(person: Person, producer: MarkedObjectProducer) -> None:
    person.write({"data": {"ingest_paused": "true"}}, "alice")
    before = person.read()
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert "by another client (alice)" in got.message
    assert (await seen(producer)).token is None
    for after in (None, Paused(PauseOutcome.PAUSED, (await seen(producer)).version)):
        left = await resumed(producer, after)
        assert left.outcome in {ResumeOutcome.NOT_OURS, ResumeOutcome.CHANGED_SINCE}
    assert person.read() == before


async def test_a_person_resumed_meanwhile(person: Person, producer: MarkedObjectProducer) -> None:
    held = await paused(producer)
    person.write({"data": {"ingest_paused": "false"}}, "alice")
    before = person.read()
    assert (await seen(producer)).value is FlagValue.RUNNING
    left = await resumed(producer, held)
    assert left.outcome is ResumeOutcome.NOT_PAUSED
    assert "alice wrote it" in left.message
    assert person.read() == before


async def test_a_person_resumed_and_paused_again(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """Value and mark are as we wrote them; only whose the value is gives it away."""
    held = await paused(producer)
    person.write({"data": {"ingest_paused": "false"}}, "alice")
    person.write({"data": {"ingest_paused": "true"}}, "alice")
    before = person.read()
    now = await seen(producer)
    assert (now.token, now.version != held.version) == (TOKEN, True)
    again = await paused(producer)
    assert (again.outcome, again.version) == (PauseOutcome.ALREADY_OURS, held.version)
    for after in (held, None, Paused(PauseOutcome.PAUSED, now.version)):
        left = await resumed(producer, after)
        assert left.outcome is ResumeOutcome.CHANGED_SINCE
        assert "Another client (alice) wrote" in left.message
    assert person.read() == before


async def test_the_fix_runs_as_printed(
    cluster: LocalCluster, person: Person, producer: MarkedObjectProducer
) -> None:
    person.write({"data": {"ingest_paused": 'it\'s "off"\n'}})
    before = person.read()["data"]
    held = await paused(producer)
    person.write({"data": {"ingest_paused": "x"}}, "alice")
    person.write({"data": {"ingest_paused": "true"}}, "alice")
    left = await resumed(producer, held)
    command = shlex.split(left.message.split("run: kubectl ")[1])
    cluster.kubectl(*command)
    assert person.read()["data"] == before


async def test_other_keys_labels_and_annotations_are_nobodys_pause(
    person: Person, producer: MarkedObjectProducer
) -> None:
    held = await paused(producer)
    person.write({"data": {"other": "new"}, "metadata": {"labels": {"c": "d"}}}, "alice")
    person.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"annotations": {"x": "y"}}},
    )
    assert (await seen(producer)).version == held.version
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    assert person.read()["data"] == {"ingest_paused": "false", "other": "new"}


@pytest.mark.parametrize("mark", [None, "no JSON", '{"data.ingest_paused": 1}', "[]"])
async def test_a_mark_that_a_person_took_away(
    person: Person, producer: MarkedObjectProducer, mark: str | None
) -> None:
    held = await paused(producer)
    annotation = "backlog.starforge.dev/paused"
    person.write({"metadata": {"annotations": {annotation: mark}}}, "alice")
    now = await seen(producer)
    assert (now.token, now.version != held.version) == (None, True)
    assert (await resumed(producer, held)).outcome is ResumeOutcome.CHANGED_SINCE
    assert (await resumed(producer)).outcome is ResumeOutcome.NOT_OURS
    assert person.read()["data"]["ingest_paused"] == "true"


async def test_a_mark_left_behind_is_replaced_not_kept(
    person: Person, producer: MarkedObjectProducer
) -> None:
    await paused(producer)
    person.write({"data": {"ingest_paused": "off"}}, "alice")
    held = await paused(producer, "uid/api/2")
    assert (held.outcome, held.previous) == (PauseOutcome.PAUSED, '"off"')
    assert (await resumed(producer, held, "uid/api/2")).outcome is ResumeOutcome.RESUMED
    assert person.read()["data"]["ingest_paused"] == "off"


async def test_another_policys_pause(person: Person, producer: MarkedObjectProducer) -> None:
    held = await paused(producer, "other/api/1")
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert f"by {OWNER} since 2026-01-01T03:00:00+00:00" in got.message
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_OURS
    assert (await resumed(producer, held, "other/api/1")).outcome is ResumeOutcome.RESUMED
    assert person.read()["data"] == BEFORE


async def test_gitops_that_reverts_it_is_respected_and_named(
    person: Person, producer: MarkedObjectProducer
) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "data": BEFORE}
    person.apply(manifest)
    held = await paused(producer)
    assert (await seen(producer)).version == held.version
    person.apply(manifest)
    now = await seen(producer)
    assert (now.value, now.writer) == (FlagValue.RUNNING, "argocd-controller")
    left = await resumed(producer, held)
    assert left.outcome is ResumeOutcome.NOT_PAUSED
    assert "argocd-controller" in left.message


async def test_gitops_that_wants_it_paused_as_well_keeps_it(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """The same value from two owners: it is not ours alone to take back."""
    held = await paused(producer)
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ingest_paused": "true"}}
    person.apply(manifest)
    assert (await resumed(producer, held)).outcome is ResumeOutcome.CHANGED_SINCE
    assert person.read()["data"]["ingest_paused"] == "true"


async def test_made_again_with_our_mark_from_a_backup(
    person: Person, producer: MarkedObjectProducer
) -> None:
    held = await paused(producer)
    backup = person.read()
    person.delete()
    meta = {"name": NAME, "annotations": backup["metadata"]["annotations"]}
    person.api.create(person.path.rpartition("/")[0], {"metadata": meta, "data": backup["data"]})
    assert (await seen(producer)).version != held.version
    for after in (held, None):
        assert (await resumed(producer, after)).outcome is ResumeOutcome.CHANGED_SINCE
    assert person.read()["data"] == backup["data"]


async def test_an_object_whose_owners_the_api_server_does_not_keep(
    person: Person, producer: MarkedObjectProducer
) -> None:
    """Made without a field, or its managedFields were cleared: any write counts then."""
    person.write({"metadata": {"managedFields": [{}]}})
    assert "managedFields" not in person.read()["metadata"]
    held = await paused(producer)
    assert (await seen(producer)).version == held.version
    assert (await paused(producer)).version == held.version
    person.write({"metadata": {"labels": {"c": "d"}}})
    assert (await seen(producer)).version != held.version
    assert (await resumed(producer, held)).outcome is ResumeOutcome.CHANGED_SINCE
    assert (await resumed(producer)).outcome is ResumeOutcome.RESUMED  # the mark alone proves it
    assert person.read()["data"] == BEFORE


async def test_no_config_map_is_loud_and_the_fix_runs_as_printed(
    cluster: LocalCluster, person: Person, producer: MarkedObjectProducer
) -> None:
    person.delete()
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.ROW_MISSING
    got = await paused(producer)
    assert (got.outcome, got.message) == (PauseOutcome.ROW_MISSING, reading.message)
    assert (await resumed(producer, got)).outcome is ResumeOutcome.ROW_MISSING
    cluster.kubectl(*shlex.split(reading.message.split("run: kubectl ")[1]))
    assert (await seen(producer)).value is FlagValue.RUNNING
    held = await paused(producer)
    assert (held.outcome, held.previous) == (PauseOutcome.PAUSED, None)
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    assert "data" not in person.read()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"immutable": True}, "is immutable"),
        ({"data": {"ingest_paused": None}, "binaryData": {"ingest_paused": "AAE="}}, "binaryData"),
    ],
    ids=["immutable", "binary"],
)
async def test_what_cannot_be_written_is_loud_and_left_alone(
    person: Person, producer: MarkedObjectProducer, change: Json, said: str
) -> None:
    before = person.write(change)
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert (reading.why, said in reading.message) == (Why.BAD_SHAPE, True)
    got = await paused(producer)
    assert (got.outcome, got.message) == (PauseOutcome.BAD_SHAPE, reading.message)
    assert person.read()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_made_immutable_while_it_is_paused(
    person: Person, producer: MarkedObjectProducer
) -> None:
    held = await paused(producer)
    person.write({"immutable": True})
    again = await paused(producer)
    assert again.outcome is PauseOutcome.ALREADY_OURS, "not refused, which would be forgotten"
    left = await resumed(producer, held)
    assert left.outcome is ResumeOutcome.BAD_SHAPE
    assert "immutable" in left.message


async def test_without_the_right_nothing_is_paused_and_the_chart_value_is_named(
    cluster: LocalCluster, namespace: str, person: Person
) -> None:
    assert cluster.control_plane is not None
    cluster.kubectl(
        "create", "role", "reader", "--verb=get", "--resource=configmaps", "-n", namespace
    )
    cluster.kubectl(
        *("create", "rolebinding", "reader", "--role=reader", "-n", namespace),
        f"--serviceaccount={namespace}:default",
    )
    token = cluster.kubectl("create", "token", "default", "-n", namespace).strip()
    server = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    context = {"cluster": server["clusters"][0]["name"], "user": "sa"}
    config = {
        **server,
        "users": [{"name": "sa", "user": {"token": token}}],
        "contexts": [{"name": "sa", "context": context}],
        "current-context": "sa",
    }
    file = cluster.kubeconfig.with_name(f"{namespace}.json")
    file.write_text(json.dumps(config), encoding="utf-8")
    client = await ClusterClient.connect({"KUBECONFIG": str(file)})
    try:
        weak = MarkedObjectProducer(client, ConfigMapField(namespace, KEY), utc_now)
        assert (await seen(weak)).value is FlagValue.RUNNING
        got = await weak.pause(owner=OWNER, token=TOKEN, at=utc_now())
    finally:
        await client.close()
    assert isinstance(got, Unknown)
    assert got.why is Why.NO_PERMISSION
    assert "rbac.producers.configMaps.pause=true" in got.message
    assert person.read()["data"] == BEFORE
