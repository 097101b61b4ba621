"""A table of backfills that are paused row by row: its statements.

The Pausable that decides with them is in `backfill_jobs.py`, the guards in the `.sql` files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import sql

from starforge_backlog.api.pausing import BackfillJobs
from starforge_backlog.clock import Clock
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.producers import rows
from starforge_backlog.snapshot import Known, Reading

# Backfills under one pause. Each takes about 80 bytes of the policy's status; a system has a few.
MOST_HELD = 200
MOST_SEEN_PAUSED = 1_000  # paused rows that are read; no table has so many
# Hex digits of a fingerprint: 1 in 10^14 that a change of the row goes unseen.
_DIGITS = 12
PAUSED_ACTION = "backfill_paused"
RESUMED_ACTION = "backfill_resumed"

Mark = list[str]  # version, fingerprint of the row without its progress, of its progress
Marks = dict[str, Mark | None]  # by id; None: may be paused, and is not known to be


@dataclass(frozen=True, slots=True)
class Seen:
    """Ids of backfills that run and that are paused, whoever asks."""

    running: tuple[str, ...]
    paused: frozenset[str]


class BackfillJobsTable(rows.Table):
    """The backfills of one table, for all policies that pause them."""

    def __init__(
        self, database: Database, spec: BackfillJobs, clock: Clock, *, shared_for: timedelta
    ) -> None:
        super().__init__(database, spec.table, clock)
        self.spec = spec
        self.seen = SharedAnswer(self._sample, shared_for)

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
            found |= {
                key: mark for key, mark in parse_marks(row["rows"]).items() if mark is not None
            }
        return found

    async def _sample(self) -> Reading[Seen]:
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

    def fixes(self, fault: DatabaseFault) -> Mapping[str, str]:
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
                f"The audit table {spec.audit_table} requires more than action and metadata, so"
                " nothing was paused; give its other columns defaults, or leave"
                " backfillJobs.auditTable out."
            ),
        }


def parse_marks(text: object) -> Marks:
    """From JSON (a plan, a `previous`, a row of the audit table); unreadable text names nothing."""
    found: object = text
    if isinstance(text, str):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
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
