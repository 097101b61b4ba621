"""Objects of a real API server: a person who writes them, and operators that pause by them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tests.e2e.api import MERGE, Api, Json

from local.cluster import LocalCluster
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.marks import ANNOTATION
from starforge_backlog.decide.results import Paused, Resumed
from starforge_backlog.producers.marked_object import Field, MarkedObjectProducer
from starforge_backlog.snapshot import Known, ProducerReading

AT: Final = datetime(2026, 1, 1, 3, tzinfo=UTC)
OWNER: Final = "ns/etl"
TOKEN: Final = "uid/api/1"
APPLY: Final = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Person:
    """Another client with kubectl, and a name that `managedFields` shows."""

    api: Api
    path: str  # of the object

    def read(self) -> Json:
        return self.api.get(self.path)

    def marks(self) -> Any:
        """What the annotation says; None without it."""
        text = (self.read()["metadata"].get("annotations") or {}).get(ANNOTATION)
        return json.loads(text) if text is not None else None

    def write(self, body: Json, manager: str = "kubectl-edit", *, sub: str = "") -> Json:
        """A merge patch."""
        return self.api.send(
            "PATCH", self.path + sub, body, content=MERGE, query={"fieldManager": manager}
        )

    def apply(self, body: Json, manager: str = "argocd-controller") -> Json:
        """Server-side apply, as GitOps does."""
        query = {"fieldManager": manager, "force": "true"}
        return self.api.send("PATCH", self.path, body, content=APPLY, query=query)

    def delete(self) -> None:
        self.api.delete(self.path)


@asynccontextmanager
async def operators(cluster: LocalCluster, field: Field, count: int = 1) -> AsyncIterator[Any]:
    """So many operators, each with a client of its own."""
    clients = [
        await ClusterClient.connect({"KUBECONFIG": str(cluster.kubeconfig)}) for _ in range(count)
    ]
    try:
        yield [MarkedObjectProducer(client, field, utc_now) for client in clients]
    finally:
        for client in clients:
            await client.close()


async def paused(producer: MarkedObjectProducer, token: str = TOKEN) -> Paused:
    got = await producer.pause(owner=OWNER, token=token, at=AT, why="5,200 wait")
    assert isinstance(got, Paused), got
    return got


async def resumed(
    producer: MarkedObjectProducer, after: Paused | None = None, token: str = TOKEN
) -> Resumed:
    """With what the status kept, or with its token alone."""
    version, previous = (after.version, after.previous) if after is not None else ("", None)
    got = await producer.resume(token=token, version=version, previous=previous)
    assert isinstance(got, Resumed), got
    return got


async def seen(producer: MarkedObjectProducer) -> ProducerReading:
    got = await producer.read()
    assert isinstance(got, Known), got
    return got.value
