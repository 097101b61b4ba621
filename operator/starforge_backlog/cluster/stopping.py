"""Stops the operator itself: a running one puts back every finalizer that is taken off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starforge_backlog.cluster.client import PODS, ClusterClient, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind

DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
# How often to check whether its pods are gone; they end within seconds.
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stopped:
    """A Deployment at 0 replicas, and how many it had."""

    namespace: str
    name: str
    replicas: int
    selector: str  # of its pods

    def __str__(self) -> str:
        return f"Deployment {self.namespace}/{self.name}"


async def stop(client: ClusterClient, namespace: str, name: str) -> Stopped | None:
    """Scale a Deployment to 0. None: there is no such Deployment. Raises ClusterFault."""
    try:
        found = await client.get(DEPLOYMENTS, namespace, name)
    except ClusterFault as fault:
        if fault.kind is FaultKind.NOT_FOUND:
            return None
        raise
    labels = found["spec"]["selector"].get("matchLabels") or {}
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    stopped = Stopped(namespace, name, int(found["spec"].get("replicas", 1)), selector)
    if stopped.replicas:
        await _scale(client, stopped, 0)
    return stopped


async def until_ended(client: ClusterClient, stopped: Stopped, say: Callable[[str], None]) -> None:
    """Wait until its pods are gone: one that is still ending acts. The caller bounds the time.
    Raises ClusterFault."""
    reported = ""
    while True:
        pods = await client.list_objects(PODS, stopped.namespace, label_selector=stopped.selector)
        names = sorted(str(pod["metadata"]["name"]) for pod in pods)
        if not names:
            return
        waits = f"{stopped} is at 0 replicas; waiting for {', '.join(names)} to end"
        if waits != reported:
            say(waits)
        reported = waits
        await asyncio.sleep(POLL_SECONDS)


async def start_again(client: ClusterClient, stopped: Stopped) -> None:
    """With as many replicas as before. Raises ClusterFault."""
    if stopped.replicas:
        await _scale(client, stopped, stopped.replicas)


async def _scale(client: ClusterClient, one: Stopped, replicas: int) -> None:
    body = {"spec": {"replicas": replicas}}
    await client.patch(DEPLOYMENTS, one.namespace, one.name, body, sub="scale")
