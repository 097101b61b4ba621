"""The only writer of a policy's status, and its memory of what it wrote.

A pass may start before our own write of the last pass has come back over the watch. Deciding from
the older body would forget that write (a pause's token, a step), so the writer keeps the newest
status it knows of, and every write names the version that it was decided from.

Every write carries the time of the pass. While nothing changes that time alone is renewed now and
then: an operator that is dead, or scaled to 0, shows in `kubectl get` by nothing else. A later time
that this process did not send is from a second operator.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from starforge_backlog.api.fitting import fitted
from starforge_backlog.api.memory import apart
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.cluster.client import POLICIES, ClusterClient, Json, Operations
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.lenient import parse_status

# Conflicts with writers of spec or annotations that are retried in one pass; each retry reads the
# policy again. Who edits more often than this in a second is another operator, not a person.
CONFLICT_RETRIES = 3
# `status.lastPassTime` is never older than this while passes go on; it is the only write while
# nothing changes (P7): two a second for a thousand policies.
RENEW_AFTER = timedelta(minutes=10)
# Share of it by which some renew earlier. Policies that were written in one moment, by an upgrade
# or after an outage, must not be written in one moment for ever.
RENEW_SPREAD = 0.2
# Pass times that are remembered as our own: of writes in a row whose answers were lost.
SENT_KEPT = 16
# A time further in the future was written under another clock.
MOST_AHEAD = timedelta(minutes=1)
RENEWED = "lastPassTime"

# Then nothing is known of what became of it, or it is worth no word: the next pass asks again.
_UNANSWERED: Final = frozenset({FaultKind.TIMEOUT, FaultKind.UNREACHABLE, FaultKind.THROTTLED})

_log = logging.getLogger(__name__)


class WriteOutcome(StrEnum):
    """What became of a write."""

    WRITTEN = "Written"
    UNCHANGED = "Unchanged"  # equal to what is there: no request was sent
    REFUSED = "Refused"  # the API server answered, and did not take it
    CONFLICT = "Conflict"  # another client wrote the status; theirs is `current` from now on
    GONE = "Gone"  # the policy was deleted
    FAILED = "Failed"  # no answer, or none that counts; it may have been written all the same


@dataclass(frozen=True, slots=True)
class StatusWrite:
    """Outcome of a write, and the sentence when it is not what was wanted."""

    outcome: WriteOutcome
    message: str = ""

    @property
    def stands(self) -> bool:
        """The wanted status is on the server: intents in it may be carried out."""
        return self.outcome in {WriteOutcome.WRITTEN, WriteOutcome.UNCHANGED}


@dataclass(frozen=True, slots=True)
class Edition:
    """What people wrote of a policy: its spec, its annotations, its deletion."""

    generation: int
    annotations: str
    deleted: bool

    @classmethod
    def of(cls, meta: Json) -> Edition:
        """From the metadata of a policy."""
        annotations = sorted((meta.get("annotations") or {}).items())
        return cls(
            int(meta.get("generation") or 0), repr(annotations), bool(meta.get("deletionTimestamp"))
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """The newest state of one policy. Statuses are kept as bytes: a model is ten times as large."""

    version: str
    edition: Edition  # what people wrote, at that version
    server: bytes  # the status as the API server has it
    wanted: bytes | None  # what we sent that became `server` (the CRD may prune or default)
    passed: str = ""  # its `lastPassTime`, as written
    doubtful: bytes | None = None  # sent, but no answer came: it may be on the server


class StatusListener(Protocol):
    """Reports what happens to statuses beside their being written. Must not raise."""

    async def refused(self, namespace: str, name: str, uid: str, why: str, /) -> None:
        """Once with the API server's reason; once without one when a status is stored again."""

    async def shared(self, namespace: str, name: str, uid: str, passed: str, /) -> None:
        """Another operator wrote the status after its own pass, at the time `passed`."""


class _Nobody:
    """Nothing but the log line."""

    async def refused(self, _namespace: str, _name: str, _uid: str, _why: str, /) -> None:
        pass

    async def shared(self, _namespace: str, _name: str, _uid: str, _passed: str, /) -> None:
        pass


