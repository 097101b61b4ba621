"""What the tests of `starforge_backlog.cluster` share: objects, and a client that counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from local.cluster import LocalCluster
from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.client import ClusterClient, Json
from starforge_backlog.cluster.errors import Asked

CRDS = Path(__file__).parents[2] / "crds"
TARGET = Target(name="etl-worker")
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
    look: Callable[[], Awaitable[Found | None]], what: str, within: float = 30
) -> Found:
    """Look until there is something."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        found = await look()
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


def apply(cluster: LocalCluster, namespace: str, *documents: Json) -> None:
    """`kubectl apply` in a namespace."""
    cluster.apply(*documents, namespace=namespace)
