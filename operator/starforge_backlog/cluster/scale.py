"""The scale of a target: read it, and write `replicas` if they are what was decided from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starforge_backlog.api.policy import Target
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import ClusterClient, Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.kinds import BUILT_IN, KindResolver
from starforge_backlog.snapshot import Unknown

# A Deployment's version moves with every pod that becomes Ready or dies, many times while a pass
# reads a slow database. More often than this within milliseconds, and the next pass may try.
CONFLICT_RETRIES = 3


@dataclass(frozen=True, slots=True)
class ScaleView:
    """What the scale subresource contains."""

    uid: str
    replicas: int
    version: str
    selector: str


@dataclass(frozen=True, slots=True)
class Scaled:
    """Written."""

    replicas: int
    version: str  # of the workload after the write


@dataclass(frozen=True, slots=True)
class ScaleConflict:
    """Not written: the workload is not what was decided from. The next pass reads again."""

    message: str


ScaleResult = Scaled | ScaleConflict | Unknown


async def read_scale(
    client: ClusterClient, resource: Resource, namespace: str, target: Target
) -> tuple[Json, ScaleView]:
    """The object and its scale: one request for kinds that we know, two for others."""
    found = await client.get(resource, namespace, target.name)
    if (target.api_version, target.kind) in BUILT_IN:
        return found, _own_scale(found)
    return found, _scale(await client.get(resource, namespace, target.name, sub="scale"))


class ReplicaWriter:
    """The only writer of replicas (P1 and P9)."""

    def __init__(self, client: ClusterClient, clock: Clock = utc_now) -> None:
        self._client = client
        self._clock = clock
        self._kinds = KindResolver(client)

    async def write(
        self,
        namespace: str,
        target: Target,
        *,
        replicas: int,
        version: str,
        generation: int | None = None,
    ) -> ScaleResult:
        """Set replicas through the scale subresource.

        `version` and `generation` are the workload's, as the decision saw them. Where the version
        moved but the generation did not (a pod became Ready), the write goes on under the new
        version: nobody has scaled and no rollout has begun, which is all that the precondition is
        for. Otherwise, and always without `generation`, it is a conflict.
        """
        if not version:
            # An empty version is no precondition to the API server: it would write over any change.
            return ScaleConflict("the version of the workload is not known; read it first")
        try:
            resource = await self._kinds.resolve(target.api_version, target.kind)
            uid = ""
            for _ in range(CONFLICT_RETRIES):
                written = await self._put(resource, namespace, target.name, replicas, version)
                if written is not None:
                    return written
                if generation is None:
                    return ScaleConflict(f"{target.kind} {target.name} changed since it was read")
                found, now = await read_scale(self._client, resource, namespace, target)
                if (uid and now.uid != uid) or _generation(found) != generation:
                    message = (
                        f"{target.kind} {target.name} was changed since it was read (replicas"
                        f" {now.replicas}, generation {_generation(found)}); the next pass reads it"
                        " again"
                    )
                    return ScaleConflict(message)
                uid, version = now.uid, now.version
        except ClusterFault as fault:
            return fault.unknown(self._clock())
        return ScaleConflict(f"{target.kind} {target.name} keeps changing; the next pass tries")

    async def _put(
        self, resource: Resource, namespace: str, name: str, replicas: int, version: str
    ) -> Scaled | None:
        """Write under that version; None when it is stale."""
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        try:
            written = await self._client.patch(resource, namespace, name, body, sub="scale")
        except ClusterFault as fault:
            if fault.kind is FaultKind.CONFLICT:
                return None
            raise
        # The API server leaves a 0 out of a scale.
        asked = (written.get("spec") or {}).get("replicas") or 0
        return Scaled(int(asked), written["metadata"]["resourceVersion"])


def _generation(found: Json) -> int:
    return int(found["metadata"].get("generation") or 0)


def selector_text(selector: Mapping[str, Any]) -> str:
    """A `metav1.LabelSelector` as the query parameter of a list."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or ():
        key, values = rule["key"], ",".join(rule.get("values") or ())
        written = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(written[rule["operator"]])
    return ",".join(parts)


def _own_scale(found: Json) -> ScaleView:
    spec = found["spec"]
    return ScaleView(
        uid=found["metadata"]["uid"],
        replicas=int(spec.get("replicas", 1)),  # what the API server takes an absent number for
        version=found["metadata"]["resourceVersion"],
        selector=selector_text(spec.get("selector") or {}),
    )


def _scale(scale: Json) -> ScaleView:
    return ScaleView(
        uid=scale["metadata"].get("uid", ""),
        replicas=int((scale.get("spec") or {}).get("replicas") or 0),
        version=scale["metadata"]["resourceVersion"],
        selector=str((scale.get("status") or {}).get("selector") or ""),
    )
