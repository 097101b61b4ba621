"""The maximum of an autoscaler on a real API server: lowered, followed by KEDA, and restored."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.cluster.autoscalers import (
    HPA,
    PLAIN,
    SCALED_OBJECT,
    TOKEN,
    Timer,
    guarded,
    guarding,
    hpa_maximum,
    keda_follows,
    lower,
    restore,
    somebody,
    stored,
)
from tests.cluster.keda import Json, autoscaler, scaled_object
from tests.cluster.support import apply, connected, workload

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.autoscaler_lists import (
    BELIEVED_AFTER_SECONDS,
)
from starforge_backlog.cluster.autoscaler_object import KINDS
from starforge_backlog.cluster.autoscaler_object import autoscaler as parsed
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.autoscalers_write import PAUSES_SECONDS, MaximumWriter
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.decide.results import MaximumOutcome, MaximumResult
from starforge_backlog.snapshot import Follower, Unknown, Why

pytestmark = pytest.mark.cluster


# --- what KEDA makes of a ScaledObject ---------------------------------------------------------


@pytest.mark.usefixtures("keda")
async def test_kedas_own_autoscaler_is_read_and_lowered_with_it(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    guard = guarding("so", "scaledObject")
    apply(cluster, namespace, scaled_object(maxReplicaCount=20))
    assert (await guarded(reader, namespace, guard)).follower is None, "KEDA has not begun"
    await lower(writer, namespace, await guarded(reader, namespace, guard), 4)
    keda_follows(cluster, namespace, maximum=20, ready=("False", "PostgreSQL is full"))
    seen = await guarded(reader, namespace, guard)
    assert seen.follower == Follower("keda-hpa-so", 1, 20)
    assert seen.complaint == "ScaledObjectCheckFailed: PostgreSQL is full"
    own = parsed(KINDS[HPA], stored(cluster, namespace, "hpa/keda-hpa-so"))
    assert (own.token, own.owner) == (None, "so"), "KEDA copies our mark; it is not that one's"
    for to, shows in ((4, 4), (9, 4)):
        done = await writer.follow(namespace, "keda-hpa-so", owner=seen.uid, to=to)
        assert (done, hpa_maximum(cluster, namespace)) == (
            MaximumResult(MaximumOutcome.WRITTEN, shows),
            shows,
        )


@pytest.mark.usefixtures("keda")
async def test_an_autoscaler_of_somebody_else_is_not_kedas(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    apply(cluster, namespace, scaled_object(maxReplicaCount=20))
    keda_follows(cluster, namespace, maximum=20)
    cluster.kubectl("delete", "-n", namespace, "hpa/keda-hpa-so")
    apply(cluster, namespace, autoscaler("keda-hpa-so", maximum=20))
    seen = await guarded(reader, namespace, guarding("so", "scaledObject"))
    assert seen.follower is None
    done = await writer.follow(namespace, "keda-hpa-so", owner=seen.uid, to=4)
    assert isinstance(done, MaximumResult)
    assert done.outcome is MaximumOutcome.NOT_OURS
    assert hpa_maximum(cluster, namespace) == 20


@pytest.mark.usefixtures("keda")
async def test_lowered_while_keda_writes_the_object_again_and_again(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    """In a ScaledObject's first second: finalizer, label, conditions, name of the autoscaler."""
    apply(cluster, namespace, scaled_object(maxReplicaCount=20))
    seen = await guarded(reader, namespace, guarding("so", "scaledObject"))

    async def first_second(client: ClusterClient) -> None:
        # Fewer than the attempts of ours: on a busy machine each may meet one of them.
        for number in range(len(PAUSES_SECONDS) - 1):
            body = {"metadata": {"labels": {"number": str(number)}}}
            await client.patch(KINDS[SCALED_OBJECT].resource, namespace, "so", body)
            await asyncio.sleep(0.06)

    async with connected(cluster.kubeconfig) as (client, _):
        keda = asyncio.create_task(first_second(client))
        await asyncio.sleep(0.06)
        done = await lower(writer, namespace, seen, 4)
        await keda
    assert done.outcome is MaximumOutcome.WRITTEN
    assert (await guarded(reader, namespace, guarding("so", "scaledObject"))).ours


