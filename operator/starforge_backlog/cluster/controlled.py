"""Which pods a target controls (P1).

A selector is no proof: a canary, a debug pod or another Deployment may carry the same labels. Taken
for the target's, they seem to be a rollout that never ends, or replicas that nobody asked for.
The chain of controllers is proof: pod → ReplicaSet → Deployment (or a Rollout), pod → StatefulSet.

What foreign pods have open counts as other clients' connections; under the workers' own role as the
surplus of `decide/budget/shared_role.py`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starforge_backlog.cluster.client import ClusterClient, Json
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.kinds import BUILT_IN
from starforge_backlog.connections.ttl_cache import MonotonicClock

REPLICA_SETS: Final = BUILT_IN["apps/v1", "ReplicaSet"]
POD_TEMPLATE_HASH: Final = "pod-template-hash"
BUILT_IN_KINDS: Final = frozenset(kind for _, kind in BUILT_IN)
# Kinds that control their pods themselves.
DIRECT: Final = frozenset({"StatefulSet", "ReplicaSet"})
# A ReplicaSet changes its controller only when it is orphaned and adopted, which a person does.
KEEP_SECONDS: Final = 600.0
# ReplicaSets that are remembered: the live ones of thousands of targets. One more costs a request.
MOST_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Controller:
    """The object that an `ownerReferences` entry with `controller: true` names."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The target whose pods are searched for."""

    kind: str
    name: str
    uid: str


class ControlledPods:
    """Distinguishes a target's pods from others under the same labels."""

    def __init__(self, client: ClusterClient, monotonic: MonotonicClock = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[Controller | None, float]] = OrderedDict()

    async def of(self, target: Owner, namespace: str, pods: Sequence[Json]) -> list[Json]:
        """Those of `pods` that the target controls, in the same order.

        Raises ClusterFault where that cannot be known for the moment. Without the right to read
        ReplicaSets their names have to do: a Deployment names them after itself.
        """
        return [pod for pod in pods if await self._controls(target, namespace, pod)]

    async def _controls(self, target: Owner, namespace: str, pod: Json) -> bool:
        built_in = target.kind in BUILT_IN_KINDS
        controller = controller_of(pod)
        if controller is not None and controller.uid == target.uid:
            return True
        if controller is not None and controller.kind == "ReplicaSet" and target.kind not in DIRECT:
            replica_set = controller
            try:
                controller = await self._controller_of_set(namespace, replica_set)
            except ClusterFault as fault:
                if fault.kind not in {FaultKind.FORBIDDEN, FaultKind.NOT_FOUND}:
                    raise
                return _named_after(target, replica_set, pod)
            if controller is not None and controller.uid == target.uid:
                return True
        # Kinds that we do not know may put objects of their own between themselves and their pods,
        # or not say whose a pod is; there the selector has to do.
        return not built_in and (controller is None or controller.kind != target.kind)

    async def _controller_of_set(self, namespace: str, found: Controller) -> Controller | None:
        known = self._known.get(found.uid)
        if known is not None and self._monotonic() < known[1]:
            return known[0]
        answer = await self._client.get(REPLICA_SETS, namespace, found.name)
        uid, controller = str(answer["metadata"]["uid"]), controller_of(answer)
        self._known[uid] = (controller, self._monotonic() + KEEP_SECONDS)
        self._known.move_to_end(uid)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        # Another one under the same name: that of the pod is gone, and so is its controller.
        return controller if uid == found.uid else None


def controller_of(found: Json) -> Controller | None:
    """The controller of an object, or None for one that nobody controls."""
    for reference in found["metadata"].get("ownerReferences") or ():
        if reference.get("controller") is True:
            kind, name = str(reference.get("kind")), str(reference.get("name"))
            return Controller(kind, name, str(reference.get("uid")))
    return None


def _named_after(target: Owner, found: Controller, pod: Json) -> bool:
    """Whether a ReplicaSet has the name that the target's Deployment controller gives it."""
    labels = pod["metadata"].get("labels") or {}
    return found.name == f"{target.name}-{labels.get(POD_TEMPLATE_HASH, '')}"
