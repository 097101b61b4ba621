"""Pausing running backfills, row by row, and resuming those that were ours (P4).

A backfill is paused by one word in its status column; there is no place for a token. So the ids
that a pause may cover are in the policy's status before the write, and what each row looked like
right after it is there afterwards. The guards are in the `.sql` files beside this one.

Killed between the write and that status, the operator finds rows of its plan paused. The audit
table tells whose they are; without one nothing does, and they are left for a person to resume.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from starforge_backlog.api.pausing import BackfillJobs
from starforge_backlog.api.status import PauseState
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.producers import rows
from starforge_backlog.producers.holder import Holder
from starforge_backlog.producers.protocol import Paused, PauseOutcome, Resumed, ResumeOutcome
from starforge_backlog.producers.shared import SharedReading
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown

# Backfills under one pause. Each takes about 80 bytes of the policy's status; a system has a few.
MOST_HELD = 200
MOST_SEEN_PAUSED = 1_000  # paused rows that are looked at; nobody keeps so many
# Hex digits of a fingerprint: 1 in 10^14 that a change of the row goes unseen.
_DIGITS = 12
PAUSED_ACTION = "backfill_paused"
RESUMED_ACTION = "backfill_resumed"
_CONSTANT = "rows"  # as a whole they have no version: each row has its own

_NO_MARK = ["", "", ""]  # equal to no row's

Mark = list[str]  # version, fingerprint of the row without its progress, of its progress
Marks = dict[str, Mark | None]  # by id; None: may be paused, and is not known to be


@dataclass(frozen=True, slots=True)
class Seen:
    """Ids of backfills that run and that are paused, whoever asks."""

    running: tuple[str, ...]
    paused: frozenset[str]


class BackfillJobsProducer:
    """The backfills of one table, for all policies that pause them."""

    def __init__(
        self, database: Database, spec: BackfillJobs, clock: Clock, *, shared_for: timedelta
    ) -> None:
        self.database = database
        self.spec = spec
        self.clock = clock
        self.place = f"table {spec.table}"
        self.seen = SharedReading(self._look, shared_for)

    def idle_since(self) -> float:
        """Loop time of the last question."""
        return self.seen.idle_since()

    def held_by(self, holder: Holder) -> HeldBackfills:
        """As one policy sees it: a `Pausable`."""
        return HeldBackfills(self, holder)

    def unknown(self, fault: DatabaseFault) -> Unknown:
        """A fault with its mend."""
        return rows.unknown(fault, self.place, self._mends(), self.clock())

    def refusal(self, fault: DatabaseFault) -> str | None:
        """The sentence for a table whose rows cannot be paused."""
        return rows.refusal(fault, self._mends())

    async def pause(self, ids: Iterable[str], proof: Mapping[str, str]) -> Mapping[str, Any]:
        """Pause these. Raises DatabaseFault."""
        audit = self._audit(PAUSED_ACTION)
        return await self._write("pause", audit, ids, proof)

    async def resume(
        self, marks: Mapping[str, Mark], proof: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Resume those that are as their mark says. Raises DatabaseFault."""
        audit = self._audit(RESUMED_ACTION)
        return await self._write("resume", audit, marks, {"rows": json.dumps(marks), **proof})

    async def proven(self, token: str) -> dict[str, Mark]:
        """What this token paused, as the audit table says; nothing without one.

        Raises DatabaseFault.
        """
        if self.spec.audit_table is None:
            return {}
        statement = load_sql(__package__, "backfill_jobs_proof.sql").format(
            audit_table=rows.table_name(self.spec.audit_table), action=sql.Literal(PAUSED_ACTION)
        )
        params = {"token": token, "table": self.spec.table}
        found: dict[str, Mark] = {}
        for row in await self.database.fetch(statement, params):
            found |= {key: mark for key, mark in _marks(row["rows"]).items() if mark is not None}
        return found

    async def _look(self) -> Reading[Seen]:
        at = self.clock()
        limits = {"most_running": MOST_HELD + 1, "most_paused": MOST_SEEN_PAUSED}
        try:
            (row,) = await self.database.fetch(self._fill("read"), limits)
        except DatabaseFault as fault:
            return self.unknown(fault)
        return Known(Seen(tuple(row["running"]), frozenset(row["paused"])), at)

    async def _write(
        self, what: str, audit: sql.Composable, ids: Iterable[str], params: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        statement = self._fill(what, audit=audit, ids=rows.keys(ids))
        self.seen.forget()
        try:
            (row,) = await self.database.execute_write(statement, params)
        finally:
            self.seen.forget()
        return row

    def _audit(self, action: str) -> sql.Composable:
        if self.spec.audit_table is None:
            return sql.SQL("")
        return load_sql(__package__, "backfill_jobs_audit.sql").format(
            audit_table=rows.table_name(self.spec.audit_table),
            action=sql.Literal(action),
            place=sql.Literal(self.spec.table),
        )

    def _fill(self, what: str, **parts: sql.Composable) -> sql.Composed:
        spec = self.spec
        progress = sql.SQL("ARRAY[{}]::text[]").format(rows.listed(spec.progress_columns))
        return load_sql(__package__, f"backfill_jobs_{what}.sql").format(
            table=rows.table_name(spec.table),
            id=sql.Identifier(spec.id_column),
            status=sql.Identifier(spec.status_column),
            running=sql.Literal(spec.running),
            paused=sql.Literal(spec.paused),
            rest=sql.SQL(
                "left(md5((to_jsonb(job.*) - {status}::text - {progress})::text), {n})"
            ).format(
                status=sql.Literal(spec.status_column), progress=progress, n=sql.Literal(_DIGITS)
            ),
            progress=sql.SQL(
                "left(md5((SELECT coalesce(jsonb_object_agg(field.key, field.value), '{{}}')"
                " FROM jsonb_each(to_jsonb(job.*)) AS field"
                " WHERE field.key = ANY({progress}))::text), {n})"
            ).format(progress=progress, n=sql.Literal(_DIGITS)),
            **parts,
        )

    def _mends(self) -> dict[str, str]:
        spec = self.spec
        return {
            rows.CHECK_REFUSED: (
                f"A CHECK constraint refuses the write ({spec.status_column} = '{spec.paused}' in"
                f" {spec.table}, or its row in the audit table), so nothing was paused; set"
                " backfillJobs.paused to a word that the table allows."
            ),
            rows.NO_SUCH_WORD: (
                f"Column {spec.status_column} of {spec.table} cannot hold '{spec.running}' or"
                f" '{spec.paused}'; set backfillJobs.running and backfillJobs.paused to its words."
            ),
            rows.NOT_NULL: (
                f"The audit table {spec.audit_table} wants more than action and metadata, so"
                " nothing was paused; give its other columns defaults, or leave"
                " backfillJobs.auditTable out."
            ),
        }


class HeldBackfills:
    """A `Pausable`: the backfills that one policy pauses.

    A pause with no backfill to pause is held all the same: one that starts makes it `leaking`.
    """

    def __init__(self, producer: BackfillJobsProducer, holder: Holder) -> None:
        self._producer = producer
        self._holder = holder

    async def read(self) -> Reading[ProducerReading]:
        """What runs is the plan. What others paused is theirs, row by row, and makes no pause of
        the whole; under an entry of ours the whole is paused, and leaking while anything runs
        that was not paused under it."""
        reading = await self._producer.seen.read()
        if isinstance(reading, Unknown):
            return reading
        seen, entry = reading.value, self._holder.entry
        plan = json.dumps(dict.fromkeys(seen.running[:MOST_HELD]))
        known = _marks(entry.previous) if entry is not None else {}
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
            case PauseState.INTENDED | PauseState.CHANGED | PauseState.FOREIGN:
                value = running
                if seen.paused & known.keys():
                    # Whose these are a resume tells.
                    value = ProducerReading(FlagValue.PAUSED, None, _CONSTANT, plan=plan)
            case _:
                value = running
        try:
            where = await self._producer.database.where()
        except DatabaseFault as fault:
            return self._producer.unknown(fault)
        return Known(replace(value, where=where), reading.at)

    async def where(self) -> str | Unknown:
        """See `Pausable.where`."""
        try:
            return await self._producer.database.where()
        except DatabaseFault as fault:
            return self._producer.unknown(fault)

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Pause what runs of the plan. Marks in the plan are those of earlier writes under this
        token, and are kept: a person resumed these, or they are paused."""
        planned = _marks(plan)
        held = {key: mark for key, mark in planned.items() if mark is not None}
        room = max(0, MOST_HELD - len(held))
        wanted = [key for key in sorted(planned) if key not in held]
        try:
            row = await self._producer.pause(wanted[:room], _proof(owner, token, at, why))
            doubtful = set(row["before"])
            proven = await self._producer.proven(token) if doubtful else {}
        except DatabaseFault as fault:
            said = self._producer.refusal(fault)
            if said is not None:
                return Paused(PauseOutcome.BAD_SHAPE, message=said)
            return self._producer.unknown(fault)
        if row["picked"] > row["written"]:
            return rows.swallowed(self._producer.place, self._producer.clock())
        new = _marks(row["rows"])
        again = {key: mark for key, mark in proven.items() if key in doubtful}
        # Whose the others are cannot be told. Without an audit table they may be ours, so they
        # stay in the plan, unproven; with one they are a person's.
        unsure = doubtful - again.keys() if self._producer.spec.audit_table is None else set[str]()
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
        marks = _marks(previous)
        try:
            if not marks or None in marks.values():
                marks |= await self._producer.proven(token)
            at = self._producer.clock()
            # Unproven: with an audit table it is a person's, without one nobody knows.
            alone = self._producer.spec.audit_table is None
            judged = {
                key: mark or _NO_MARK for key, mark in marks.items() if mark is not None or alone
            }
            if not judged:
                return Resumed(ResumeOutcome.RESUMED if version else ResumeOutcome.NOT_PAUSED)
            row = await self._producer.resume(judged, _proof("", token, at, ""))
        except DatabaseFault as fault:
            said = self._producer.refusal(fault)
            if said is not None:
                return Resumed(ResumeOutcome.BAD_SHAPE, said)
            return self._producer.unknown(fault)
        if len(row["ours"]) > row["written"]:
            return rows.swallowed(self._producer.place, self._producer.clock())
        return self._judge(row, marks)

    def _judge(self, row: Mapping[str, Any], marks: Marks) -> Resumed:
        place = self._producer.place
        if row["busy"]:
            message = f"Somebody is writing backfills {rows.some(row['busy'])} of {place}"
            return Resumed(ResumeOutcome.PARTLY, f"{message}; tried again with the next pass.")
        unproven = [key for key in row["changed"] if marks.get(key) is None]
        changed = [key for key in row["changed"] if key not in unproven]
        said: list[str] = []
        if changed:
            said.append(
                f"Somebody wrote backfills {rows.some(changed)} of {place} after our pause, so"
                " they may be theirs by now"
            )
        if unproven:
            said.append(
                f"Backfills {rows.some(unproven)} of {place} were paused by us before a crash, or"
                " by somebody else: without backfillJobs.auditTable it cannot be told"
            )
        if said:
            spec = self._producer.spec
            mend = f"set {spec.status_column} back to {spec.running} by hand when it is time"
            outcome = ResumeOutcome.CHANGED_SINCE if changed else ResumeOutcome.NOT_OURS
            return Resumed(outcome, f"{'. '.join(said)}; {mend}.")
        if row["written"]:
            return Resumed(ResumeOutcome.RESUMED)
        message = f"None of our backfills in {place} is paused any more."
        return Resumed(ResumeOutcome.NOT_PAUSED, message)


def _pause_message(unsure: Iterable[str], missed: Iterable[str], full: bool) -> str:
    if left := sorted(unsure):
        return (
            f"backfills {rows.some(left)} were paused before, by us or by somebody else, which"
            " cannot be told without backfillJobs.auditTable; they stay paused"
        )
    if full:
        return f"one pause holds {MOST_HELD} backfills at most; others run on: {rows.some(missed)}"
    if left := sorted(missed):
        return f"backfills {rows.some(left)} were being written; paused with the next pass"
    return ""


def _proof(owner: str, token: str, at: datetime, why: str) -> dict[str, str]:
    stamp = at.isoformat(timespec="seconds")
    return {"owner": owner, "token": token, "at": stamp, "why": why}


def _marks(text: object) -> Marks:
    """From JSON (a plan, a `previous`, a row of the audit table); unreadable text names nothing."""
    found: object = text
    if isinstance(text, str):
        try:
            found = json.loads(text)
        except ValueError:
            return {}
    if isinstance(found, list):
        return {str(key): None for key in found}
    if not isinstance(found, dict):
        return {}
    return {str(key): _mark(mark) for key, mark in found.items()}


def _mark(mark: object) -> Mark | None:
    if isinstance(mark, list) and len(mark) == 3:  # noqa: PLR2004 - see `Mark`
        return [str(part) for part in mark]
    return None
