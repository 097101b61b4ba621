"""HorizontalPodAutoscalers and KEDA ScaledObjects: who else scales a target (P9), and a guard.

Who else: one LIST of each kind per namespace, shared by all its policies for some seconds (P7).
A guard: one GET per pass, because its version is the precondition of what is written to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from starforge_backlog.api import FIELD_MANAGER, GROUP
from starforge_backlog.api.policy import Guard, Target
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.cache import MonotonicClock, TtlCache
from starforge_backlog.cluster.client import ClusterClient, Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.owners import last_writer
from starforge_backlog.snapshot import Autoscaler, Known, Reading, Unknown, Why

# Shorter than the usual interval, so that an autoscaler that was made counts for the next pass.
KEEP_SECONDS = 10.0
# A cluster without KEDA: its CRD is installed once in a cluster's life.
KEEP_ABSENT_SECONDS = 60.0
# What may not be read is not read until somebody grants it; a fault may be over in a moment.
KEEP_FORBIDDEN_SECONDS = 30.0

# What was put on an object whose maximum is lowered. The spec holds the lowered maximum itself;
# a spec that differs from MAXIMUM was written by somebody else since.
TOKEN = f"{GROUP}/guard-token"
PREVIOUS = f"{GROUP}/guard-previous-maximum"
MAXIMUM = f"{GROUP}/guard-maximum"
# PREVIOUS of an object that named no maximum: restored by naming none.
DEFAULTED = "default"
# KEDA leaves the target as it is under the first, and keeps it at a number under the second.
KEDA_PAUSED = "autoscaling.keda.sh/paused"
KEDA_PAUSED_AT = "autoscaling.keda.sh/paused-replicas"


@dataclass(frozen=True, slots=True)
class AutoscalerKind:
    """A kind of autoscaler, and where it keeps what we read and write."""

    kind: str
    resource: Resource
    minimum: str  # keys of its spec
    maximum: str
    default_minimum: int
    default_maximum: int


# autoscaling/v2 requires maxReplicas; minReplicas is 1 where left out.
HPA = AutoscalerKind(
    "HorizontalPodAutoscaler",
    Resource("autoscaling", "v2", "horizontalpodautoscalers"),
    "minReplicas",
    "maxReplicas",
    default_minimum=1,
    default_maximum=1,
)
# keda.sh/v1alpha1: 0 and 100 where left out.
SCALED_OBJECT = AutoscalerKind(
    "ScaledObject",
    Resource("keda.sh", "v1alpha1", "scaledobjects"),
    "minReplicaCount",
    "maxReplicaCount",
    default_minimum=0,
    default_maximum=100,
)
KINDS = {kind.kind: kind for kind in (HPA, SCALED_OBJECT)}


@dataclass(frozen=True, slots=True)
class _Seen:
    """An autoscaler and what it scales: group ("" where it names none), kind and name."""

    scales: tuple[str, str, str]
    autoscaler: Autoscaler
    owner: str  # the ScaledObject that this HorizontalPodAutoscaler belongs to


class AutoscalerReader:
    """Reads autoscalers. Expected faults come back as `Unknown`, not as exceptions."""

    def __init__(
        self,
        client: ClusterClient,
        clock: Clock = utc_now,
        monotonic: MonotonicClock = time.monotonic,
    ) -> None:
        self._client = client
        self._clock = clock
        self._lists: TtlCache[tuple[str, str], tuple[_Seen, ...] | ClusterFault] = TtlCache(
            monotonic
        )
        self._monotonic = monotonic
        self._absent_until: dict[str, float] = {}  # kinds that the API server does not serve

    async def read(self, namespace: str, target: Target) -> Reading[Autoscaler | None]:
        """With a guard that object, which must scale the target; else whoever else scales it.

        A paused ScaledObject scales nothing; it is told where nobody else does.
        """
        if target.guard is not None:
            return await self._guard(namespace, target, target.guard)
        found = await self._scaling(namespace, target)
        if isinstance(found, Unknown):
            return found
        first = min(found, key=lambda seen: seen.autoscaler.paused, default=None)
        return Known(first.autoscaler if first is not None else None, self._clock())

    async def _guard(
        self, namespace: str, target: Target, guard: Guard
    ) -> Reading[Autoscaler | None]:
        word, name = guard.object
        kind = KINDS[word]
        at = self._clock()
        try:
            found = await self._client.get(kind.resource, namespace, name)
        except ClusterFault as fault:
            if fault.kind is not FaultKind.NOT_FOUND:
                return fault.unknown(at)
            message = (
                f"{kind.kind} {name} does not exist in namespace {namespace}; create it, or take"
                " spec.target.guard away to have the operator scale the target itself"
            )
            return Unknown(Why.AUTOSCALER_NOT_FOUND, message, at)
        seen = _seen(kind, found)
        wrong = _no_guard_of(target, seen)
        if wrong:
            return Unknown(Why.GUARD_MISMATCH, wrong, at)
        others = await self._scaling(namespace, target)
        return Known(replace(seen.autoscaler, beside=_beside(seen, others)), at)

    async def _scaling(self, namespace: str, target: Target) -> Sequence[_Seen] | Unknown:
        """All that scale the target. One that was found counts, whatever could not be read."""
        found: list[_Seen] = []
        fault: ClusterFault | None = None
        for kind in KINDS.values():
            listed = await self._list(namespace, kind)
            if isinstance(listed, ClusterFault):
                fault = fault or listed
            else:
                found += [seen for seen in listed if _scales(seen, target)]
        return fault.unknown(self._clock()) if fault is not None and not found else found

    async def _list(self, namespace: str, kind: AutoscalerKind) -> tuple[_Seen, ...] | ClusterFault:
        """Shared; a kind that the API server does not serve has no objects in any namespace."""

        async def ask() -> tuple[_Seen, ...] | ClusterFault:
            try:
                items = await self._client.list_objects(kind.resource, namespace, label_selector="")
            except ClusterFault as fault:
                if fault.kind is FaultKind.NOT_FOUND:
                    self._absent_until[kind.kind] = self._monotonic() + KEEP_ABSENT_SECONDS
                    return ()
                return fault
            return tuple(_seen(kind, item) for item in items)

        if self._monotonic() < self._absent_until.get(kind.kind, 0.0):
            return ()
        return await self._lists.get((namespace, kind.kind), ask, _keep)


def _keep(listed: tuple[_Seen, ...] | ClusterFault) -> float:
    if not isinstance(listed, ClusterFault):
        return KEEP_SECONDS
    return KEEP_FORBIDDEN_SECONDS if listed.kind is FaultKind.FORBIDDEN else 0.0


def autoscaler(kind: AutoscalerKind, found: Json) -> Autoscaler:
    """What an object says."""
    meta, spec = found["metadata"], found.get("spec") or {}
    notes: Mapping[str, str] = meta.get("annotations") or {}
    kept = notes.get(PREVIOUS)
    maximum, minimum = spec.get(kind.maximum), spec.get(kind.minimum)
    writer = last_writer(found, kind.maximum)
    return Autoscaler(
        kind=kind.kind,
        name=meta["name"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        minimum=kind.default_minimum if minimum is None else int(minimum),
        maximum=kind.default_maximum if maximum is None else int(maximum),
        kept_maximum=kind.default_maximum if kept == DEFAULTED else _number(kept),
        token=notes.get(TOKEN),
        written=_number(notes.get(MAXIMUM)),
        implicit=maximum is None,
        kept_implicit=kept == DEFAULTED,
        writer=writer,
        changed_since=writer is not None and writer.manager != FIELD_MANAGER,
        paused=notes.get(KEDA_PAUSED, "").lower() == "true" and KEDA_PAUSED_AT not in notes,
    )


def _number(text: str | None) -> int | None:
    """None for what is not there, or was edited to something that is no number."""
    return int(text) if text is not None and text.isdecimal() else None


def _seen(kind: AutoscalerKind, found: Json) -> _Seen:
    ref = (found.get("spec") or {}).get("scaleTargetRef") or {}
    version = str(ref.get("apiVersion") or ("apps/v1" if kind is SCALED_OBJECT else ""))
    owners = found["metadata"].get("ownerReferences") or ()
    return _Seen(
        scales=(
            version.rpartition("/")[0],
            str(ref.get("kind") or "Deployment"),
            str(ref.get("name") or ""),
        ),
        autoscaler=autoscaler(kind, found),
        owner=next((str(o["name"]) for o in owners if o.get("kind") == SCALED_OBJECT.kind), ""),
    )


def _scales(seen: _Seen, target: Target) -> bool:
    """By group: an object is the same in each version. One that names no group may mean any."""
    group, kind, name = seen.scales
    ours = target.api_version.rpartition("/")[0]
    return group in {"", ours} and (kind, name) == (target.kind, target.name)


def _no_guard_of(target: Target, seen: _Seen) -> str:
    """Why lowering this object's maximum would not bound the target; empty when it does."""
    found = seen.autoscaler
    what = f"{found.kind} {found.name}"
    if not _scales(seen, target):
        _, kind, name = seen.scales
        return (
            f"{what} scales {kind} {name or '(nothing)'} and not {target.kind} {target.name};"
            " correct spec.target.guard or its scaleTargetRef"
        )
    if seen.owner:
        return (
            f"{what} belongs to ScaledObject {seen.owner}, which would write its maximum back;"
            f" guard that one: spec.target.guard.scaledObject: {seen.owner}"
        )
    return ""


def _beside(guard: _Seen, others: Sequence[_Seen] | Unknown) -> str:
    """Another one that scales the target as well, but for those of the guard itself."""
    if isinstance(others, Unknown):
        return ""
    for other in others:
        same = other.autoscaler.uid == guard.autoscaler.uid
        its_own = guard.autoscaler.kind == SCALED_OBJECT.kind and (
            other.owner == guard.autoscaler.name
        )
        if not (same or its_own or other.autoscaler.paused):
            return f"{other.autoscaler.kind} {other.autoscaler.name}"
    return ""