@pytest.mark.usefixtures("keda")
@pytest.mark.parametrize("how", ["made again", "applied over it"])
async def test_an_object_from_a_backup_gets_its_owners_maximum_back(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter, how: str
) -> None:
    """The backup was taken while the maximum was lowered, so it holds our mark."""
    guard = guarding("so", "scaledObject")
    apply(cluster, namespace, scaled_object(maxReplicaCount=20))
    before = await guarded(reader, namespace, guard)
    await lower(writer, namespace, before, 6)
    backup = stored(cluster, namespace, "scaledobject/so")
    backup["metadata"] = {k: backup["metadata"][k] for k in ("name", "annotations")}
    if how == "made again":
        cluster.kubectl("delete", "-n", namespace, "scaledobject/so")
    else:
        await restore(writer, namespace, SCALED_OBJECT, "so")
    del backup["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    apply(cluster, namespace, backup)
    seen = await guarded(reader, namespace, guard)
    assert (seen.maximum, seen.kept_maximum, seen.copied, seen.ours) == (6, 20, True, True)
    done = await restore(writer, namespace, SCALED_OBJECT, "so", uid=before.uid)
    assert (done.outcome, done.maximum) == (MaximumOutcome.WRITTEN, 20)
    assert (await guarded(reader, namespace, guard)).token is None


# --- lowered and restored ----------------------------------------------------------------------

OF_EACH_KIND = [
    (autoscaler(maximum=20), guarding(), "hpa/hpa", "maxReplicas", 20),
    (
        scaled_object(maxReplicaCount=20),
        guarding("so", "scaledObject"),
        "scaledobject/so",
        "maxReplicaCount",
        20,
    ),
    (
        scaled_object(),
        guarding("so", "scaledObject"),
        "scaledobject/so",
        "maxReplicaCount",
        None,
    ),
]


@pytest.mark.usefixtures("keda")
@pytest.mark.parametrize(("document", "target", "what", "key", "owners"), OF_EACH_KIND)
async def test_lowered_twice_and_restored_as_it_was(
    cluster: LocalCluster,
    namespace: str,
    reader: AutoscalerReader,
    writer: MaximumWriter,
    document: Json,
    target: Target,
    what: str,
    key: str,
    owners: int | None,
) -> None:
    apply(cluster, namespace, document)
    before = stored(cluster, namespace, what)
    for to in (11, 4):
        seen = await guarded(reader, namespace, target)
        assert (await lower(writer, namespace, seen, to)).outcome is MaximumOutcome.WRITTEN
        now = await guarded(reader, namespace, target)
        assert (now.maximum, now.written, now.token) == (to, to, TOKEN)
        assert (now.kept_maximum, now.kept_implicit) == (owners or 100, owners is None)
        assert now.writer is not None
        assert now.writer.manager == "starforge-backlog"
    done = await restore(writer, namespace, now.kind, now.name, uid=now.uid, most=owners or 100)
    assert done.outcome is MaximumOutcome.WRITTEN
    after = stored(cluster, namespace, what)
    assert after["spec"] == before["spec"]
    assert after["spec"].get(key) == owners
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]


