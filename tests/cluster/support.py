"""What the tests of `starforge_backlog.cluster` share: objects, and a client that counts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.e2e.api import Api, Refused

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.client import ClusterClient, Json
from starforge_backlog.cluster.errors import Asked

CRDS = Path(__file__).parents[2] / "crds"
TARGET = Target(name="etl-worker")
CONFLICT: Final = 409
Found = TypeVar("Found")


class Requests:
    """What was asked of the API server, and its answers."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str, str]] = []

    def __call__(self, asked: Asked, outcome: str) -> None:
        self.made.append((asked.verb, asked.resource, outcome))

    def since(self, before: int = 0) -> list[tuple[str, str, str]]:
        return self.made[before:]


@asynccontextmanager
async def connected(kubeconfig: Path | str) -> AsyncIterator[tuple[ClusterClient, Requests]]:
    """A client under some kubeconfig, closed at the end."""
    requests = Requests()
    client = await ClusterClient.connect({"KUBECONFIG": str(kubeconfig)}, requests)
    try:
        yield client, requests
    finally:
        await client.close()


async def until(
    poll: Callable[[], Awaitable[Found | None]], what: str, within: float = 180
) -> Found:
    """Poll until there is something."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        found = await poll()
        if found is not None:
            return found
        await asyncio.sleep(0.1)
    msg = f"{what} did not come within {within:g} s"
    raise AssertionError(msg)


def workload(kind: str = "Deployment", *, replicas: int = 2, **spec: Any) -> Json:
    """An etl-worker whose pods need no process to be Ready."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "etl-worker"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "etl-worker"}},
            "template": {
                "metadata": {
                    "labels": {"app": "etl-worker"},
                    "annotations": {"local.starforge.dev/process": "none"},
                },
                "spec": {
                    "containers": [
                        {
                            "name": "worker",
                            "image": "etl-worker",
                            "env": [{"name": "PG_POOL_MAX", "value": "4"}],
                            "envFrom": [{"secretRef": {"name": "starforge-db", "optional": True}}],
                        }
                    ],
                },
            },
            **spec,
        },
    }


def policy(**spec: Any) -> Json:
    """The shortest useful policy."""
    return {
        "apiVersion": "backlog.starforge.dev/v1alpha1",
        "kind": "QueueBacklogPolicy",
        "metadata": {"name": "etl"},
        "spec": {
            "target": {"name": "etl-worker"},
            "database": {"url": {"secretKeyRef": {"name": "starforge-db", "key": "DATABASE_URL"}}},
            "queues": [{"name": "jobs", "postgres": {}}],
            **spec,
        },
    }


def admin(cluster: LocalCluster) -> AbstractContextManager[Api]:
    """The API server as cluster admin."""
    assert cluster.control_plane is not None
    return closing(Api.admin(cluster.control_plane))


def apply(cluster: LocalCluster, namespace: str, *documents: Json) -> None:
    """What `kubectl apply` does in a namespace. What is new is created as kubectl does it, without
    0.4 s of CPU for its process."""
    with admin(cluster) as api:
        for document in documents:
            if not _created(api, namespace, document):
                cluster.apply(document, namespace=namespace)


def _created(api: Api, namespace: str, document: Json) -> bool:
    version, plural = document["apiVersion"], _plural(document["kind"])
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    meta = {**document["metadata"], "namespace": namespace}
    applied = json.dumps({**document, "metadata": {**meta, "annotations": _notes(meta)}})
    notes = {**_notes(meta), "kubectl.kubernetes.io/last-applied-configuration": applied}
    try:
        api.send(
            "POST",
            f"{root}/namespaces/{namespace}/{plural}",
            {**document, "metadata": {**meta, "annotations": notes}},
            query={"fieldManager": "kubectl-client-side-apply", "fieldValidation": "Strict"},
        )
    except Refused as refused:
        if refused.status != CONFLICT:
            raise
        return False
    return True


def _notes(meta: Json) -> Json:
    return dict(meta.get("annotations") or {})


def _plural(kind: str) -> str:
    name = kind.lower()
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
