"""All autoscalers of a namespace: one LIST of each kind, shared by its policies for seconds (P7).

A refusal is no knowledge at once. For a second or two after an API server's start nobody has any
right, and a Role that Helm replaces is away for as long; a policy that took that for "nobody will
ever know" scaled against an autoscaler that it had seen a moment before.

| the refusal                         | says                                                      |
|-------------------------------------|-----------------------------------------------------------|
| of the first seconds                | not known now; asked again with the next pass             |
| after a list that worked            | the same, for longer: an admin may be fixing a Role      |
| that has lasted                     | nobody granted it: other writers are known by their writes |

What a list showed last is kept: one that is known to scale a target is never forgotten because of a
refusal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from starforge_backlog.cluster.autoscaler_object import AutoscalerKind
from starforge_backlog.cluster.client import ClusterClient, Json
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.connections.ttl_cache import MonotonicClock, TtlCache
from starforge_backlog.snapshot import Why

T = TypeVar("T")

# Shorter than the usual interval, so that an autoscaler that was made counts for the next pass.
KEEP_SECONDS = 10.0
# A cluster without KEDA: its CRD is installed once in a cluster's life.
KEEP_ABSENT_SECONDS = 60.0
# What may not be read is not read until an admin grants it; a fault may be over in a moment.
KEEP_FORBIDDEN_SECONDS = 30.0
# How long a refusal has to last until it is believed: an API server knows its Roles 1 to 3 s after
# its start, and a busy machine takes longer.
BELIEVED_AFTER_SECONDS = 10.0
# ... where it has listed them before: longer than an upgrade of the chart takes, and its fix.
BELIEVED_AFTER_A_LIST_SECONDS = 900.0


@dataclass(slots=True)
class _Past(Generic[T]):
    """What came of earlier questions."""

    last: tuple[T, ...] | None = None  # what the last list that worked showed
    refused_since: float | None = None  # of the monotonic clock


class AutoscalerLists(Generic[T]):
    """Lists by namespace and kind; each object as `parse` makes it."""

    def __init__(
        self,
        client: ClusterClient,
        parse: Callable[[AutoscalerKind, Json], T],
        monotonic: MonotonicClock = time.monotonic,
    ) -> None:
        self._client = client
        self._parse = parse
        self._monotonic = monotonic
        self._kept: TtlCache[tuple[str, str], tuple[T, ...] | ClusterFault] = TtlCache(monotonic)
        self._past: dict[tuple[str, str], _Past[T]] = {}  # bounded by the namespaces of the cluster
        self._absent_until: dict[str, float] = {}  # kinds that the API server does not serve

    async def read(self, namespace: str, kind: AutoscalerKind) -> tuple[T, ...] | ClusterFault:
        """Shared; a kind that the API server does not serve has no objects in any namespace."""
        key = (namespace, kind.kind)

        async def ask() -> tuple[T, ...] | ClusterFault:
            past = self._past.setdefault(key, _Past[T]())
            try:
                items = await self._client.list_objects(kind.resource, namespace, label_selector="")
            except ClusterFault as fault:
                if fault.why is Why.NO_PERMISSION:
                    return self._refused(past, fault)
                past.refused_since = None
                if fault.kind is FaultKind.NOT_FOUND:
                    keep = KEEP_SECONDS if past.last is not None else KEEP_ABSENT_SECONDS
                    self._absent_until[kind.kind] = self._monotonic() + keep
                    return ()
                return fault
            past.last, past.refused_since = tuple(self._parse(kind, i) for i in items), None
            return past.last

        if self._monotonic() < self._absent_until.get(kind.kind, 0.0):
            return ()
        return await self._kept.get(key, ask, _keep)

    def last(self, namespace: str, kind: AutoscalerKind) -> tuple[T, ...]:
        """What the last list that worked showed, however long ago."""
        past = self._past.get((namespace, kind.kind))
        return past.last or () if past is not None else ()

    def _refused(self, past: _Past[T], fault: ClusterFault) -> ClusterFault:
        now = self._monotonic()
        if past.refused_since is None:
            past.refused_since = now
        listed = past.last is not None
        after = BELIEVED_AFTER_A_LIST_SECONDS if listed else BELIEVED_AFTER_SECONDS
        # A token that is not known (401) is no missing right, however long that lasts.
        if fault.kind is FaultKind.FORBIDDEN and now - past.refused_since >= after:
            return fault
        return for_the_moment(fault, "it may be refused for the moment only, so it is asked again")


def for_the_moment(fault: ClusterFault, because: str) -> ClusterFault:
    """A refusal that does not prove that nobody scales the target."""
    return ClusterFault(fault.kind, Why.PERMISSION_LOST, f"{fault.message}; {because}")


def _keep(listed: object) -> float:
    if not isinstance(listed, ClusterFault):
        return KEEP_SECONDS
    return KEEP_FORBIDDEN_SECONDS if listed.why is Why.NO_PERMISSION else 0.0
