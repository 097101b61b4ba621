"""The only writer of an autoscaler's maximum: lowered under a token, restored under the same one.

The previous maximum, the token and the new maximum are written in one patch whose precondition is
the version that was decided from. Killed at any moment, the object itself shows whose maximum
it has (P4, P6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.autoscaler_object import (
    DEFAULTED,
    HPA,
    KINDS,
    MAXIMUM,
    PREVIOUS,
    TOKEN,
    AutoscalerKind,
    autoscaler,
    belongs_to,
)
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.decide.results import MaximumOutcome, MaximumResult
from starforge_backlog.snapshot import Autoscaler, Unknown

# An autoscaler's version moves with its status, every 15 s; but KEDA writes a new ScaledObject five
# times in its first second. Seconds between tries: milliseconds apart they all lost that race, and
# it stood unbounded for an interval. All of them fit into the time of a pass' effects.
PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)


def _same_policy(one: str, other: str) -> bool:
    """Tokens begin with the uid of their policy. Killed between an intent and its write, the status
    has a newer one than the object."""
    return one.split("/", 1)[0] == other.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class MaximumWriter:
    """Lowers, raises and restores the maximum of an autoscaler."""

    client: ClusterClient
    clock: Clock = utc_now
    pauses: tuple[float, ...] = PAUSES_SECONDS

    async def write(
        self,
        namespace: str,
        kind: str,
        name: str,
        *,
        seen: int,
        to: int,
        previous: int,
        implicit: bool,
        token: str,
        version: str,
    ) -> MaximumResult | Unknown:
        """Set the maximum, with the mark that says what it was before and whose this is.

        Not where the maximum is not `seen` any more, or under another's token. `implicit` says
        that nobody wrote `previous`: it is the kind's default. So many parameters, all by name,
        because a conditional write has what it expects, what it writes and the mark.
        """
        of = KINDS[kind]
        marks: Mapping[str, str | None] = {
            TOKEN: token,
            PREVIOUS: DEFAULTED if implicit else str(previous),
            MAXIMUM: str(to),
        }
        try:
            for pause in self.pauses:
                if await self._patch(of, namespace, name, version, to, marks):
                    return MaximumResult(MaximumOutcome.WRITTEN, to)
                await asyncio.sleep(pause)
                now = await self._read(of, namespace, name)
                if now.maximum != seen or not _same_policy(now.token or token, token):
                    message = (
                        f"{kind} {name} was changed since it was read (maximum {now.maximum}); the"
                        " next pass reads it again"
                    )
                    return MaximumResult(MaximumOutcome.CHANGED, now.maximum, message)
                version = now.version
        except ClusterFault as fault:
            return self._fault(fault)
        return self._keeps_changing(kind, name)

    async def restore(
        self,
        namespace: str,
        kind: str,
        name: str,
        *,
        token: str,
        uid: str = "",
        most: int | None = None,
    ) -> MaximumResult | Unknown:
        """Give the object back its own maximum, if the one that stands there is ours.

        Where another client wrote another one since, theirs stays and only our mark goes. `most` is
        what was decided for: a previous maximum above it is a conflict.
        """
        of = KINDS[kind]
        try:
            for pause in self.pauses:
                await asyncio.sleep(pause)
                now = await self._read(of, namespace, name)
                ours = now.token is not None and _same_policy(now.token, token)
                if uid and now.uid != uid and not ours:
                    return MaximumResult(MaximumOutcome.GONE, message=f"{kind} {name} is a new one")
                if not ours:
                    message = (
                        f"{kind} {name} no longer has the operator's mark; nothing was changed"
                    )
                    return MaximumResult(MaximumOutcome.NOT_OURS, now.maximum, message)
                ours = now.ours  # but another client may have written over it
                to = now.kept_maximum if ours else now.maximum
                if most is not None and to is not None and to > most:
                    message = f"the previous maximum of {kind} {name} is {to} now"
                    return MaximumResult(MaximumOutcome.CHANGED, now.maximum, message)
                value = None if (now.kept_implicit if ours else now.implicit) else to
                unmark = {TOKEN: None, PREVIOUS: None, MAXIMUM: None}
                if await self._patch(of, namespace, name, now.version, value, unmark):
                    done = MaximumOutcome.WRITTEN if ours else MaximumOutcome.NOT_OURS
                    message = "" if ours else f"another client set it to {to}; that value stays"
                    return MaximumResult(done, to, message)
        except ClusterFault as fault:
            return self._fault(fault)
        return self._keeps_changing(kind, name)

    async def follow(
        self, namespace: str, name: str, *, owner: str, to: int
    ) -> MaximumResult | Unknown:
        """Lower the maximum of KEDA's own HorizontalPodAutoscaler to that of its ScaledObject.

        KEDA does so by itself, but only once it has reached all triggers, and a database that is
        full lets none in. It leaves a number alone that is its own already. Only an object that
        belongs to the ScaledObject with the uid `owner` is written, and never upwards; no mark is
        left on it, because KEDA writes it again with every change of the ScaledObject.
        """
        try:
            for pause in self.pauses:
                await asyncio.sleep(pause)
                found = await self.client.get(HPA.resource, namespace, name)
                if not belongs_to(found, owner):
                    message = f"{HPA.kind} {name} no longer belongs to the ScaledObject"
                    return MaximumResult(MaximumOutcome.NOT_OURS, message=message)
                now = autoscaler(HPA, found)
                least = max(to, now.minimum)
                if now.maximum <= least:
                    return MaximumResult(MaximumOutcome.WRITTEN, now.maximum)
                if await self._patch(HPA, namespace, name, now.version, least, {}):
                    return MaximumResult(MaximumOutcome.WRITTEN, least)
        except ClusterFault as fault:
            return self._fault(fault)
        return self._keeps_changing(HPA.kind, name)

    async def _patch(
        self,
        of: AutoscalerKind,
        namespace: str,
        name: str,
        version: str,
        maximum: int | None,
        marks: Mapping[str, str | None],
    ) -> bool:
        """One merge patch under that version; False when it is stale. None takes a key away."""
        meta: dict[str, object] = {"resourceVersion": version}
        if marks:
            meta["annotations"] = marks
        body = {"metadata": meta, "spec": {of.maximum: maximum}}
        try:
            await self.client.patch(of.resource, namespace, name, body)
        except ClusterFault as fault:
            if fault.kind is FaultKind.CONFLICT:
                return False
            raise
        return True

    async def _read(self, of: AutoscalerKind, namespace: str, name: str) -> Autoscaler:
        return autoscaler(of, await self.client.get(of.resource, namespace, name))

    def _fault(self, fault: ClusterFault) -> MaximumResult | Unknown:
        if fault.kind is FaultKind.NOT_FOUND:
            return MaximumResult(MaximumOutcome.GONE, message=fault.message)
        return fault.unknown(self.clock())

    def _keeps_changing(self, kind: str, name: str) -> MaximumResult:
        message = f"{kind} {name} keeps changing; the next pass tries"
        return MaximumResult(MaximumOutcome.CHANGED, message=message)
