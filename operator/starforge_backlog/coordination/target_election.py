"""Who acts on which workload: the oldest of the policies that name it (P9, between our own).

Policies that name one target, or one guarded autoscaler, would undo each other's steps and count
its pods twice. The oldest acts (creationTimestamp, then uid), the others say whom they wait for.

One process runs, so a dictionary is enough. A policy that is noticed late (not listed yet) may be
older than one that acts already. It waits until that one has noticed: at no moment two act.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starforge_backlog.snapshot import Rival

# A policy that was listed at the start but that the watch never shows was deleted in between; it
# must not keep its target from others for ever.
UNSEEN_FOR_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class TargetObject:
    """A workload or an autoscaler. By its group, because several versions serve one object."""

    namespace: str
    group: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class _Stake:
    """What one policy names."""

    policy: str  # namespace/name
    age: tuple[str, str]  # creationTimestamp (text that sorts by time) and uid
    things: tuple[TargetObject, ...]
    deleting: bool
    until: float | None  # of the monotonic clock; None: the watch has shown it


class TargetElection:
    """Policies by what they act on."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._stakes: dict[str, _Stake] = {}  # by uid
        self._named: dict[TargetObject, set[str]] = {}  # the uids that name it
        self._held: dict[TargetObject, str] = {}  # the uid that acts on it ...
        self._holding: dict[str, tuple[TargetObject, ...]] = {}  # ... and the same by uid

    def expect(self, body: Mapping[str, Any]) -> None:
        """A policy was listed; the watch will show it, or it is gone."""
        if body["metadata"]["uid"] not in self._stakes:
            self._put(body, until=self._monotonic() + UNSEEN_FOR_SECONDS)

    def note(self, body: Mapping[str, Any]) -> None:
        """The watch shows a policy."""
        self._put(body, until=None)
        self._outlive(str(body["metadata"]["uid"]))

    def drop(self, uid: str) -> tuple[str, ...]:
        """The policy is gone. Returns the uids of those that waited for what it had."""
        stake = self._stakes.pop(uid, None)
        if stake is None:
            return ()
        self._let_go(uid)
        return tuple(sorted(self._leave(uid, stake)))

    def knows(self, uid: str) -> bool:
        """Whether a policy with that uid exists, as far as listed and watched."""
        return uid in self._stakes

    def ask(self, body: Mapping[str, Any]) -> Rival | None:
        """At the start of a pass: may this policy act? From here on it has its target, until it
        asks again and gets an older one, or is gone."""
        self.note(body)
        uid = str(body["metadata"]["uid"])
        stake = self._stakes[uid]
        if all(
            # A policy that names it no more may be in the middle of a pass that still acts on it.
            self._named[thing] == {uid} and self._held.get(thing, uid) == uid
            for thing in stake.things
        ):
            self._take(uid, stake.things)
            return None
        elected = self._elect(uid)
        for thing in stake.things:
            other = elected.get(thing, uid)
            if other != uid:
                self._let_go(uid)
                first = self._stakes[other]
                return Rival(first.policy, str(thing), deleting=first.deleting)
        for thing in stake.things:
            holder = self._held.get(thing, uid)
            if holder != uid:
                return Rival(self._stakes[holder].policy, str(thing), leaving=True)
        self._take(uid, stake.things)
        return None

    def _put(self, body: Mapping[str, Any], *, until: float | None) -> None:
        uid, stake = str(body["metadata"]["uid"]), _stake(body, until)
        before = self._stakes.get(uid)
        if before == stake:
            return
        if before is not None:
            self._leave(uid, before)
        self._stakes[uid] = stake
        for thing in stake.things:
            self._named.setdefault(thing, set()).add(uid)

    def _outlive(self, uid: str) -> None:
        """A name is used once at a time: an older policy of the same name is gone, also where its
        end was never seen, as when a CRD is deleted and made again. Waiting for it would be waiting
        for itself."""
        stake = self._stakes[uid]
        for thing in stake.things:
            for other in tuple(self._named[thing] - {uid}):
                before = self._stakes[other]
                older = before.age[0] < stake.age[0] or (
                    before.age[0] == stake.age[0] and before.until is not None
                )
                if before.policy == stake.policy and older:
                    self.drop(other)

    def _leave(self, uid: str, stake: _Stake) -> set[str]:
        """Take its name off everything; returns who else names it."""
        others = set[str]()
        for thing in stake.things:
            named = self._named[thing]
            named.discard(uid)
            others |= named
            if not named:
                del self._named[thing]
        return others

    def _take(self, uid: str, things: tuple[TargetObject, ...]) -> None:
        """All of these, and nothing that the spec named before it was edited."""
        if self._holding.get(uid) != things:
            self._let_go(uid)
            self._held.update(dict.fromkeys(things, uid))
            self._holding[uid] = things

    def _let_go(self, uid: str) -> None:
        for thing in self._holding.pop(uid, ()):
            del self._held[thing]

    def _elect(self, uid: str) -> dict[TargetObject, str]:
        """The oldest first: each gets all that it names, or nothing. One that gets nothing keeps
        nothing from those after it."""
        self._expire(uid)
        elected: dict[TargetObject, str] = {}
        for candidate in sorted(self._around(uid), key=lambda who: self._stakes[who].age):
            things = self._stakes[candidate].things
            if not any(thing in elected for thing in things):
                elected.update(dict.fromkeys(things, candidate))
        return elected

    def _around(self, uid: str) -> set[str]:
        """Everybody who names the same thing, or the same as one who does, and so on."""
        found, left = {uid}, [uid]
        while left:
            for thing in self._stakes[left.pop()].things:
                fresh = self._named[thing] - found
                found |= fresh
                left += fresh
        return found

    def _expire(self, uid: str) -> None:
        now = self._monotonic()
        for other in self._around(uid):
            until = self._stakes[other].until
            if until is not None and until <= now:
                self.drop(other)


def _stake(body: Mapping[str, Any], until: float | None) -> _Stake:
    """Leniently: a spec that this version cannot read has its target all the same."""
    meta, spec = body["metadata"], body.get("spec") or {}
    return _Stake(
        policy=f"{meta['namespace']}/{meta['name']}",
        age=(str(meta.get("creationTimestamp") or ""), str(meta["uid"])),
        things=tuple(_things(str(meta["namespace"]), spec.get("target") or {})),
        deleting=bool(meta.get("deletionTimestamp")),
        until=until,
    )


def _things(namespace: str, target: Mapping[str, Any]) -> list[TargetObject]:
    things = []
    if target.get("name"):
        version = str(target.get("apiVersion") or "apps/v1")
        kind = str(target.get("kind") or "Deployment")
        things.append(
            TargetObject(namespace, version.rpartition("/")[0], kind, str(target["name"]))
        )
    guard = target.get("guard") or {}
    if guard.get("horizontalPodAutoscaler"):
        name = str(guard["horizontalPodAutoscaler"])
        things.append(TargetObject(namespace, "autoscaling", "HorizontalPodAutoscaler", name))
    if guard.get("scaledObject"):
        things.append(
            TargetObject(namespace, "keda.sh", "ScaledObject", str(guard["scaledObject"]))
        )
    return things