class StatusWriter:
    """Reads and writes the status of policies. One task per policy at a time."""

    def __init__(
        self,
        client: ClusterClient,
        listener: StatusListener | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._client = client
        self._listener = listener or _Nobody()
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._complained: dict[str, bytes] = {}
        self._refused: set[str] = set()  # policies whose last status was not taken
        self._sent: dict[str, deque[str]] = {}  # `lastPassTime` of our own writes
        self._shared: dict[str, str] = {}  # that of another operator, not reported yet

    def current(self, body: Mapping[str, Any]) -> QueueBacklogPolicyStatus:
        """The freshest status: of the watch's body, or of our own last write if that is newer."""
        meta: Json = body["metadata"]
        uid = str(meta["uid"])
        self._adopt(uid, str(meta.get("resourceVersion") or ""), body)
        status, dropped = parse_status(json.loads(self._known[uid].server))
        if dropped and self._complained.get(uid) != self._known[uid].server:
            self._complained[uid] = self._known[uid].server
            _log.warning(
                "the status of %s/%s was not written by this operator; ignored: %s",
                meta.get("namespace"),
                meta.get("name"),
                ", ".join(dropped),
            )
        return status

    async def write(
        self,
        namespace: str,
        name: str,
        uid: str,
        status: QueueBacklogPolicyStatus,
        *,
        only_for: Edition | None = None,
    ) -> StatusWrite:
        """Make this the status, if nobody else wrote one since `current`.

        `only_for`: an intent counts only for what it was decided from. Where a person has edited
        the policy meanwhile (held it, suspended it, pointed it elsewhere, deleted it), it is a
        conflict, and the next pass decides again.
        """
        wanted = self._with_time(uid, fitted(status))
        await self._report_sharing(namespace, name, uid)
        try:
            written = await self._write(namespace, name, uid, wanted, only_for)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                self.forget(uid)
                return StatusWrite(WriteOutcome.GONE, fault.message)
            if fault.kind in _UNANSWERED:
                self._doubt(uid, wanted)
                return StatusWrite(WriteOutcome.FAILED, fault.message)
            await self._refusal(namespace, name, uid, fault.message)
            return StatusWrite(WriteOutcome.REFUSED, fault.message)
        except asyncio.CancelledError:
            self._doubt(uid, wanted)
            raise
        if written.outcome is WriteOutcome.WRITTEN and uid in self._refused:
            self._refused.discard(uid)
            _log.warning("the status of %s/%s is stored again", namespace, name)
            await self._listener.refused(namespace, name, uid, "")
        return written

    def _with_time(self, uid: str, status: QueueBacklogPolicyStatus) -> bytes:
        """With the time of now; with the one that is there, where nothing else would change."""
        now, kept = self._clock(), self._known.get(uid)
        if kept is not None and kept.doubtful is None and not _is_old(kept.passed, now, uid):
            same = _stamped(status, kept.passed)
            if same in {kept.server, kept.wanted}:
                return same
        return _stamped(status, _text(now))

    def forget(self, uid: str) -> None:
        """The policy is gone: drop what is kept of it."""
        self._known.pop(uid, None)
        self._complained.pop(uid, None)
        self._refused.discard(uid)
        self._sent.pop(uid, None)
        self._shared.pop(uid, None)

    async def _report_sharing(self, namespace: str, name: str, uid: str) -> None:
        """Two operators never write one status by accident: releases or replicas too many.

        What either decides is safe, because each effect follows an intent that was stored under
        the version it was decided from. But each measures its steps against the other's.
        """
        passed = self._shared.pop(uid, None)
        if passed is None:
            return
        _log.warning("another operator wrote the status of %s/%s at %s", namespace, name, passed)
        await self._listener.shared(namespace, name, uid, passed)

    async def _refusal(self, namespace: str, name: str, uid: str, why: str) -> None:
        """Loud, and once until one is stored again: what people read is old from here on."""
        if uid in self._refused:
            return
        self._refused.add(uid)
        _log.error("the status of %s/%s cannot be stored: %s", namespace, name, why)
        await self._listener.refused(namespace, name, uid, why)

    async def _write(
        self, namespace: str, name: str, uid: str, wanted: bytes, only_for: Edition | None
    ) -> StatusWrite:
        for _ in range(CONFLICT_RETRIES):
            known = self._known.get(uid) or await self._reread(namespace, name, uid)
            if known is None:
                return self._replaced(namespace, name, uid)
            if only_for is not None and known.edition != only_for:
                message = "the policy was edited during the pass; the next pass decides again"
                return StatusWrite(WriteOutcome.CONFLICT, message)
            if known.doubtful is None and wanted in {known.server, known.wanted}:
                return StatusWrite(WriteOutcome.UNCHANGED)
            status = json.loads(wanted)
            self._sent.setdefault(uid, deque(maxlen=SENT_KEPT)).append(_passed_of(status))
            try:
                answer = await self._client.patch(
                    POLICIES, namespace, name, _operations(known.version, status), sub="status"
                )
            except ClusterFault as fault:
                if fault.kind is not FaultKind.CONFLICT:
                    raise
                self._sent[uid].pop()  # not written: two operators may pass in one second
            else:
                self._known[uid] = _known(answer, wanted)
                return StatusWrite(WriteOutcome.WRITTEN)
            there = await self._reread(namespace, name, uid)
            if there is None:
                return self._replaced(namespace, name, uid)
            if there.server not in {known.server, known.wanted, known.doubtful, wanted}:
                message = (
                    "another client wrote the status; the next pass continues from that status"
                )
                return StatusWrite(WriteOutcome.CONFLICT, message)
        message = f"the policy changed {CONFLICT_RETRIES} times while its status was written"
        return StatusWrite(WriteOutcome.CONFLICT, message)

    async def _reread(self, namespace: str, name: str, uid: str) -> _Known | None:
        """What the server has now becomes what is known; None when it is another policy."""
        found = await self._client.get(POLICIES, namespace, name)
        meta: Json = found["metadata"]
        if meta["uid"] != uid:
            return None
        read = _known(found, None)
        self._compare(uid, read)
        self._known[uid] = read
        return read

    def _doubt(self, uid: str, wanted: bytes) -> None:
        """No answer came: whether it was written shows in the next conflict, or over the watch."""
        known = self._known.get(uid)
        if known is not None:
            self._known[uid] = replace(known, doubtful=wanted)

    def _replaced(self, namespace: str, name: str, uid: str) -> StatusWrite:
        self.forget(uid)
        message = f"{namespace}/{name} was deleted and created again"
        return StatusWrite(WriteOutcome.GONE, message)

    def _adopt(self, uid: str, version: str, body: Mapping[str, Any]) -> None:
        """Take the watch's view unless our own write is newer."""
        known = self._known.get(uid)
        if known is not None and not _is_newer(version, known.version):
            return
        found = _known(body, None)
        self._compare(uid, found)
        # Where only spec or annotations moved, what we wrote still stands as we wrote it.
        if known is not None and found.server == known.server:
            found = replace(found, wanted=known.wanted)
        self._known[uid] = replace(found, version=version)

    def _compare(self, uid: str, found: _Known) -> None:
        """Notice another operator. The first status that a process reads is its predecessor's; an
        older time is that of a restored backup."""
        sent = self._sent.get(uid)
        if sent and found.passed not in sent and _is_later(found.passed, sent[-1]):
            self._shared[uid] = found.passed


def _known(found: Json, wanted: bytes | None) -> _Known:
    """What an answer of the API server contains."""
    meta: Json = found["metadata"]
    status = found.get("status") or {}
    passed = _passed_of(status) if isinstance(status, Mapping) else ""
    version = str(meta.get("resourceVersion") or "")
    return _Known(version, Edition.of(meta), _canonical(status), wanted, passed)


def _operations(version: str, status: Json) -> Operations:
    """A JSON patch that replaces the whole status, so that removed keys are gone.

    Putting `resourceVersion` makes it a precondition (409 when stale); a `test` operation would
    answer 422, the same as for a status that the schema refuses.
    """
    return [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status", "value": status},
    ]


def _stamped(status: QueueBacklogPolicyStatus, passed: str) -> bytes:
    """As JSON, without what is None: the API server prunes nulls, and would seem changed."""
    dumped = apart(status)
    dumped.pop(RENEWED, None)
    return _canonical({**dumped, RENEWED: passed} if passed else dumped)


def _text(moment: datetime) -> str:
    """As Kubernetes writes times: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_old(passed: str, now: datetime, uid: str) -> bool:
    """Whether to renew it: in the last fifth of `RENEW_AFTER`, each policy at its own time."""
    try:
        age = now - datetime.fromisoformat(passed)
    except (TypeError, ValueError):
        return True  # there is none, or another client wrote it
    early = RENEW_SPREAD * (zlib.crc32(uid.encode()) % 1000) / 1000
    return age < -MOST_AHEAD or age >= RENEW_AFTER * (1 - early)


def _passed_of(status: Mapping[str, Any]) -> str:
    return str(status.get(RENEWED) or "")


def _is_later(passed: str, than: str) -> bool:
    """Both as `_text` writes them; anything else is no operator's."""
    try:
        return datetime.fromisoformat(passed) > datetime.fromisoformat(than)
    except (TypeError, ValueError):
        return False


def _canonical(status: object) -> bytes:
    """The same bytes for the same status, whoever wrote the JSON."""
    return json.dumps(_normal(status or {}), sort_keys=True, separators=(",", ":")).encode()


def _normal(value: object) -> object:
    """Plain containers (the framework hands out views) and `2` for `2.0`, as Go writes it."""
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_newer(version: str, than: str) -> bool:
    """Resource versions of one resource are ordered integers (an API promise since 1.35).

    One that is no integer is taken as newer when it differs: the watch is then all we have.
    """
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
