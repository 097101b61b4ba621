"""Events on the objects they are about: what `kubectl describe` shows, one for each transition."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from starforge_backlog.api import FIELD_MANAGER, GROUP, VERSION
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import EVENTS, Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind

# Limits of events.k8s.io/v1; a longer note is refused as a whole.
NOTE_CHARACTERS = 1024
# What flaps must not fill etcd with Events: of one kind so many at once, then one per refill. Each
# condition has a limit of its own, and actions have none: a revert is never left out because a
# condition went to and fro 48 times before.
BURST = 6
REFILL_SECONDS = 120.0
# Events that are kept in mind for an object whose status cannot be stored.
MOST_UNSTORED = 100

_log = logging.getLogger(__name__)


class EventType(StrEnum):
    """Kubernetes knows these two."""

    NORMAL = "Normal"
    WARNING = "Warning"


class Posting(StrEnum):
    """What became of an Event, for the metric."""

    POSTED = "posted"
    FAILED = "failed"
    DROPPED = "dropped"  # over the limit of its kind


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an Event is about."""

    namespace: str
    name: str
    uid: str
    kind: str = "QueueBacklogPolicy"
    api_version: str = f"{GROUP}/{VERSION}"


class Creator(Protocol):
    """The part of the client that is needed here."""

    async def create(
        self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False
    ) -> Json:
        """Create an object."""


Counter = Callable[[Posting], None]
N = TypeVar("N", bound=Hashable)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    dropped: int = 0  # since the last one that was posted


class EventPoster:
    """Posts Events. A failure is logged and counted, and never fails a pass."""

    def __init__(
        self,
        client: Creator,
        *,
        instance: str,
        count: Counter,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._instance = instance  # the pod's name, to distinguish two replicas
        self._count = count
        self._clock = clock
        self._monotonic = monotonic
        self._buckets: dict[str, dict[str, _Bucket]] = {}  # by object, then by what is limited
        self._unstored: dict[str, frozenset[Hashable]] = {}
        self._sequence = 0

    async def post(
        self,
        regarding: Regarding,
        kind: EventType,
        *,
        reason: str,
        action: str,
        note: str,
        limit: str = "",
    ) -> Posting:
        """Post one Event. `reason` is a CamelCase word, `note` a sentence with the numbers.

        `limit` names what is limited together with others of the same name; without one the Event
        is always posted.
        """
        dropped = self._take(regarding.uid, limit) if limit else 0
        if dropped is None:
            self._count(Posting.DROPPED)
            return Posting.DROPPED
        if dropped:
            note = f"{note} ({dropped} changes in between made no Event)"
        posting = await self._post(regarding, kind, reason=reason, action=action, note=note)
        self._count(posting)
        return posting

    async def forbidden_by_deletion(self, regarding: Regarding) -> bool:
        """Whether the namespace is being deleted, so that nothing can be created in it: a dry run
        shows it, and needs no right but the one for Events."""
        body = self._body(regarding, EventType.NORMAL, reason="Released", action="Try", note="-")
        try:
            await self._client.create(EVENTS, regarding.namespace, body, dry_run=True)
        except ClusterFault as fault:
            return fault.kind is FaultKind.NAMESPACE_TERMINATING
        return False

    def forget(self, uid: str) -> None:
        """The object is gone: drop what is kept of it."""
        self._buckets.pop(uid, None)
        self._unstored.pop(uid, None)

    def news(self, uid: str, notes: Sequence[N], *, stored: bool) -> tuple[N, ...]:
        """Without what was posted by passes whose status was not stored since."""
        posted = self._unstored.get(uid, frozenset())
        if stored:
            self._unstored.pop(uid, None)
        elif notes and len(posted) < MOST_UNSTORED:
            self._unstored[uid] = posted.union(notes)
        return tuple(note for note in notes if note not in posted)

    async def _post(
        self, regarding: Regarding, kind: EventType, *, reason: str, action: str, note: str
    ) -> Posting:
        body = self._body(regarding, kind, reason=reason, action=action, note=note)
        try:
            await self._client.create(EVENTS, regarding.namespace, body)
        except ClusterFault as fault:
            _log.warning(
                "the event %s of %s/%s was not posted: %s",
                reason,
                regarding.namespace,
                regarding.name,
                fault.message,
            )
            return Posting.FAILED
        return Posting.POSTED

    def _body(
        self, regarding: Regarding, kind: EventType, *, reason: str, action: str, note: str
    ) -> Json:
        now = self._clock()
        self._sequence += 1
        return {
            "metadata": {
                "namespace": regarding.namespace,
                "name": self._name(regarding.name, now),
            },
            "type": kind.value,
            "reason": reason,
            "action": action,
            "note": shorten(note),
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "regarding": {
                "apiVersion": regarding.api_version,
                "kind": regarding.kind,
                "namespace": regarding.namespace,
                "name": regarding.name,
                "uid": regarding.uid,
            },
        }

    def _name(self, name: str, now: datetime) -> str:
        """Unique: the time to the microsecond, and a number for two in the same one."""
        stamp = int(now.timestamp() * 1_000_000)
        # Names end at 253 characters, and one of a policy may be that long by itself. What is left
        # of it must not end in what no part of a name ends in.
        return f"{name[:200].rstrip('.-')}.{stamp:x}{self._sequence % 4096:03x}"

    def _take(self, uid: str, limit: str) -> int | None:
        """How many were dropped since the last one; None where this one is dropped as well."""
        now = self._monotonic()
        bucket = self._buckets.setdefault(uid, {}).setdefault(limit, _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) / REFILL_SECONDS)
        bucket.at = now
        if bucket.tokens < 1:
            bucket.dropped += 1
            return None
        bucket.tokens -= 1
        dropped, bucket.dropped = bucket.dropped, 0
        return dropped


def shorten(note: str) -> str:
    """At most as long as the API server takes; it counts bytes, and `≥` is three of them."""
    encoded = note.encode()
    if len(encoded) <= NOTE_CHARACTERS:
        return note
    ellipsis = "…".encode()
    return encoded[: NOTE_CHARACTERS - len(ellipsis)].decode(errors="ignore") + "…"
