"""The finalizer that holds a policy until what it paused is released, taken off by ourselves.

The framework adds and removes it while it watches. It does not watch a resource whose CRD was
terminating when it began, and a policy whose operator is gone is watched by nobody.
"""

from __future__ import annotations

from typing import Final

from starforge_backlog.api import GROUP
from starforge_backlog.cluster.client import POLICIES, ClusterClient, Json
from starforge_backlog.cluster.errors import ClusterFault, FaultKind

FINALIZER: Final = f"{GROUP}/release"
# Conflicts with other writers of the policy that are retried; each retry reads it again.
CONFLICT_RETRIES = 5


def holds(body: Json) -> bool:
    """Whether our finalizer is on it."""
    return FINALIZER in (body["metadata"].get("finalizers") or ())


async def remove_finalizer(client: ClusterClient, namespace: str, name: str, uid: str) -> None:
    """Take ours off and leave those of others. A policy that is gone, or is another one by now, is
    as good. Raises ClusterFault."""
    for attempt in range(1, CONFLICT_RETRIES + 1):
        try:
            body = await client.get(POLICIES, namespace, name)
            if body["metadata"]["uid"] != uid or not holds(body):
                return
            left = [f for f in body["metadata"]["finalizers"] if f != FINALIZER]
            # The version makes it conditional: a finalizer that came meanwhile is not lost.
            version = body["metadata"]["resourceVersion"]
            meta = {"finalizers": left, "resourceVersion": version}
            await client.patch(POLICIES, namespace, name, {"metadata": meta})
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                return
            if fault.kind is not FaultKind.CONFLICT or attempt == CONFLICT_RETRIES:
                raise
        else:
            return
