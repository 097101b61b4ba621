"""Targets and their scale on a real API server with its controllers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cluster.support import TARGET, Requests, apply, connected, until, workload

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.client import ClusterClient, Json
from starforge_backlog.cluster.scale import ReplicaWriter, ScaleConflict, Scaled
from starforge_backlog.cluster.secrets import KeyValueStore
from starforge_backlog.cluster.workload import WorkloadReader
from starforge_backlog.snapshot import Known, Unknown, Why, Workload

pytestmark = pytest.mark.cluster


@pytest.fixture
async def adapter(cluster: LocalCluster) -> AsyncIterator[tuple[ClusterClient, Requests]]:
    async with connected(cluster.kubeconfig) as found:
        yield found


@pytest.fixture
def client(adapter: tuple[ClusterClient, Requests]) -> ClusterClient:
    return adapter[0]


@pytest.fixture
def reader(client: ClusterClient) -> WorkloadReader:
    return WorkloadReader(client, KeyValueStore(client))


@pytest.fixture
def writer(client: ClusterClient) -> ReplicaWriter:
    return ReplicaWriter(client)


async def seen(reader: WorkloadReader, namespace: str, target: Target = TARGET) -> Workload:
    found, _ = await reader.read(namespace, target)
    assert isinstance(found, Known), found
    return found.value


async def step(
    writer: ReplicaWriter,
    reader: WorkloadReader,
    namespace: str,
    replicas: int,
    target: Target = TARGET,
) -> Workload:
    """A write as a pass makes it, which must succeed; what is there afterwards. On a busy machine
    the controller may write between all of our attempts: then the next pass tries."""
    for _ in range(5):
        now = await seen(reader, namespace, target)
        written = await writer.write(
            namespace,
            target,
            replicas=replicas,
            version=now.scale_version,
            generation=now.generation,
        )
        if isinstance(written, Scaled):
            break
    assert isinstance(written, Scaled), written
    assert int(written.version) > int(now.scale_version)
    return await seen(reader, namespace, target)


async def test_a_stale_version_is_refused(
    cluster: LocalCluster,
    namespace: str,
    adapter: tuple[ClusterClient, Requests],
    reader: WorkloadReader,
    writer: ReplicaWriter,
) -> None:
    apply(cluster, namespace, workload())
    before = await seen(reader, namespace)
    cluster.kubectl("annotate", "-n", namespace, "deployment/etl-worker", "a=b")
    stale = await writer.write(namespace, TARGET, replicas=7, version=before.scale_version)
    assert isinstance(stale, ScaleConflict)
    assert adapter[1].made[-1] == ("patch", "deployments/scale", "409")
    without_version = await writer.write(namespace, TARGET, replicas=9, version="")
    assert isinstance(without_version, ScaleConflict)
    assert (await seen(reader, namespace)).replicas == 2


async def test_a_version_that_moved_for_another_reason_does_not_stop_a_step(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    apply(cluster, namespace, workload())
    before = await seen(reader, namespace)
    cluster.kubectl("label", "-n", namespace, "deployment/etl-worker", "a=b")
    written = await writer.write(
        namespace,
        TARGET,
        replicas=3,
        version=before.scale_version,
        generation=before.generation,
    )
    assert isinstance(written, Scaled)
    assert (await seen(reader, namespace)).replicas == 3


async def test_to_zero_and_back(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    """The API server leaves a 0 out of the scale that it answers with, and out of the record of
    who wrote it."""
    apply(cluster, namespace, workload())
    after = await step(writer, reader, namespace, 0)
    assert (after.replicas, after.writer) == (0, None)
    assert (await step(writer, reader, namespace, 1)).replicas == 1


@pytest.mark.parametrize(
    "change",
    [
        ["scale", "deployment/etl-worker", "--replicas=5"],
        ["set", "env", "deployment/etl-worker", "PG_POOL_MAX=9"],
    ],
    ids=["scaled by another", "a rollout began"],
)
async def test_a_spec_that_moved_makes_the_decision_void(
    cluster: LocalCluster,
    namespace: str,
    reader: WorkloadReader,
    writer: ReplicaWriter,
    change: list[str],
) -> None:
    apply(cluster, namespace, workload())
    before = await seen(reader, namespace)
    cluster.kubectl("-n", namespace, *change)
    after = await seen(reader, namespace)
    late = await writer.write(
        namespace,
        TARGET,
        replicas=4,
        version=before.scale_version,
        generation=before.generation,
    )
    assert isinstance(late, ScaleConflict)
    assert "was changed since it was read" in late.message
    assert (await seen(reader, namespace)).replicas == after.replicas


async def test_the_writer_is_named_whoever_it_is(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    apply(cluster, namespace, workload())
    first = await seen(reader, namespace)
    assert first.writer is not None
    assert first.writer.manager == "kubectl-client-side-apply"
    assert first.writer.at is not None
    assert abs((datetime.now(UTC) - first.writer.at).total_seconds()) < 60

    after = await step(writer, reader, namespace, 3)
    assert after.writer is not None
    assert after.writer.manager == "starforge-backlog"

    cluster.kubectl("scale", "-n", namespace, "deployment/etl-worker", "--replicas=4")
    after = await seen(reader, namespace)
    assert after.writer is not None
    assert (after.replicas, after.writer.manager) == (4, "kubectl")
    # The API server (1.37) leaves the time out for writes through the scale subresource
    assert after.writer.at is None

    patch = '{"spec": {"replicas": 5}}'
    cluster.kubectl("patch", "-n", namespace, "deployment/etl-worker", "-p", patch)
    after = await seen(reader, namespace)
    assert after.writer is not None
    assert (after.replicas, after.writer.manager) == (5, "kubectl-patch")


async def test_an_apply_of_our_own_number_leaves_it_ours(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    server_side(cluster, namespace, workload(replicas=2))
    await step(writer, reader, namespace, 3)
    server_side(cluster, namespace, workload(replicas=3))
    same = await seen(reader, namespace)
    assert same.writer is not None
    assert same.writer.manager == "starforge-backlog"
    server_side(cluster, namespace, workload(replicas=1))
    other = await seen(reader, namespace)
    assert other.writer is not None
    assert (other.replicas, other.writer.manager) == (1, "argocd")


async def test_an_autoscaler_is_named(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "etl-worker"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "etl-worker"},
            "minReplicas": 3,  # more than there are: no metric is needed for that
            "maxReplicas": 5,
        },
    }
    apply(cluster, namespace, workload(replicas=2), autoscaler)

    async def scaled() -> Workload | None:
        now = await seen(reader, namespace)
        return now if now.replicas == 3 else None

    found = await until(scaled, "the autoscaler's step")
    assert found.writer is not None
    assert found.writer.manager.startswith("HorizontalPodAutoscaler")


def server_side(cluster: LocalCluster, namespace: str, document: Json) -> None:
    """Apply as a GitOps pipeline does."""
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--field-manager=argocd"),
        *("-n", namespace, "-f", "-"),
        stdin=json.dumps(document),
    )


async def test_what_the_controllers_make_of_it(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    apply(cluster, namespace, workload(replicas=2, paused=False))

    async def settled() -> Workload | None:
        now = await seen(reader, namespace)
        return now if not now.rolling_out and now.ready + now.pending == 2 else None

    found = await until(settled, "two pods")
    assert (found.max_surge, found.paused) == ("25%", False)
    cluster.kubectl("rollout", "pause", "-n", namespace, "deployment/etl-worker")
    # On no node: the rollout stays until a person acts.
    pods = {"nodeSelector": {"disk": "none"}, "containers": [{"name": "worker", "image": "new"}]}
    image = json.dumps({"spec": {"template": {"spec": pods}}})
    cluster.kubectl("patch", "-n", namespace, "deployment/etl-worker", "-p", image)
    assert (await seen(reader, namespace)).paused
    cluster.kubectl("rollout", "resume", "-n", namespace, "deployment/etl-worker")

    async def rolling() -> Workload | None:
        now = await seen(reader, namespace)
        return now if now.rolling_out else None

    await until(rolling, "the rollout")


async def test_a_canary_under_the_same_labels_is_no_replica(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    """Seen: no step for good, because its pods are taken for a rollout that never ends."""
    canary: dict[str, Any] = json.loads(json.dumps(workload(replicas=1)))
    canary["metadata"]["name"] = "etl-worker-canary"
    canary["spec"]["template"]["spec"]["containers"][0]["image"] = "canary"
    canary["spec"]["selector"]["matchLabels"]["track"] = "canary"
    canary["spec"]["template"]["metadata"]["labels"]["track"] = "canary"
    apply(cluster, namespace, workload(replicas=2), canary)

    async def settled() -> Workload | None:
        pods = json.loads(cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
        now = await seen(reader, namespace)
        return now if len(pods) == 3 and now.ready == 2 and not now.rolling_out else None

    found = await until(settled, "two pods of ours and one of the canary")
    assert (found.ready, found.pods, found.rolling_out) == (2, 2, False)


async def test_pods_that_a_quota_forbids(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}}
    apply(cluster, namespace, {**quota, "spec": {"hard": {"pods": "0"}}})
    full = json.dumps({"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}})
    cluster.kubectl(
        *("patch", "resourcequota", "pods", "-n", namespace, "--subresource=status"),
        *("--type=merge", "-p", full),
    )
    apply(cluster, namespace, workload(replicas=1))

    async def refused() -> Workload | None:
        now = await seen(reader, namespace)
        return now if now.not_created_why else None

    found = await until(refused, "the Deployment's condition")
    assert found.not_created_why.startswith("FailedCreate: pods ")
    assert "exceeded quota: pods" in found.not_created_why


async def test_a_rollout_that_is_stuck_says_since_when(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    apply(cluster, namespace, workload(replicas=2))

    async def ready() -> Workload | None:
        now = await seen(reader, namespace)
        return now if now.ready == 2 and not now.rolling_out else None

    before = await until(ready, "two pods")
    assert (before.stuck_since, before.changing) == (None, False)
    nowhere = {"spec": {"nodeSelector": {"disk": "none"}}}
    # The short deadline comes with what is stuck: on a slow machine the first pods miss it too.
    patch = json.dumps({"spec": {"progressDeadlineSeconds": 1, "template": nowhere}})
    begin = datetime.now(UTC)
    cluster.kubectl("patch", "-n", namespace, "deployment/etl-worker", "-p", patch)

    async def stuck() -> Workload | None:
        now = await seen(reader, namespace)
        stuck = now.stuck_since is not None and "Unschedulable" in now.not_ready_why
        return now if stuck else None

    found = await until(stuck, "the deadline")
    assert found.stuck_since is not None
    assert begin <= found.stuck_since + timedelta(seconds=1)
    assert found.stuck_since <= datetime.now(UTC)
    assert (found.rolling_out, found.changing, found.ready, found.starting) == (True, False, 2, 0)
    assert "Unschedulable" in found.not_ready_why


async def test_created_with_no_replicas_or_scaled_to_none(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    apply(cluster, namespace, workload(replicas=0))
    assert (await seen(reader, namespace)).created_at_zero
    for replicas in (1, 0):
        scale = f"--replicas={replicas}"
        cluster.kubectl("scale", "-n", namespace, "deployment/etl-worker", scale)
        assert not (await seen(reader, namespace)).created_at_zero


async def test_a_daemon_set_cannot_be_a_target(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader
) -> None:
    found, _ = await reader.read(namespace, Target(kind="DaemonSet", name="etl-worker"))
    assert isinstance(found, Unknown)
    assert found.why is Why.TARGET_NOT_SCALABLE
    assert found.message.startswith("spec.target.kind is DaemonSet (apps/v1), which has no scale")


async def test_a_stateful_set_is_a_target(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    apply(cluster, namespace, workload("StatefulSet", serviceName="etl-worker"))
    target = Target(kind="StatefulSet", name="etl-worker")

    async def settled() -> Workload | None:
        now = await seen(reader, namespace, target)
        return now if not now.rolling_out and now.ready + now.pending else None

    before = await until(settled, "a pod of the StatefulSet")
    assert (before.replicas, before.max_surge) == (2, "0")
    await step(writer, reader, namespace, 3, target)
    _, per_replica = await reader.read(namespace, target)
    assert isinstance(per_replica, Known)
    assert per_replica.value.connections == 4


WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.adapter.example.com"},
    "spec": {
        "group": "adapter.example.com",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
                "subresources": {
                    "scale": {
                        "specReplicasPath": ".spec.size",
                        "statusReplicasPath": ".status.size",
                        "labelSelectorPath": ".status.selector",
                    }
                },
            }
        ],
    },
}


async def test_a_custom_kind_with_a_scale_is_a_target(
    cluster: LocalCluster, namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    target = Target(api_version="adapter.example.com/v1", kind="Widget", name="w")
    cluster.apply(WIDGETS)
    cluster.wait("crd/widgets.adapter.example.com", "--for=condition=Established")
    pod = workload()["spec"]["template"]
    widget = {
        "apiVersion": "adapter.example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": 2, "template": pod},
        "status": {"selector": "app=etl-worker"},
    }

    async def taken() -> bool | None:
        try:
            apply(cluster, namespace, widget)
        except Exception as error:  # 429 "storage is (re)initializing", for a moment
            if "initializing" not in str(error):
                raise
            return None
        return True

    await until(taken, "the Widget")
    before = await seen(reader, namespace, target)
    assert (before.replicas, before.max_surge) == (2, "100%")
    after = await step(writer, reader, namespace, 3, target)
    assert after.replicas == 3
    # written under spec.size, and still known to be ours
    assert after.writer is not None
    assert after.writer.manager == "starforge-backlog"
    stale = await writer.write(namespace, target, replicas=9, version=before.scale_version)
    assert isinstance(stale, ScaleConflict)


async def test_a_reading_costs_two_requests(
    cluster: LocalCluster,
    namespace: str,
    adapter: tuple[ClusterClient, Requests],
    reader: WorkloadReader,
) -> None:
    apply(cluster, namespace, workload())

    async def there() -> Workload | None:
        now = await seen(reader, namespace)
        return now if now.pods == now.replicas else None

    # The environment and the controller of the pods' ReplicaSet are read once, and kept.
    await until(there, "the pods")
    before = len(adapter[1].made)
    await reader.read(namespace, TARGET)
    assert adapter[1].since(before) == [("get", "deployments", "200"), ("list", "pods", "200")]


async def test_a_missing_target_and_a_missing_kind(
    namespace: str, reader: WorkloadReader, writer: ReplicaWriter
) -> None:
    for target in (TARGET, Target(api_version="no.example.com/v1", kind="Thing", name="x")):
        found, _ = await reader.read(namespace, target)
        assert isinstance(found, Unknown)
        assert found.why is Why.TARGET_NOT_FOUND
        written = await writer.write(namespace, target, replicas=1, version="1")
        assert isinstance(written, Unknown)
