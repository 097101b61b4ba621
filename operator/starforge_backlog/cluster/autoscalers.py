"""HorizontalPodAutoscalers and KEDA ScaledObjects: who else scales a target (P9), and a guard.

Who else: one LIST of each kind per namespace, shared by all its policies for some seconds (P7).
A guard: one GET per pass, because its version is the precondition of what is written to it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from starforge_backlog.api.policy import Guard, Target
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.autoscaler_lists import AutoscalerLists, for_the_moment
from starforge_backlog.cluster.autoscaler_object import (
    HPA,
    KINDS,
    SCALED_OBJECT,
    AutoscalerKind,
    autoscaler,
    belongs_to,
    own_autoscaler,
)
from starforge_backlog.cluster.client import ClusterClient, Json
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.connections.ttl_cache import MonotonicClock
from starforge_backlog.snapshot import Autoscaler, Follower, Known, Reading, Unknown, Why


@dataclass(frozen=True, slots=True)
class _Seen:
    """An autoscaler and what it scales: group ("" where it names none), kind and name."""

    scales: tuple[str, str, str]
    autoscaler: Autoscaler


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
        self._lists: AutoscalerLists[_Seen] = AutoscalerLists(client, _seen, monotonic)

    async def read(self, namespace: str, target: Target) -> Reading[Autoscaler | None]:
        """With a guard that object, which must scale the target; else whoever else scales it.

        A paused ScaledObject scales nothing; it is reported where nothing else scales. A
        ScaledObject is reported rather than its own HorizontalPodAutoscaler: that is made again by
        KEDA.
        """
        if target.guard is not None:
            return await self._guard(namespace, target, target.guard)
        found = await self._scaling(namespace, target)
        if isinstance(found, Unknown):
            return found
        first = min(found, key=_place, default=None)
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
        follower = await self._follower(namespace, kind, found, at)
        whole = replace(seen.autoscaler, beside=_beside(seen, others), follower=follower)
        return Known(whole, at)

    async def _follower(
        self, namespace: str, kind: AutoscalerKind, found: Json, at: datetime
    ) -> Follower | Unknown | None:
        """KEDA's own autoscaler of a ScaledObject. It is read after it: one that was written in
        between is not held against a number that is older."""
        name = own_autoscaler(found) if kind is SCALED_OBJECT else ""
        if not name:
            return None
        try:
            own = await self._client.get(HPA.resource, namespace, name)
        except ClusterFault as fault:
            return None if fault.kind is FaultKind.NOT_FOUND else fault.unknown(at)
        if not belongs_to(own, found["metadata"]["uid"]):
            return None
        seen = autoscaler(HPA, own)
        return Follower(seen.name, seen.minimum, seen.maximum, seen.limited)

    async def _scaling(self, namespace: str, target: Target) -> Sequence[_Seen] | Unknown:
        """All that scale the target. One that was found counts, whatever could not be read."""
        found: list[_Seen] = []
        fault: ClusterFault | None = None
        for kind in KINDS.values():
            listed = await self._lists.read(namespace, kind)
            if isinstance(listed, ClusterFault):
                fault = fault or self._judged(namespace, kind, target, listed)
            else:
                found += [seen for seen in listed if _scales(seen, target)]
        return fault.unknown(self._clock()) if fault is not None and not found else found

    def _judged(
        self, namespace: str, kind: AutoscalerKind, target: Target, fault: ClusterFault
    ) -> ClusterFault:
        """Who was seen to scale the target may still do so."""
        if fault.why is not Why.NO_PERMISSION:
            return fault
        for seen in self._lists.last(namespace, kind):
            if _scales(seen, target):
                name = f"{kind.kind} {seen.autoscaler.name}"
                return for_the_moment(fault, f"{name} scaled the target when it was seen last")
        return fault


def _place(seen: _Seen) -> tuple[bool, bool]:
    """The one to report comes first."""
    return seen.autoscaler.paused, bool(seen.autoscaler.owner)


def _seen(kind: AutoscalerKind, found: Json) -> _Seen:
    ref = (found.get("spec") or {}).get("scaleTargetRef") or {}
    version = str(ref.get("apiVersion") or ("apps/v1" if kind is SCALED_OBJECT else ""))
    return _Seen(
        scales=(
            version.rpartition("/")[0],
            str(ref.get("kind") or "Deployment"),
            str(ref.get("name") or ""),
        ),
        autoscaler=autoscaler(kind, found),
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
    if found.owner:
        return (
            f"{what} belongs to ScaledObject {found.owner}, which would write its maximum back;"
            f" guard that one: spec.target.guard.scaledObject: {found.owner}"
        )
    return ""


def _beside(guard: _Seen, others: Sequence[_Seen] | Unknown) -> str:
    """Another one that scales the target as well, but for those of the guard itself."""
    if isinstance(others, Unknown):
        return ""
    own = guard.autoscaler
    for seen in others:
        other = seen.autoscaler
        # By name: a list that is a few seconds old may hold the one before this one.
        same = (other.kind, other.name) == (own.kind, own.name)
        its_own = own.kind == SCALED_OBJECT.kind and other.owner == own.name
        if not (same or its_own or other.paused):
            return f"{other.kind} {other.name}"
    return ""
