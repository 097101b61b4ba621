"""Pausing running backfills, row by row, and resuming those that were ours (P4).

A backfill is paused by one word in its status column; there is no place for a token. So the ids
that a pause may cover are in the policy's status before the write, and how each row was
right after it is there afterwards. The table is in `backfill_jobs_table.py`, the guards are in the
`.sql` files beside it.

Killed between the write and that status, the operator finds rows of its plan paused. The audit
table records whose they are; without one nothing does, and a person has to resume them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.api.status import PauseState
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers import rows
from starforge_backlog.producers.backfill_jobs_table import (
    MOST_HELD,
    BackfillJobsTable,
    Marks,
    parse_marks,
)
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown

_CONSTANT = "rows"  # as a whole they have no version: each row has its own

_NO_MARK = ["", "", ""]  # equal to no row's


class HeldBackfills:
    """A `Pausable`: the backfills that one policy pauses.

    A pause with no backfill to pause is held all the same: one that starts makes it `leaking`.
    """

    def __init__(self, table: BackfillJobsTable, holder: Holder) -> None:
        self._table = table
        self._holder = holder

    async def read(self) -> Reading[ProducerReading]:
        """What runs is the plan. What others paused is theirs, row by row, and makes no pause of
        the whole; under an entry of ours the whole is paused, and leaking while anything runs
        that was not paused under it."""
        reading = await self._table.seen.get()
        if isinstance(reading, Unknown):
            return reading
        seen, entry = reading.value, self._holder.entry
        plan = json.dumps(dict.fromkeys(seen.running[:MOST_HELD]))
        known = parse_marks(entry.previous) if entry is not None else {}
        running = ProducerReading(FlagValue.RUNNING, None, _CONSTANT, plan=plan)
        match entry.state if entry is not None else None:
            case PauseState.HELD:
                assert entry is not None
                new = [key for key in seen.running if key not in known]
                room = len(known) < MOST_HELD
                value = ProducerReading(
                    FlagValue.PAUSED,
                    entry.token,
                    entry.version,
                    leaking=bool(new) and room,
                    plan=plan,
                )
            case PauseState.UNRECORDED if seen.paused:
                # Which of them are ours is not known: as long as any is paused, a person is asked.
                value = ProducerReading(FlagValue.PAUSED, None, _CONSTANT, plan=plan)
            case PauseState.INTENDED | PauseState.CHANGED | PauseState.FOREIGN:
                value = running
                if seen.paused & known.keys():
                    # Whose these are is found by a resume.
                    value = ProducerReading(FlagValue.PAUSED, None, _CONSTANT, plan=plan)
            case _:
                value = running
        try:
            where = await self._table.database.where()
        except DatabaseFault as fault:
            return self._table.unknown(fault)
        return Known(replace(value, where=where), reading.at)

    async def where(self) -> ServerPlace | Unknown:
        """See `Pausable.where`."""
        return await self._table.where()

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Pause what runs of the plan. Marks in the plan are those of earlier writes under this
        token, and are kept: a person resumed these, or they are paused."""
        planned = parse_marks(plan)
        held = {key: mark for key, mark in planned.items() if mark is not None}
        room = max(0, MOST_HELD - len(held))
        wanted = [key for key in sorted(planned) if key not in held]
        try:
            row = await self._table.pause(wanted[:room], _proof(owner, token, at, why))
            doubtful = set(row["before"])
            proven = await self._table.proven(token) if doubtful else {}
        except DatabaseFault as fault:
            return self._table.not_paused(fault)
        if row["picked"] > row["written"]:
            return self._table.swallowed()
        new = parse_marks(row["rows"])
        again = {key: mark for key, mark in proven.items() if key in doubtful}
        # Whose the others are is not known. Without an audit table they may be ours, so they
        # stay in the plan, unproven; with one they are a person's.
        unsure = doubtful - again.keys() if self._table.spec.audit_table is None else set[str]()
        marks: Marks = {**dict.fromkeys(unsure), **held, **again, **new}
        missed = [*row["missed"], *wanted[room:]]
        return Paused(
            PauseOutcome.ALREADY_OURS if again and not new else PauseOutcome.PAUSED,
            _CONSTANT,
            json.dumps(marks),
            message=_pause_message(unsure, missed, len(wanted) > room),
            complete=not row["missed"],
        )

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Resume the rows that are as our pause left them, and say which are not."""
        marks = parse_marks(previous)
        try:
            if not marks or None in marks.values():
                marks |= await self._table.proven(token)
            at = self._table.clock()
            # Unproven: with an audit table it is a person's, without one nobody knows.
            alone = self._table.spec.audit_table is None
            judged = {
                key: mark or _NO_MARK for key, mark in marks.items() if mark is not None or alone
            }
            if not judged:
                return Resumed(ResumeOutcome.RESUMED if version else ResumeOutcome.NOT_PAUSED)
            row = await self._table.resume(judged, _proof("", token, at, ""))
        except DatabaseFault as fault:
            return self._table.not_resumed(fault)
        if len(row["ours"]) > row["written"]:
            return self._table.swallowed()
        return self._judge(row, marks)

    def _judge(self, row: Mapping[str, Any], marks: Marks) -> Resumed:
        place = self._table.place
        if row["busy"]:
            message = f"Another client is writing backfills {rows.some(row['busy'])} of {place}"
            return Resumed(ResumeOutcome.PARTLY, f"{message}; the next pass tries again.")
        unproven = [key for key in row["changed"] if marks.get(key) is None]
        changed = [key for key in row["changed"] if key not in unproven]
        said: list[str] = []
        if changed:
            said.append(
                f"Another client wrote backfills {rows.some(changed)} of {place} after the"
                " operator's pause, so the pause may belong to that client"
            )
        if unproven:
            said.append(
                f"Backfills {rows.some(unproven)} of {place} were paused by the operator before a"
                " crash, or by another client: without backfillJobs.auditTable this is not known"
            )
        if said:
            spec = self._table.spec
            fix = f"set {spec.status_column} back to {spec.running} by hand when it is time"
            outcome = ResumeOutcome.CHANGED_SINCE if changed else ResumeOutcome.NOT_OURS
            return Resumed(outcome, f"{'. '.join(said)}; {fix}.")
        if row["written"]:
            return Resumed(ResumeOutcome.RESUMED)
        message = f"No backfill in {place} is still paused by the operator."
        return Resumed(ResumeOutcome.NOT_PAUSED, message)


def _pause_message(unsure: Iterable[str], missed: Iterable[str], full: bool) -> str:
    if left := sorted(unsure):
        return (
            f"backfills {rows.some(left)} were paused before, by the operator or by another client:"
            " without backfillJobs.auditTable this is not known; they stay paused"
        )
    if full:
        return f"one pause holds {MOST_HELD} backfills at most; others run on: {rows.some(missed)}"
    if left := sorted(missed):
        return f"backfills {rows.some(left)} were being written; paused with the next pass"
    return ""


def _proof(owner: str, token: str, at: datetime, why: str) -> dict[str, str]:
    stamp = at.isoformat(timespec="seconds")
    return {"owner": owner, "token": token, "at": stamp, "why": why}
