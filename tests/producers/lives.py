"""What `nursery` gives birth to: producers made from words on a command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.producers.webhook_api import producer_of

from starforge_backlog.api.pausing import WorkloadKind
from starforge_backlog.api.policy import ConfigMapKey, PausedWorkload
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.producers.config_map import ConfigMapField
from starforge_backlog.producers.marked_object import Field, MarkedObjectProducer
from starforge_backlog.producers.webhook import WebhookProducer
from starforge_backlog.producers.workload import WorkloadField


@asynccontextmanager
async def by_object(
    kubeconfig: str, namespace: str, kind: str, name: str
) -> AsyncIterator[MarkedObjectProducer]:
    """By a ConfigMap's default key, or by a workload."""
    client = await ClusterClient.connect({"KUBECONFIG": kubeconfig})
    try:
        yield MarkedObjectProducer(client, field_of(namespace, kind, name), utc_now)
    finally:
        await client.close()


def field_of(namespace: str, kind: str, name: str) -> Field:
    if kind == "ConfigMap":
        return ConfigMapField(namespace, ConfigMapKey(name=name))
    return WorkloadField(namespace, PausedWorkload(kind=WorkloadKind(kind), name=name), None)


@asynccontextmanager
async def by_webhook(url: str) -> AsyncIterator[WebhookProducer]:
    caller = HttpCaller()
    try:
        yield producer_of(caller, url, seconds=2)
    finally:
        await caller.close()
