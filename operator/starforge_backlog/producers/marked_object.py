"""Pausing by a field of a Kubernetes object: compare-and-set with a mark on the object (P4).

| the field | mark on the object          | pause          | resume                              |
|-----------|-----------------------------|----------------|-------------------------------------|
| running   | any (a leftover is replaced)| PAUSED         | NOT_PAUSED                          |
| paused    | none                        | ALREADY_PAUSED | NOT_OURS; CHANGED_SINCE after ours  |
| paused    | another token               | ALREADY_PAUSED | NOT_OURS                            |
| paused    | our token, value as we left | ALREADY_OURS   | RESUMED                             |
| paused    | our token, value not ours   | ALREADY_OURS   | CHANGED_SINCE                       |

"As we left it" is judged by `managedFields` and not by `resourceVersion`: every pod that becomes
Ready moves the latter, and would count as a person's write.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from datetime import datetime
from typing import Protocol

from starforge_backlog.api.bounds import MOST_PREVIOUS_BYTES
from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.clock import Clock
from starforge_backlog.cluster.client import ClusterClient
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.marked import Place, Seen, put, read_marked
from starforge_backlog.cluster.marks import Mark
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why

# A Deployment moves with every pod that becomes Ready or dies: many times while it is scaled. Each
# wait is twice the one before, 1.3 s together; the effects of a pass have 5 s.
CONFLICT_RETRIES = 7
CONFLICT_WAIT_SECONDS = 0.02


class Field(Protocol):
    """What a kind of field says of itself. It is kept by its place, so equal ones are the same."""

    def __hash__(self) -> int: ...

    @property
    def place(self) -> Place:
        """Where it is."""

    @property
    def called(self) -> str:
        """For sentences: `key paused of ConfigMap api`."""

    @property
    def paused_value(self) -> object:
        """The value that pauses."""

    def is_paused(self, value: object) -> bool:
        """Whether this value of the field pauses; None: the field is absent."""

    def wrong(self, seen: Seen) -> str:
        """Why this object cannot be paused so, with the fix; empty if it can."""

    def missing(self) -> str:
        """The sentence for an object that does not exist, with the fix."""


class MarkedObjectProducer:
    """A `Pausable`: one field of one object, changed together with a mark."""

    def __init__(self, client: ClusterClient, field: Field, clock: Clock) -> None:
        self._client = client
        self._field = field
        self._clock = clock

    async def read(self) -> Reading[ProducerReading]:
        """What the field says now. ROW_MISSING and BAD_SHAPE come with the fix."""
        at = self._clock()
        try:
            seen = await read_marked(self._client, self._field.place)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                return Unknown(Why.ROW_MISSING, self._field.missing(), at)
            return fault.unknown(at)
        if wrong := self._field.wrong(seen):
            return Unknown(Why.BAD_SHAPE, wrong, at)
        value = FlagValue.PAUSED if self._field.is_paused(seen.value) else FlagValue.RUNNING
        if value is FlagValue.RUNNING and (wrong := self._too_long(seen)):
            return Unknown(Why.BAD_SHAPE, wrong, at)
        token, previous = None, None
        if seen.mark is not None:
            token, previous = seen.mark.token, seen.mark.previous
        reading = ProducerReading(value, token, seen.version, writer=seen.writer, previous=previous)
        return Known(reading, at)

    async def where(self) -> ServerPlace | Unknown | None:
        """The spec itself says where it is."""
        return None

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Set the field unless it is set already.

        After an Unknown the write may have happened; run it again with the same token.
        """
        try:
            return await self._pause(owner, token, at, why)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                return Paused(PauseOutcome.ROW_MISSING, message=self._field.missing())
            return fault.unknown(self._clock())

    async def _pause(self, owner: str, token: str, at: datetime, why: str) -> Paused | Unknown:
        for attempt in range(CONFLICT_RETRIES):
            seen = await read_marked(self._client, self._field.place)
            is_paused, mark = self._field.is_paused(seen.value), seen.mark
            if is_paused and mark is not None and mark.token == token:
                # Before anything else: what is ours must not be forgotten as refused.
                return Paused(PauseOutcome.ALREADY_OURS, seen.our_version, mark.previous)
            if wrong := self._field.wrong(seen):
                return Paused(PauseOutcome.BAD_SHAPE, message=wrong)
            if is_paused:
                return Paused(PauseOutcome.ALREADY_PAUSED, message=self._others(seen))
            if wrong := self._too_long(seen):
                return Paused(PauseOutcome.BAD_SHAPE, message=wrong)
            previous = None if seen.value is None else json.dumps(seen.value)
            mark = Mark.of(token=token, by=owner, at=at, why=why, previous=previous)
            value = self._field.paused_value
            written = await put(self._client, self._field.place, seen, value, mark)
            if written is not None:
                if not self._field.is_paused(written.value):
                    return self._swallowed()
                return Paused(PauseOutcome.PAUSED, written.version, previous)
            await asyncio.sleep(CONFLICT_WAIT_SECONDS * 2**attempt)
        return self._busy()

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Restore the value before our pause if the field is still as our pause left it.

        The value before is the mark's: a status that was lost and found again by its token has
        none. `version` may be empty when a crash kept it from being stored: the mark alone proves
        the pause then, or nothing does and the outcome is NOT_OURS.
        """
        try:
            return await self._resume(token, version, previous)
        except ClusterFault as fault:
            if fault.kind is FaultKind.NOT_FOUND:
                return Resumed(ResumeOutcome.ROW_MISSING, self._field.missing())
            return fault.unknown(self._clock())

    async def _resume(self, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        for attempt in range(CONFLICT_RETRIES):
            seen = await read_marked(self._client, self._field.place)
            if not self._field.is_paused(seen.value):
                return Resumed(ResumeOutcome.NOT_PAUSED, self._running(seen))
            mark = seen.mark
            if mark is None and not version:
                return Resumed(ResumeOutcome.NOT_OURS, self._others(seen))
            if mark is not None and mark.token != token:
                return Resumed(ResumeOutcome.NOT_OURS, self._others(seen))
            if not seen.as_we_left_it or (version and version != seen.version):
                return Resumed(ResumeOutcome.CHANGED_SINCE, self._changed(seen, previous))
            if wrong := self._field.wrong(seen):
                return Resumed(ResumeOutcome.BAD_SHAPE, wrong)
            before = mark.previous if mark is not None else previous
            value = None if before is None else json.loads(before)
            written = await put(self._client, self._field.place, seen, value, None)
            if written is not None:
                if self._field.is_paused(written.value):
                    return self._swallowed()
                return Resumed(ResumeOutcome.RESUMED)
            await asyncio.sleep(CONFLICT_WAIT_SECONDS * 2**attempt)
        return self._busy()

    def _too_long(self, seen: Seen) -> str:
        """Why the value cannot be put back by a resume; empty if it can."""
        found = len(json.dumps(seen.value))
        if found <= MOST_PREVIOUS_BYTES:
            return ""
        return (
            f"The {self._field.called} holds {found} bytes, and a pause remembers at most"
            f" {MOST_PREVIOUS_BYTES} to put back, so nothing was paused; give the pause a key of"
            " its own."
        )

    def _others(self, seen: Seen) -> str:
        if seen.mark is not None:
            whose = f"by {seen.mark.by or 'another policy'} since {seen.mark.at}"
        else:
            whose = f"by another client ({seen.writer})" if seen.writer else "by another client"
        return f"The {self._field.called} was paused {whose}; the operator does not resume it."

    def _running(self, seen: Seen) -> str:
        who = f"{seen.writer} wrote it" if seen.writer else "another client resumed it"
        return f"The {self._field.called} is no longer paused; {who}."

    def _changed(self, seen: Seen, previous: str | None) -> str:
        who = f"Another client ({seen.writer})" if seen.writer else "Another client"
        place, before = self._field.place, seen.mark.previous if seen.mark is not None else previous
        outer, inner = place.path
        value = None if before is None else json.loads(before)
        where = ["kubectl", "patch", place.resource.plural, place.name, "-n", place.namespace]
        patch = shlex.join([*where, "--type=merge", "-p", json.dumps({outer: {inner: value}})])
        return (
            f"{who} wrote the {self._field.called} after the operator's pause, so the pause may"
            f" belong to that client; when it is time to resume, run: {patch}"
        )

    def _busy(self) -> Unknown:
        message = f"The {self._field.called} keeps changing; the next pass tries again."
        return Unknown(Why.LOCK_BUSY, message, self._clock())

    def _swallowed(self) -> Unknown:
        message = (
            f"The API server took the write to the {self._field.called} and kept another value; an"
            " admission webhook changes it. Exempt the operator's ServiceAccount from it."
        )
        return Unknown(Why.NO_PERMISSION, message, self._clock())
