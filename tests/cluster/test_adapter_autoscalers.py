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
async def test_a_paused_scaled_object_is_distinguished(
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
async def test_a_scaled_object_is_reported_rather_than_what_keda_made_of_it(
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

        async def read() -> Known[Autoscaler | None] | None:
            reading = await reader.read(namespace, PLAIN)
            return reading if isinstance(reading, Known) else None

        assert ((await until(read, "the right")).value is not None) == known
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
    ("document", "why", "fix"),
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
    fix: str,
) -> None:
    if document is not None:
        apply(cluster, namespace, document)
    reading = await AutoscalerReader(adapter[0]).read(namespace, guarding())
    assert isinstance(reading, Unknown)
    assert reading.why is why
    assert fix in reading.message


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
async def test_one_that_was_made_again_is_not_beside_itself(
    cluster: LocalCluster, namespace: str, reader: AutoscalerReader
) -> None:
    guard = guarding("so", "scaledObject")
    apply(cluster, namespace, scaled_object())
    assert (await guarded(reader, namespace, guard)).beside == ""
    cluster.kubectl("delete", "-n", namespace, "scaledobject/so")
    apply(cluster, namespace, scaled_object())
    assert (await guarded(reader, namespace, guard)).beside == "", "the list is still the old one"
