"""Whether the API server serves our resource, and whether its CRD is about to go."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from starforge_backlog.api import GROUP, PLURAL, VERSION
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.errors import Asked, ClusterFault, FaultKind

# Everybody who has an account may ask this; no right of the chart is needed.
_DISCOVERY: Final = Asked("get", "resources", GROUP, None)
_PATH: Final = f"/apis/{GROUP}/{VERSION}"
# What discovery leaves out of the verbs of a resource whose CRD is being deleted. The API server
# goes on to serve it, for those who have finalizers to remove.
_PATCH: Final = "patch"


class Served(StrEnum):
    """What discovery says of our resource."""

    YES = "Yes"
    TERMINATING = "Terminating"
    NO = "No"


async def served(client: ClusterClient) -> Served:
    """Ask discovery, as the framework does once when it begins. Raises ClusterFault."""
    try:
        answer = await client.request(_DISCOVERY, "GET", _PATH)
    except ClusterFault as fault:
        if fault.kind is FaultKind.NOT_FOUND:
            return Served.NO
        raise
    for resource in answer.get("resources") or ():
        if resource.get("name") == PLURAL:
            return Served.YES if _PATCH in (resource.get("verbs") or ()) else Served.TERMINATING
    return Served.NO
