"""Guarded autoscalers are watched: a maximum that was written back is lowered at once.

KEDA and the controller of HorizontalPodAutoscalers obey a raised maximum within a second, an
interval is fifteen. A watch only rings: the policy's pass reads the object itself, and what it
reads alone counts. So a watch that fails costs nothing but the time until the next pass (P1, P7).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from starforge_backlog.api.policy import Guard
from starforge_backlog.cluster.autoscaler_object import (
    KINDS,
    AutoscalerKind,
    autoscaler,
    own_autoscaler,
)
from starforge_backlog.cluster.client import MOST_WATCHES, Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.connections.backoff import ReconnectPacing, retry_delay

_log = structlog.stdlib.get_logger(__name__)

# Between two passes that one object starts: who writes it a hundred times a second must not have as
# many passes.
APART_SECONDS = 1.0
# A watch that lasted this long ended for an ordinary reason, and is opened again at once.
LASTED_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPacing(ReconnectPacing):
    """How soon a watch that failed is opened again."""

    retry_first: timedelta = timedelta(seconds=0.5)
    # A right that is missing, an API server that is away: the passes read meanwhile.
    retry_most: timedelta = timedelta(seconds=30)


class Watching(Protocol):
    """The part of the client that is needed here."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read an object."""

    def watch(self, resource: Resource, namespace: str, name: str) -> AsyncIterator[Json]:
        """Events of one object."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """A guarded object."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class _State:
    """What of an object a pass has to know at once."""

    lasting: tuple[object, ...]
    maximum: int
    theirs: bool  # another client wrote the maximum last

    def news(self, before: _State | None) -> bool:
        """Whether another client has changed it."""
        if before is None or self.lasting != before.lasting:
            return True
        return self.theirs and (self.maximum != before.maximum or not before.theirs)


@dataclass(slots=True)
class _Watch:
    """One watch, and whom it wakes."""

    thing: _Thing
    wakes: dict[str, Callable[[], None]] = field(default_factory=dict)  # by policy
    task: asyncio.Task[None] | None = None
    state: _State | None = None
    seen: bool = False  # it was read before, so a difference is news
    woke_at: float = -APART_SECONDS  # loop time
    waiting: asyncio.TimerHandle | None = None


class GuardWatches:
    """One watch per guarded object, shared by the policies that name it."""

    def __init__(self, client: Watching, pacing: WatchPacing | None = None) -> None:
        self._client = client
        self._pacing = pacing or WatchPacing()
        self._watches: dict[_Thing, _Watch] = {}
        self._of: dict[str, _Thing] = {}  # by policy

    def keep(
        self, policy: str, namespace: str, guard: Guard | None, wake: Callable[[], None]
    ) -> None:
        """The policy guards that object from now on (None: nothing), and `wake` starts its pass.
        Called with every pass: a watch that has ended for whatever reason is opened again."""
        thing = _Thing(guard.object[0], namespace, guard.object[1]) if guard is not None else None
        if self._of.get(policy) != thing:
            self.release(policy)
        if thing is None:
            return
        watch = self._watches.get(thing)
        if watch is None:
            if len(self._watches) >= MOST_WATCHES:
                return  # its passes read it
            watch = self._watches[thing] = _Watch(thing)
        self._of[policy] = thing
        watch.wakes[policy] = wake
        if watch.task is None or watch.task.done():
            watch.task = asyncio.create_task(self._run(watch))

    def release(self, policy: str) -> None:
        """The policy guards nothing any more; a watch that nobody needs ends."""
        thing = self._of.pop(policy, None)
        if thing is None:
            return
        watch = self._watches[thing]
        watch.wakes.pop(policy, None)
        if not watch.wakes:
            del self._watches[thing]
            _end(watch)

    async def close(self) -> None:
        """End all watches."""
        watches = tuple(self._watches.values())
        self._watches.clear()
        self._of.clear()
        for watch in watches:
            _end(watch)
        tasks = [watch.task for watch in watches if watch.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._watches)

    async def _run(self, watch: _Watch) -> None:
        """Watch for ever; what ends one watch does not end this."""
        loop, failures, reported = asyncio.get_running_loop(), 0, ""
        while True:
            began = loop.time()
            try:
                await self._watch(watch)
                fault = ""
            except ClusterFault as failed:
                fault = failed.message
            except Exception as bug:  # noqa: BLE001 - a watch that ended in silence is the harm
                fault = f"the operator has a bug: {type(bug).__name__}"
            lasted = loop.time() - began >= LASTED_SECONDS
            failures = 0 if lasted else failures + 1
            if fault and fault != reported:
                _log.warning("a guarded object is not watched, only read", reason=fault)
            reported = fault
            if not lasted:
                await asyncio.sleep(retry_delay(failures - 1, self._pacing))

    async def _watch(self, watch: _Watch) -> None:
        thing = watch.thing
        kind = KINDS[thing.kind]
        # What changed while nobody watched, the end of the object included. The watch itself begins
        # with the object as it is; without this read its first event would always be news.
        self._saw(watch, await self._read(kind, thing))
        async for event in self._client.watch(kind.resource, thing.namespace, thing.name):
            gone = event.get("type") == "DELETED"
            self._saw(watch, None if gone else _state(kind, event["object"]))

    async def _read(self, kind: AutoscalerKind, thing: _Thing) -> _State | None:
        try:
            found = await self._client.get(kind.resource, thing.namespace, thing.name)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                return None
            raise
        return _state(kind, found)

    def _saw(self, watch: _Watch, state: _State | None) -> None:
        before, watch.state = watch.state, state
        news = state.news(before) if state is not None else before is not None
        if watch.seen and news:
            self._wake(watch)
        watch.seen = True

    def _wake(self, watch: _Watch) -> None:
        if watch.waiting is not None:
            return
        loop = asyncio.get_running_loop()
        opens = max(loop.time(), watch.woke_at + APART_SECONDS)

        def ring() -> None:
            watch.waiting, watch.woke_at = None, loop.time()
            for wake in tuple(watch.wakes.values()):
                wake()

        if opens <= loop.time():
            ring()
        else:
            watch.waiting = loop.call_at(opens, ring)


def _end(watch: _Watch) -> None:
    if watch.waiting is not None:
        watch.waiting.cancel()
    if watch.task is not None:
        watch.task.cancel()


def _state(kind: AutoscalerKind, found: Json) -> _State:
    seen = autoscaler(kind, found)
    target = json.dumps((found.get("spec") or {}).get("scaleTargetRef"), sort_keys=True)
    own = own_autoscaler(found)
    return _State(
        # KEDA's own autoscaler may have been made with an older maximum than it should have.
        lasting=(seen.uid, seen.minimum, seen.paused, seen.held_at, target, own),
        maximum=seen.maximum,
        theirs=seen.changed_since,
    )