async def test_a_stale_decision_is_void_and_a_status_that_moved_is_not(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    apply(cluster, namespace, autoscaler())
    seen = await guarded(reader, namespace)
    cluster.kubectl("annotate", "-n", namespace, "hpa/hpa", "somebody=else")
    assert (await lower(writer, namespace, seen, 5)).outcome is MaximumOutcome.WRITTEN
    cluster.kubectl("patch", "-n", namespace, "hpa/hpa", "-p", '{"spec": {"maxReplicas": 15}}')
    stale = await lower(writer, namespace, seen, 3)
    assert (stale.outcome, stale.maximum) == (MaximumOutcome.CHANGED, 15)
    assert stored(cluster, namespace)["spec"]["maxReplicas"] == 15


async def test_what_somebody_wrote_over_ours_stays_and_the_mark_goes(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    apply(cluster, namespace, autoscaler())
    await lower(writer, namespace, await guarded(reader, namespace), 5)
    cluster.kubectl("patch", "-n", namespace, "hpa/hpa", "-p", '{"spec": {"maxReplicas": 15}}')
    changed = await guarded(reader, namespace)
    assert (changed.maximum, changed.written, changed.token) == (15, 5, TOKEN)
    assert changed.writer is not None
    assert changed.writer.manager == "kubectl-patch"
    done = await restore(writer, namespace)
    assert (done.outcome, done.maximum) == (MaximumOutcome.NOT_OURS, 15)
    assert (await guarded(reader, namespace)).token is None


async def test_somebody_who_came_back_to_our_number_keeps_it(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    apply(cluster, namespace, autoscaler())
    await lower(writer, namespace, await guarded(reader, namespace), 5)
    assert (await guarded(reader, namespace)).ours
    for number in (6, 5):
        patch = f'{{"spec": {{"maxReplicas": {number}}}}}'
        cluster.kubectl("patch", "-n", namespace, "hpa/hpa", "-p", patch)
    assert not (await guarded(reader, namespace)).ours
    done = await restore(writer, namespace)
    assert (done.outcome, done.maximum) == (MaximumOutcome.NOT_OURS, 5)


async def test_only_our_own_mark_is_undone(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    apply(cluster, namespace, autoscaler())
    assert (await restore(writer, namespace)).outcome is MaximumOutcome.NOT_OURS
    await lower(writer, namespace, await guarded(reader, namespace), 5)
    other = await restore(writer, namespace, token="uid-2/hpa/later")
    assert other.outcome is MaximumOutcome.NOT_OURS
    assert (await guarded(reader, namespace)).maximum == 5
    # Killed between an intent and its write, the status has a younger token than the object.
    younger = await restore(writer, namespace, token="uid-1/hpa/later")
    assert younger.outcome is MaximumOutcome.WRITTEN


async def test_more_than_was_decided_is_not_restored(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, writer: MaximumWriter
) -> None:
    apply(cluster, namespace, autoscaler())
    await lower(writer, namespace, await guarded(reader, namespace), 5)
    got = await restore(writer, namespace, most=15)
    assert got.outcome is MaximumOutcome.CHANGED
    assert (await guarded(reader, namespace)).maximum == 5


async def test_gone_and_made_again_there_is_nothing_to_restore(
    cluster: LocalCluster, namespace: str, writer: MaximumWriter
) -> None:
    assert (await restore(writer, namespace)).outcome is MaximumOutcome.GONE
    apply(cluster, namespace, autoscaler())
    assert (await restore(writer, namespace, uid="another")).outcome is MaximumOutcome.GONE


async def test_without_the_right_each_message_names_the_chart_value(
    cluster: LocalCluster, namespace: str, tmp_path: Path, timer: Timer
) -> None:
    apply(cluster, namespace, workload(), autoscaler())
    async with somebody(cluster, namespace, tmp_path, timer) as (reader, client):
        await reader.read(namespace, PLAIN)
        timer.now += BELIEVED_AFTER_SECONDS
        plain = await reader.read(namespace, PLAIN)
        guard = await reader.read(namespace, guarding())
        write = await MaximumWriter(client).restore(namespace, HPA, "hpa", token=TOKEN)
    for reading in (plain, guard, write):
        assert isinstance(reading, Unknown)
        assert reading.why is Why.NO_PERMISSION
        assert "rbac.autoscalers" in reading.message
