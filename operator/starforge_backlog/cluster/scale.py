"""Writes `replicas`, only if the workload is still the one that the decision saw."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.api.policy import Target
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.kinds import KindResolver
from starforge_backlog.snapshot import Unknown


@dataclass(frozen=True, slots=True)
class Scaled:
    """Written."""

    replicas: int
    version: str  # of the workload after the write


@dataclass(frozen=True, slots=True)
class ScaleConflict:
    """Not written: somebody changed the workload since it was read. The next pass looks again."""

    message: str


ScaleResult = Scaled | ScaleConflict | Unknown


class ReplicaWriter:
    """The only writer of replicas (DESIGN §2, P1 and P9)."""

    def __init__(self, client: ClusterClient, clock: Clock = utc_now) -> None:
        self._client = client
        self._clock = clock
        self._kinds = KindResolver(client)

    async def write(
        self, namespace: str, target: Target, *, replicas: int, version: str
    ) -> ScaleResult:
        """Set replicas through the scale subresource if its version is still `version`."""
        if not version:
            # An empty version is no precondition to the API server: it would write blindly.
            return ScaleConflict("the version of the workload is not known; read it first")
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        try:
            resource = await self._kinds.resolve(target.api_version, target.kind)
            written = await self._client.patch(resource, namespace, target.name, body, sub="scale")
        except ClusterFault as fault:
            if fault.kind is FaultKind.CONFLICT:
                return ScaleConflict(fault.message)
            return fault.unknown(self._clock())
        return Scaled(int(written["spec"]["replicas"]), written["metadata"]["resourceVersion"])
