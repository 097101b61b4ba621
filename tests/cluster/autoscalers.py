"""Autoscalers of a namespace, as they are read, stored, lowered and restored."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.keda import Json, autoscaler
from tests.cluster.support import admin, connected

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.autoscalers import AutoscalerReader
from starforge_backlog.cluster.autoscalers_write import MaximumWriter
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.decide.results import MaximumResult
from starforge_backlog.snapshot import Autoscaler, Known

HPA, SCALED_OBJECT = "HorizontalPodAutoscaler", "ScaledObject"
PATHS = {
    "hpa": "/apis/autoscaling/v2/namespaces/%s/horizontalpodautoscalers",
    "scaledobject": "/apis/keda.sh/v1alpha1/namespaces/%s/scaledobjects",
}
PLAIN = Target(name="etl-worker")
TOKEN = "uid-1/hpa/2026-01-01T00:00:00.000+00:00"


class Timer:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def guarding(name: str = "hpa", kind: str = "horizontalPodAutoscaler") -> Target:
    return Target.model_validate({"name": "etl-worker", "guard": {kind: name}})


async def found(
    reader: AutoscalerReader, namespace: str, target: Target = PLAIN
) -> Autoscaler | None:
    reading = await reader.read(namespace, target)
    assert isinstance(reading, Known), reading
    return reading.value


async def guarded(
    reader: AutoscalerReader, namespace: str, target: Target | None = None
) -> Autoscaler:
    seen = await found(reader, namespace, target or guarding())
    assert seen is not None
    return seen


def stored(cluster: LocalCluster, namespace: str, what: str = "hpa/hpa") -> Json:
    kind, _, name = what.partition("/")
    with admin(cluster) as api:
        return api.get(f"{PATHS[kind] % namespace}/{name}")


def owned_by_scaled_object(cluster: LocalCluster, namespace: str) -> Json:
    """The owner reference that KEDA gives the autoscaler it makes."""
    uid = stored(cluster, namespace, "scaledobject/so")["metadata"]["uid"]
    return {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "so", "uid": uid}


def keda_follows(
    cluster: LocalCluster, namespace: str, *, maximum: int, ready: tuple[str, str] = ("True", "")
) -> None:
    """What KEDA does with a new ScaledObject, with a maximum of its own: it copies annotations."""
    whole = stored(cluster, namespace, "scaledobject/so")
    own = autoscaler(
        "keda-hpa-so", maximum=maximum, owner=owned_by_scaled_object(cluster, namespace)
    )
    own["metadata"]["annotations"] = whole["metadata"]["annotations"]
    condition = {
        "type": "Ready",
        "status": ready[0],
        "reason": "ScaledObjectCheckFailed",
        "message": ready[1],
    }
    status = {"status": {"hpaName": "keda-hpa-so", "conditions": [condition]}}
    with admin(cluster) as api:
        api.create(PATHS["hpa"] % namespace, own)
        api.patch(f"{PATHS['scaledobject'] % namespace}/so/status", status)


def hpa_maximum(cluster: LocalCluster, namespace: str) -> int:
    return int(stored(cluster, namespace, "hpa/keda-hpa-so")["spec"]["maxReplicas"])


async def lower(writer: MaximumWriter, namespace: str, seen: Autoscaler, to: int) -> MaximumResult:
    got = await writer.write(
        namespace,
        seen.kind,
        seen.name,
        seen=seen.maximum,
        to=to,
        previous=seen.maximum if seen.kept_maximum is None else seen.kept_maximum,
        implicit=seen.implicit or seen.kept_implicit,
        token=TOKEN,
        version=seen.version,
    )
    assert isinstance(got, MaximumResult), got
    return got


async def restore(
    writer: MaximumWriter, namespace: str, kind: str = HPA, name: str = "hpa", **how: Any
) -> MaximumResult:
    got = await writer.restore(namespace, kind, name, **{"token": TOKEN, **how})
    assert isinstance(got, MaximumResult), got
    return got


# --- a refusal is no knowledge at once ---------------------------------------------------------


@asynccontextmanager
async def somebody(
    cluster: LocalCluster, namespace: str, folder: Path, timer: Timer
) -> AsyncIterator[tuple[AutoscalerReader, ClusterClient]]:
    """A reader, and its client, under a ServiceAccount without rights."""
    cluster.kubectl("create", "serviceaccount", "-n", namespace, "nobody")
    token = cluster.kubectl("create", "token", "-n", namespace, "nobody").strip()
    unprivileged = Path(shutil.copy(cluster.kubeconfig, folder / "kubeconfig"))
    config = ["config", "--kubeconfig", str(unprivileged)]
    cluster.kubectl(*config, "set-credentials", "nobody", f"--token={token}")
    cluster.kubectl(*config, "set-context", "--current", "--user=nobody")
    async with connected(unprivileged) as (client, _):
        yield AutoscalerReader(client, monotonic=timer), client
