"""Values that are given by reference: keys of Secrets and ConfigMaps, never copied into messages.

A kept object is asked for again after a short time, and at once after `forget`: a password that
was rotated is picked up at the first refusal, without a restart.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import SECRETS, Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.connections.ttl_cache import MonotonicClock, TtlCache
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

# How long a Secret or ConfigMap counts as read. Rotation is noticed sooner, by the database's
# refusal; this bounds the requests for policies that have a Secret each.
KEEP_SECONDS = 30.0
# How long a fault is believed: shorter than a pass, so that a fixed Secret shows in the next.
KEEP_FAULT_SECONDS = 2.0
# Secrets whose last value is kept for a release; each is a URL or a few.
MOST_REMEMBERED = 1024
_TAKEN_AWAY = frozenset({Why.SECRET_NOT_FOUND, Why.NO_PERMISSION})
# Keys that exist are listed in the message, up to here.
KEYS_LISTED = 10


class KeyRef(Protocol):
    """A key of an object in the policy's namespace (`api.policy.SecretKeyRef` is one)."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...


class Getter(Protocol):
    """The part of the client that is needed here."""

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        """Read an object."""


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Data of a Secret or ConfigMap. A key that cannot be decoded is None."""

    data: Mapping[str, str | None]

    def __repr__(self) -> str:  # a traceback must not show passwords
        return f"KeyValues(keys={sorted(self.data)})"


_Key = tuple[Resource, str, str]


class KeyValueStore:
    """Secrets and ConfigMaps, kept for a short time and shared by all policies."""

    def __init__(
        self, client: Getter, clock: Clock = utc_now, monotonic: MonotonicClock = time.monotonic
    ) -> None:
        self._client = client
        self._clock = clock
        self._cache: TtlCache[_Key, Reading[KeyValues]] = TtlCache(monotonic)

    async def read(self, resource: Resource, namespace: str, name: str) -> Reading[KeyValues]:
        """All keys of the object."""

        async def ask() -> Reading[KeyValues]:
            return await self._ask(resource, namespace, name)

        return await self._cache.get((resource, namespace, name), ask, _lasts)

    def now(self) -> datetime:
        """The time, for readings made of what is kept here."""
        return self._clock()

    def forget(self, resource: Resource, namespace: str, name: str) -> None:
        """Read the object again next time."""
        self._cache.forget((resource, namespace, name))

    async def _ask(self, resource: Resource, namespace: str, name: str) -> Reading[KeyValues]:
        at = self._clock()
        try:
            found = await self._client.get(resource, namespace, name)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                kind = "Secret" if resource == SECRETS else "ConfigMap"
                message = f"{kind} {name} does not exist in namespace {namespace}; create it"
                return Unknown(Why.SECRET_NOT_FOUND, message, at)
            return fault.unknown(at)
        data: dict[str, str | None] = {}
        if resource == SECRETS:
            data.update((key, _decode(text)) for key, text in (found.get("data") or {}).items())
        else:
            data.update(found.get("data") or {})
            data.update(dict.fromkeys(found.get("binaryData") or {}))
        return Known(KeyValues(data), at)


class SecretReader:
    """The value behind a `secretKeyRef`, or why there is none."""

    def __init__(
        self,
        store: KeyValueStore,
        last: OrderedDict[tuple[str, str], KeyValues] | None = None,
        *,
        falls_back: bool = False,
    ) -> None:
        self._store = store
        self._last = OrderedDict[tuple[str, str], KeyValues]() if last is None else last
        self._falls_back = falls_back

    def for_release(self) -> SecretReader:
        """The same, but a Secret that is gone, or that we may not read any more, is what it was
        when it was read last: a namespace that is deleted takes its Secrets and our rights away
        before what was paused with them is released."""
        return SecretReader(self._store, self._last, falls_back=True)

    async def read(self, namespace: str, ref: KeyRef) -> Reading[str]:
        """Read one key of one Secret."""
        found = await self._store.read(SECRETS, namespace, ref.name)
        key = (namespace, ref.name)
        if isinstance(found, Known):
            self._last[key] = found.value
            self._last.move_to_end(key)
            while len(self._last) > MOST_REMEMBERED:
                self._last.popitem(last=False)
        elif self._falls_back and found.why in _TAKEN_AWAY and key in self._last:
            found = Known(self._last[key], found.at)
        return pick(found, "Secret", namespace, ref)

    def forget(self, namespace: str, name: str) -> None:
        """After a refused password: read the Secret again, it may have been rotated."""
        self._store.forget(SECRETS, namespace, name)


def pick(found: Reading[KeyValues], kind: str, namespace: str, ref: KeyRef) -> Reading[str]:
    """One key of an object that was read."""
    if isinstance(found, Unknown):
        return found
    where = f"{kind} {ref.name} in namespace {namespace}"
    if ref.key not in found.value.data:
        message = f"{where} has no key {ref.key}; it has {_listed(found.value.data)}"
        return Unknown(Why.SECRET_KEY_MISSING, message, found.at)
    value = found.value.data[ref.key]
    if value is None:
        message = f"key {ref.key} of {where} is not UTF-8 text in base64; write it again"
        return Unknown(Why.SECRET_MALFORMED, message, found.at, names_secret=True)
    if not value.strip():
        message = f"key {ref.key} of {where} is empty; write the value"
        return Unknown(Why.SECRET_MALFORMED, message, found.at, names_secret=True)
    # A line break at the end is what `echo secret | base64` leaves, and never part of a value.
    return Known(value.rstrip("\r\n"), found.at)


def _lasts(reading: Reading[KeyValues]) -> float:
    return KEEP_SECONDS if isinstance(reading, Known) else KEEP_FAULT_SECONDS


def _decode(text: object) -> str | None:
    try:
        return base64.b64decode(str(text), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _listed(data: Mapping[str, str | None]) -> str:
    keys = sorted(data)
    if not keys:
        return "no keys"
    more = f" and {len(keys) - KEYS_LISTED} more" if len(keys) > KEYS_LISTED else ""
    return "the keys " + ", ".join(keys[:KEYS_LISTED]) + more
