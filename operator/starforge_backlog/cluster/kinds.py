"""From `apiVersion` and `kind` of a target to the path that serves it."""

from __future__ import annotations

import time

from starforge_backlog.cluster.client import ClusterClient, Resource
from starforge_backlog.cluster.errors import Asked, ClusterFault, FaultKind
from starforge_backlog.connections.ttl_cache import MonotonicClock, TtlCache
from starforge_backlog.snapshot import Why

# Kinds whose objects hold replicas, selector and pod template in known places: one GET returns all.
BUILT_IN: dict[tuple[str, str], Resource] = {
    ("apps/v1", "Deployment"): Resource("apps", "v1", "deployments"),
    ("apps/v1", "StatefulSet"): Resource("apps", "v1", "statefulsets"),
    ("apps/v1", "ReplicaSet"): Resource("apps", "v1", "replicasets"),
}
# A kind moves to another plural only when its CRD is deleted and made again.
KEEP_SECONDS = 600.0
# A CRD that was missing is installed now and then: check again soon.
KEEP_MISSING_SECONDS = 15.0


class KindResolver:
    """Finds kinds in the API server's discovery, which every ServiceAccount may read."""

    def __init__(self, client: ClusterClient, monotonic: MonotonicClock = time.monotonic) -> None:
        self._client = client
        self._cache: TtlCache[str, dict[str, tuple[str, bool]] | None] = TtlCache(monotonic)

    async def resolve(self, api_version: str, kind: str) -> Resource:
        """The resource of that kind.

        Raises ClusterFault when the API server has no such kind, or it cannot be scaled.
        """
        built_in = BUILT_IN.get((api_version, kind))
        if built_in is not None:
            return built_in

        async def ask() -> dict[str, tuple[str, bool]] | None:
            return await self._discover(api_version)

        known = await self._cache.get(
            api_version, ask, lambda kinds: KEEP_SECONDS if kinds else KEEP_MISSING_SECONDS
        )
        if not known or kind not in known:
            message = (
                f"the API server has no kind {kind} in {api_version}; check apiVersion and kind "
                "of spec.target, or install its CRD"
            )
            raise ClusterFault(FaultKind.NOT_FOUND, Why.TARGET_NOT_FOUND, message)
        plural, scalable = known[kind]
        if not scalable:
            message = (
                f"spec.target.kind is {kind} ({api_version}), which has no scale subresource, so "
                "its replicas cannot be changed; name a Deployment, a StatefulSet or another kind "
                "that can be scaled"
            )
            raise ClusterFault(FaultKind.NOT_FOUND, Why.TARGET_NOT_SCALABLE, message)
        group, _, version = api_version.rpartition("/")
        return Resource(group, version, plural)

    async def _discover(self, api_version: str) -> dict[str, tuple[str, bool]] | None:
        """Kind → (plural, has a scale subresource); None when the group is not served."""
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        asked = Asked("get", f"the kinds of {api_version}", "", None)
        try:
            found = await self._client.request(asked, "GET", path)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                return None
            raise
        entries = found.get("resources") or ()
        scaled = {e["name"].split("/")[0] for e in entries if e["name"].endswith("/scale")}
        return {
            e["kind"]: (e["name"], e["name"] in scaled) for e in entries if "/" not in e["name"]
        }
