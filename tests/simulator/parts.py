"""Producers that are paused in parts, with the truth that only the model knows: who paused what.

They behave like `producers/backfill_jobs.py`, `job_types.py` and a webhook that cannot be read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from tests.simulator.flag import Flag

from starforge_backlog.api.status import PauseState, PauseStatus
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why


class Model(Protocol):
    """One producer."""

    def read(self, at: datetime, entry: PauseStatus | None) -> Reading[ProducerReading]:
        """As the operator sees it."""

    def pause(self, token: str, plan: str | None, entry: PauseStatus | None) -> Paused:
        """The operator pauses."""

    def resume(self, held: PauseStatus) -> Resumed:
        """The operator resumes."""

    def person(self, pauses: bool, number: int) -> None:
        """A person pauses or resumes (part of) it."""

    def more(self, number: int) -> None:
        """Something new runs."""

    def ours(self) -> bool:
        """Whether anything is paused by the operator, in truth."""

    def runs(self) -> bool:
        """Whether anything of it is not paused, in truth."""

    def stolen(self) -> int:
        """How often something that a person paused was resumed by us: must stay 0."""


class Marked:
    """A flag with its mark."""

    def __init__(self) -> None:
        self.flag = Flag(write_owner=True)

    def read(self, at: datetime, entry: PauseStatus | None) -> Reading[ProducerReading]:
        return self.flag.read(at)

    def pause(self, token: str, plan: str | None, entry: PauseStatus | None) -> Paused:
        return self.flag.pause(token)

    def resume(self, held: PauseStatus) -> Resumed:
        return self.flag.resume(held.token, held.version)

    def person(self, pauses: bool, number: int) -> None:
        if pauses:
            self.flag.person_pauses()
        else:
            self.flag.person_resumes()

    def more(self, number: int) -> None:
        """A flag has no parts."""

    def ours(self) -> bool:
        return self.flag.by == "us"

    def runs(self) -> bool:
        return not self.flag.paused

    def stolen(self) -> int:
        return self.flag.stolen


@dataclass
class Row:
    """A backfill. `by`: who paused it, in truth; "" while it runs."""

    by: str = ""
    version: int = 1


@dataclass
class Rows:
    """Backfills. Of the number of each only some can be written at once, the others are locked."""

    audited: bool
    rows: dict[str, Row] = field(default_factory=lambda: {"1": Row(), "2": Row()})
    audit: dict[str, dict[str, Any]] = field(default_factory=dict)
    stole: int = 0
    locked: str = ""  # the id of a row in somebody's hands

    def read(self, at: datetime, entry: PauseStatus | None) -> Reading[ProducerReading]:
        running = [key for key, row in self.rows.items() if not row.by]
        plan = json.dumps(dict.fromkeys(running))
        known = _items(entry.previous) if entry is not None else {}
        found = ProducerReading(FlagValue.RUNNING, None, "rows", plan=plan)
        if entry is not None and entry.state is PauseState.HELD:
            new = any(key not in known for key in running)
            found = ProducerReading(FlagValue.PAUSED, entry.token, entry.version, new, plan)
        elif entry is not None and entry.state in {PauseState.INTENDED, PauseState.CHANGED}:
            paused = {key for key, row in self.rows.items() if row.by}
            if paused & known.keys() if known else paused:
                found = ProducerReading(FlagValue.PAUSED, None, "rows", plan=plan)
        return Known(found, at)

    def pause(self, token: str, plan: str | None, entry: PauseStatus | None) -> Paused:
        planned = _items(plan)
        held = {key: mark for key, mark in planned.items() if mark is not None}
        new: dict[str, Any] = {}
        before, missed = set[str](), False
        for key in planned.keys() - held.keys():
            row = self.rows.get(key)
            if row is None:
                continue
            if row.by:
                before.add(key)
            elif key == self.locked:
                missed = True
            else:
                row.by, row.version = "us", row.version + 1
                new[key] = row.version
        if self.audited:
            self.audit.setdefault(token, {}).update(new)
        proven = {k: m for k, m in self.audit.get(token, {}).items() if k in before}
        unsure = {} if self.audited else dict.fromkeys(before)
        marks = {**unsure, **held, **proven, **new}
        return Paused(PauseOutcome.PAUSED, "rows", json.dumps(marks), complete=not missed)

    def resume(self, held: PauseStatus) -> Resumed:
        marks = _items(held.previous)
        if not marks or None in marks.values():
            marks |= self.audit.get(held.token, {})
        busy, changed, written = False, False, False
        for key, mark in marks.items():
            row = self.rows.get(key)
            if row is None or not row.by:
                continue
            if key == self.locked:
                busy = True
            elif mark == row.version:
                self.stole += row.by != "us"
                row.by, row.version, written = "", row.version + 1, True
            elif mark is not None or not self.audited:
                changed = True
        if busy:
            return Resumed(ResumeOutcome.PARTLY, "one is being written")
        if changed:
            return Resumed(ResumeOutcome.CHANGED_SINCE, "written over")
        return Resumed(ResumeOutcome.RESUMED if written else ResumeOutcome.NOT_PAUSED)

    def person(self, pauses: bool, number: int) -> None:
        key = str(1 + number % len(self.rows))
        if key in self.rows:
            row = self.rows[key]
            row.by, row.version = ("person" if pauses else ""), row.version + 1

    def more(self, number: int) -> None:
        self.locked = str(number)
        if len(self.rows) < 6:
            self.rows[str(len(self.rows) + 1)] = Row()

    def ours(self) -> bool:
        return any(row.by == "us" for row in self.rows.values())

    def runs(self) -> bool:
        return any(not row.by for row in self.rows.values())

    def stolen(self) -> int:
        return self.stole


@dataclass
class Line:
    """Jobs of a type, held back in batches by a slot that is ours alone."""

    loose: int = 5
    held: int = 0
    batch: int = 4

    def read(self, at: datetime, entry: PauseStatus | None) -> Reading[ProducerReading]:
        if self.held:
            token = entry.token if entry is not None else "uid-1/types/found"
            found = ProducerReading(FlagValue.PAUSED, token, "slot", leaking=self.loose > 0)
            return Known(found, at)
        if entry is not None and entry.state is PauseState.HELD:
            lifted = _items(entry.previous).get("held", 0) > 0 and self.loose > 0
            if not lifted:
                leaks = self.loose > 0
                found = ProducerReading(FlagValue.PAUSED, entry.token, entry.version, leaks)
                return Known(found, at)
        return Known(ProducerReading(FlagValue.RUNNING, None, "slot"), at)

    def pause(self, token: str, plan: str | None, entry: PauseStatus | None) -> Paused:
        moved = min(self.batch, self.loose)
        self.loose -= moved
        self.held += moved
        before = _items(entry.previous).get("held", 0) if entry is not None else 0
        previous = json.dumps({"held": before + moved})
        return Paused(PauseOutcome.PAUSED, "slot", previous, complete=not self.loose)

    def resume(self, held: PauseStatus) -> Resumed:
        moved = min(self.batch, self.held)
        self.held -= moved
        self.loose += moved
        if self.held:
            return Resumed(ResumeOutcome.PARTLY, f"{self.held} are left")
        return Resumed(ResumeOutcome.RESUMED)

    def person(self, pauses: bool, number: int) -> None:
        if not pauses:
            self.loose, self.held = self.loose + self.held, 0

    def more(self, number: int) -> None:
        self.loose += number

    def ours(self) -> bool:
        return self.held > 0

    def runs(self) -> bool:
        return self.loose > 0

    def stolen(self) -> int:
        return 0


@dataclass
class Deaf:
    """An API without a read, which distinguishes who paused it."""

    tokens: set[str] = field(default_factory=set)

    def read(self, at: datetime, entry: PauseStatus | None) -> Reading[ProducerReading]:
        return Unknown(Why.NOT_CONFIGURED, "it cannot be read", at)

    def pause(self, token: str, plan: str | None, entry: PauseStatus | None) -> Paused:
        self.tokens.add(token)
        return Paused(PauseOutcome.PAUSED, token)

    def resume(self, held: PauseStatus) -> Resumed:
        self.tokens.discard(held.token)
        return Resumed(ResumeOutcome.RESUMED)

    def person(self, pauses: bool, number: int) -> None:
        """Their pauses are kept apart from ours."""

    def more(self, number: int) -> None:
        """It has no parts."""

    def ours(self) -> bool:
        return bool(self.tokens)

    def runs(self) -> bool:
        return not self.tokens

    def stolen(self) -> int:
        return 0


def _items(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
