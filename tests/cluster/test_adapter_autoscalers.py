"""Autoscalers on a real API server: who scales a target, and which one guards it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.autoscalers import (
    HPA,
    PLAIN,
    SCALED_OBJECT,
    Timer,
    found,
    guarded,
    guarding,
    keda_follows,
    owned_by_scaled_object,
    somebody,
)
from tests.cluster.keda import Json, autoscaler, scaled_object
from tests.cluster.support import Requests, apply, until

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.autoscaler_lists import (
    BELIEVED_AFTER_A_LIST_SECONDS,
    KEEP_ABSENT_SECONDS,
    KEEP_SECONDS,
)
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.autoscalers_write import PAUSES_SECONDS, MaximumWriter
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.snapshot import Autoscaler, Known, Unknown, Why

pytestmark = pytest.mark.cluster


# --- a cluster without KEDA; first, because the CRD stays ---------------------------------------


async def test_without_keda_there_is_none_and_it_is_asked_for_once_a_minute(
    cluster: LocalCluster,
    namespace: str,
    adapter: tuple[ClusterClient, Requests],
    reader: AutoscalerReader,
    timer: Timer,
) -> None:
    cluster.kubectl("delete", "crd", "scaledobjects.keda.sh", "--ignore-not-found")

    async def gone() -> bool | None:
        await AutoscalerReader(adapter[0]).read(namespace, PLAIN)
        return True if adapter[1].made[-1] == ("list", "scaledobjects", "404") else None

    await until(gone, "the CRD's end")
    before = len(adapter[1].made)
    for seconds in (0.0, KEEP_SECONDS, KEEP_SECONDS, KEEP_ABSENT_SECONDS):
        timer.now += seconds
        assert await found(reader, namespace) is None
    asked = [resource for _, resource, _ in adapter[1].since(before)]
    assert asked.count("scaledobjects") == 2
    assert asked.count("horizontalpodautoscalers") == 4


# --- who scales a target -----------------------------------------------------------------------


@pytest.mark.usefixtures("keda")
async def test_one_list_serves_all_policies_of_a_namespace(
    cluster: LocalCluster,
    namespace: str,
    adapter: tuple[ClusterClient, Requests],
    reader: AutoscalerReader,
) -> None:
    apply(cluster, namespace, autoscaler())
    before = len(adapter[1].made)
    for name in ("etl-worker", "another", "third"):
        await found(reader, namespace, Target(name=name))
    assert len(adapter[1].since(before)) == 2


@pytest.mark.usefixtures("keda")
@pytest.mark.parametrize(
    ("document", "scales"),
    [
        (autoscaler(minimum=2, maximum=9), (HPA, 2, 9)),
        (autoscaler(), (HPA, 1, 20)),
        (scaled_object(), (SCALED_OBJECT, 0, 100)),
        (scaled_object(minReplicaCount=1, maxReplicaCount=7), (SCALED_OBJECT, 1, 7)),
        (autoscaler(target={"apiVersion": "apps/v1", "kind": "Deployment", "name": "x"}), None),
        (
            autoscaler(
                target={"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "etl-worker"}
            ),
            None,
        ),
        (scaled_object(target={"kind": "StatefulSet", "name": "etl-worker"}), None),
        (
            scaled_object(target={"apiVersion": "argoproj.io/v1alpha1", "name": "etl-worker"}),
            None,
        ),
    ],
)
async def test_who_scales_it(
    cluster: LocalCluster,
    namespace: str,
    reader: AutoscalerReader,
    document: Json,
    scales: tuple[str, int, int] | None,
) -> None:
    apply(cluster, namespace, document)
    seen = await found(reader, namespace)
    assert (None if seen is None else (seen.kind, seen.minimum, seen.maximum)) == scales


@pytest.mark.usefixtures("keda")
async def test_a_paused_scaled_object_is_told_apart(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, timer: Timer
) -> None:
    apply(cluster, namespace, scaled_object())
    pause = ["annotate", "-n", namespace, "scaledobject/so", "autoscaling.keda.sh/paused=true"]
    cluster.kubectl(*pause)
    seen = await found(reader, namespace)
    assert seen is not None
    assert seen.paused
    # Paused at a number, KEDA keeps it there.
    cluster.kubectl(*pause[:-1], "autoscaling.keda.sh/paused-replicas=3")
    timer.now += KEEP_SECONDS
    seen = await found(reader, namespace)
    assert seen is not None
    assert (seen.paused, seen.held_at) == (False, 3)


async def test_one_that_was_made_or_deleted_counts_soon(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader, timer: Timer
) -> None:
    assert await found(reader, namespace) is None
    apply(cluster, namespace, autoscaler())
    timer.now += KEEP_SECONDS
    assert await found(reader, namespace) is not None
    cluster.kubectl("delete", "-n", namespace, "hpa/hpa")
    timer.now += KEEP_SECONDS
    assert await found(reader, namespace) is None


@pytest.mark.usefixtures("keda")
async def test_a_scaled_object_is_told_rather_than_what_keda_made_of_it(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader
) -> None:
    """Its autoscaler would be made again, and is refused as a guard."""
    apply(cluster, namespace, scaled_object())
    keda_follows(cluster, namespace, maximum=100)
    seen = await found(reader, namespace)
    assert seen is not None
    assert (seen.kind, seen.name) == (SCALED_OBJECT, "so")


def grant(cluster: LocalCluster, namespace: str, verb: str = "create") -> None:
    """The right to list autoscalers, or with `delete` its end."""
    where = ["-n", namespace, "lister"]
    if verb == "create":
        rights = "horizontalpodautoscalers.autoscaling,scaledobjects.keda.sh"
        cluster.kubectl("create", "role", *where, "--verb=list", f"--resource={rights}")
        account = f"--serviceaccount={namespace}:nobody"
        cluster.kubectl("create", "rolebinding", *where, "--role=lister", account)
    else:
        cluster.kubectl("delete", "rolebinding", *where)


async def refused(reader: AutoscalerReader, namespace: str) -> Why:
    reading = await reader.read(namespace, PLAIN)
    assert isinstance(reading, Unknown), reading
    return reading.why


async def test_a_refusal_of_the_first_moments_is_not_believed(
    cluster: LocalCluster, namespace: str, timer: Timer, tmp_path: Path
) -> None:
    """An API server that has just started refuses everybody for a second or two."""
    async with somebody(cluster, namespace, tmp_path, timer) as (reader, _):
        assert await refused(reader, namespace) is Why.PERMISSION_LOST
        grant(cluster, namespace)

        async def allowed() -> bool | None:
            # Nothing is kept of the refusal: the very next question is asked.
            return True if isinstance(await reader.read(namespace, PLAIN), Known) else None

        await until(allowed, "the right that was granted")


@pytest.mark.parametrize("known", [True, False])
async def test_a_right_that_was_there_is_missed_for_long(
    cluster: LocalCluster, namespace: str, timer: Timer, tmp_path: Path, known: bool
) -> None:
    """Whoever was seen to scale the target is not forgotten because of a refusal."""
    async with somebody(cluster, namespace, tmp_path, timer) as (reader, _):
        if known:
            apply(cluster, namespace, autoscaler())
        grant(cluster, namespace)

        async def looked() -> Known[Autoscaler | None] | None:
            reading = await reader.read(namespace, PLAIN)
            return reading if isinstance(reading, Known) else None

        assert ((await until(looked, "the right")).value is not None) == known
        grant(cluster, namespace, "delete")

        async def lost() -> bool | None:
            timer.now += KEEP_SECONDS
            return True if isinstance(await reader.read(namespace, PLAIN), Unknown) else None

        await until(lost, "the right is gone")
        assert await refused(reader, namespace) is Why.PERMISSION_LOST
        timer.now += BELIEVED_AFTER_A_LIST_SECONDS
        ends = Why.PERMISSION_LOST if known else Why.NO_PERMISSION
        assert await refused(reader, namespace) is ends


# --- a guard -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "why", "mend"),
    [
        (None, Why.AUTOSCALER_NOT_FOUND, "create it, or take spec.target.guard away"),
        (
            autoscaler(target={"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}),
            Why.GUARD_MISMATCH,
            "scales Deployment web and not Deployment etl-worker",
        ),
    ],
)
async def test_what_is_no_guard(
    cluster: LocalCluster,
    namespace: str,
    adapter: tuple[ClusterClient, Requests],
    document: Json | None,
    why: Why,
    mend: str,
) -> None:
    if document is not None:
        apply(cluster, namespace, document)
    reading = await AutoscalerReader(adapter[0]).read(namespace, guarding())
    assert isinstance(reading, Unknown)
    assert reading.why is why
    assert mend in reading.message


@pytest.mark.usefixtures("keda")
async def test_an_autoscaler_of_a_scaled_object_is_no_guard(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader
) -> None:
    # Its owner has to exist: the garbage collector takes what belongs to nobody, sooner or later.
    apply(cluster, namespace, scaled_object())
    apply(cluster, namespace, autoscaler(owner=owned_by_scaled_object(cluster, namespace)))
    reading = await reader.read(namespace, guarding())
    assert isinstance(reading, Unknown)
    assert reading.why is Why.GUARD_MISMATCH
    assert "guard that one: spec.target.guard.scaledObject: so" in reading.message


@pytest.mark.usefixtures("keda")
async def test_another_one_beside_the_guard_is_named(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader
) -> None:
    apply(cluster, namespace, autoscaler(), scaled_object())
    assert (await guarded(reader, namespace)).beside == "ScaledObject so"


@pytest.mark.usefixtures("keda")
async def test_a_scaled_objects_own_autoscaler_is_not_another_one(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader
) -> None:
    apply(cluster, namespace, scaled_object())
    owner = owned_by_scaled_object(cluster, namespace)
    apply(cluster, namespace, autoscaler("keda-hpa-so", owner=owner))
    assert (await guarded(reader, namespace, guarding("so", "scaledObject"))).beside == ""


@pytest.mark.usefixtures("keda")
async def test_one_that_was_made_anew_is_not_beside_itself(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader
) -> None:
    guard = guarding("so", "scaledObject")
    apply(cluster, namespace, scaled_object())
    assert (await guarded(reader, namespace, guard)).beside == ""
    cluster.kubectl("delete", "-n", namespace, "scaledobject/so")
    apply(cluster, namespace, scaled_object())
    assert (await guarded(reader, namespace, guard)).beside == "", "the list is still the old one"


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


async def test_gone_and_made_anew_there_is_nothing_to_restore(
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
