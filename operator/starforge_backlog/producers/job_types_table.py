"""A job table in which types are held back: its statements, and how expensive they may be.

The Pausable that decides with them is in `job_types.py`, the guards in the `.sql` files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from psycopg import sql

from starforge_backlog.api.pausing import JobTypes
from starforge_backlog.clock import Clock
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases import held_back
from starforge_backlog.databases.connection import READ_LIMIT, Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.session import Rows
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.producers import rows
from starforge_backlog.producers.job_types_plan import SAMPLE, HoldPlan
from starforge_backlog.snapshot import Known, Reading, Why

# Rows of one statement: 30 to 60 ms with the table's indexes, which no worker notices.
BATCH = 2_000
# All batches of one pass. The pass has 5 s for all its writes, and others wait for the connection.
BATCHES_FOR = timedelta(seconds=1.5)
# How far from both ends of the queue jobs that should be held are searched (7 ms each).
SCAN_ROWS = 10_001
# As the observer of the queue: 1/50 = 2 % of one core of the database, and no longer pause.
DUTY = 50
CHEAP = timedelta(milliseconds=50)  # with an index a search takes 1 to 15 ms
LONGEST_REST = timedelta(minutes=2)
MOST_SLOTS = 16  # that one read lists; beyond, each slot is asked for by itself
# First choices of a holder: jobs there may be left from a hold of which the status was lost.
MOST_FORMER = 8
MOST_CHOICES = 200  # slots that are asked for until one is free
MOST_STRAYS = 1_000  # that are counted


@dataclass(frozen=True, slots=True)
class Line:
    """What a read of the table brings, whoever asks."""

    held: frozenset[int]  # slots that hold jobs
    more: bool  # there may be others
    running: bool  # jobs of these types are about to be worked on


@dataclass(frozen=True, slots=True)
class Moved:
    """What the batches of one pass did."""

    moved: int
    ids: tuple[str, ...]  # a few of them, the last in order first
    left: bool  # more is there, or in another client's hands
    swallowed: bool


class JobTypesTable(rows.Table):
    """The job types of one spec in one table, for all policies that hold them back."""

    def __init__(
        self,
        database: Database,
        spec: JobTypes,
        clock: Clock,
        *,
        shared_for: timedelta,
        batch: int = BATCH,
    ) -> None:
        super().__init__(database, spec.table, clock)
        self.spec = spec
        self.batch = batch
        self.line = SharedAnswer(self._sample, shared_for)

    async def ask(self) -> Rows:
        """What the table says of its line. Raises DatabaseFault."""
        blocks = [self._fill("read", word=sql.Literal(word)) for word in self.spec.waiting]
        return await self.database.fetch(sql.SQL("\nUNION ALL\n").join(blocks))

    async def _sample(self) -> Reading[Line]:
        at = self.clock()
        try:
            found = await self.ask()
        except DatabaseFault as fault:
            if fault.why is Why.TIMEOUT and fault.sqlstate:
                self._spare(READ_LIMIT.total_seconds())
            return self.unknown(fault)
        self._spare(found.seconds)
        slots = frozenset(row["slot"] for row in found if row["slot"] is not None)
        more = any(row["more"] for row in found)
        return Known(Line(slots, more, any(row["running"] for row in found)), at)

    def _spare(self, seconds: float) -> None:
        """Without a fitting index a search reads the table: then it comes less often."""
        if seconds > CHEAP.total_seconds():
            self.line.rest(min(seconds * DUTY, LONGEST_REST.total_seconds()))

    async def taken(self, slot: int, line: Line) -> bool:
        """Whether any job lies in the slot. Raises DatabaseFault."""
        if slot in line.held or not line.more:
            return slot in line.held
        statement = self._fill("slot", between=held_back.slot_range(slot))
        (row,) = await self.database.fetch(statement)
        return bool(row["taken"])

    async def free(self, holder: str, line: Line) -> int | None:
        """A slot in which no job lies. Raises DatabaseFault."""
        for slot in islice(held_back.slots_of(holder), MOST_CHOICES):
            clear = not held_back.has_round_dates(slot, self.clock())
            if clear and not await self.taken(slot, line):
                return slot
        return None

    async def lifted(self, ids: tuple[str, ...]) -> bool:
        """Whether one of these jobs is due again. Raises DatabaseFault."""
        if not ids:
            return False
        (row,) = await self.database.fetch(self._fill("lifted", ids=rows.listed(ids)))
        return bool(row["lifted"])

    async def strays(self, holder: str, line: Line, ours: int | None) -> str:
        """Jobs in slots that this holder would choose, but has no record of. Raises
        DatabaseFault."""
        said: list[str] = []
        for slot in dict.fromkeys(islice(held_back.slots_of(holder), MOST_FORMER)):
            if slot == ours or slot not in line.held:
                continue
            between = held_back.slot_range(slot)
            statement = self._fill("stray", between=between, most=sql.Literal(MOST_STRAYS))
            (row,) = await self.database.fetch(statement)
            if row["found"]:
                said.append(self._stray(row["found"], slot))
        return "; ".join(said)

    def _stray(self, found: int, slot: int) -> str:
        many = f"at least {found}" if found == MOST_STRAYS else str(found)
        fix = self._fill(
            "undo",
            between=held_back.slot_range(slot),
            hours=sql.Literal(held_back.shift_hours(slot)),
        ).as_string(None)
        return (
            f"{many} jobs of {self.place} are due where this policy would hold them, and no status"
            " says that it does: it was lost, or they are another policy's or the application's"
            f" own. They are not changed. If they are this policy's, run: {' '.join(fix.split())}"
        )

    async def hold(self, plan: HoldPlan) -> Moved:
        """Move jobs into the slot. Raises DatabaseFault."""
        hours = (-held_back.HELD_PAST, held_back.HELD_AHEAD)
        return await self._move("hold", plan, hours)

    async def release(self, plan: HoldPlan) -> Moved:
        """Move the jobs of the slot back. Raises DatabaseFault."""
        return await self._move("release", plan, held_back.slot_range(plan.slot))

    async def _move(self, what: str, plan: HoldPlan, between: tuple[int, int]) -> Moved:
        parts: dict[str, sql.Composable] = {
            "most": sql.Literal(self.batch),
            "hours": sql.Literal(held_back.shift_hours(plan.slot)),
            "of_types": sql.SQL("TRUE"),
        }
        if plan.types:
            parts["of_types"] = sql.SQL("{} IN ({})").format(
                rows.column(self.spec.type_column), rows.listed(plan.types)
            )
        clock = asyncio.get_running_loop().time
        until = clock() + BATCHES_FOR.total_seconds()
        moved, after, passed_over, ids = 0, None, False, tuple[str, ...]()
        self.line.forget()
        try:
            while True:
                statement = self._fill(what, between=between, after=after, **parts)
                (row,) = await self.database.execute_write(statement)
                moved, after = moved + row["written"], row["last"]
                ids = tuple(row["ids"]) or ids
                passed_over |= row["seen"] > row["written"]
                swallowed = row["picked"] > row["written"]
                more = row["seen"] == self.batch and row["written"] > 0
                if swallowed or not more or clock() >= until:
                    return Moved(moved, ids, passed_over or more, swallowed)
        finally:
            self.line.forget()

    def _fill(
        self,
        what: str,
        *,
        between: tuple[int, int] | None = None,
        after: str | None = None,
        **parts: sql.Composable,
    ) -> sql.Composed:
        spec, due = self.spec, rows.column(self.spec.due_column)
        first, last = between or (-held_back.HELD_PAST, held_back.HELD_AHEAD)
        return load_sql(__package__, f"job_types_{what}.sql").format(
            table=rows.table_name(spec.table),
            id=sql.Identifier(spec.id_column),
            type=sql.Identifier(spec.type_column),
            status=sql.Identifier(spec.status_column),
            due=sql.Identifier(spec.due_column),
            words=rows.listed(spec.waiting),
            types=rows.listed(spec.types),
            in_range=sql.SQL("{due} >= {first} AND {due} < {last}").format(
                due=due,
                # Untyped, so that it is read as the column's own kind of timestamp.
                first=held_back.from_now(first) if after is None else sql.Literal(after),
                last=held_back.from_now(last),
            ),
            is_held=held_back.is_held(due),
            slot=held_back.slot_in_sql(due),
            first=sql.Literal(held_back.FIRST),
            first_held=held_back.from_now(held_back.FIRST),
            width=sql.Literal(held_back.WIDTH),
            sample=sql.Literal(SAMPLE),
            most_slots=sql.Literal(MOST_SLOTS),
            scan=sql.Literal(SCAN_ROWS),
            **parts,
        )

    def fixes(self, fault: DatabaseFault) -> Mapping[str, str]:
        spec = self.spec
        fixes = {
            rows.CHECK_REFUSED: (
                f"A CHECK constraint of {spec.table} refuses a {spec.due_column} far in the future,"
                " so nothing was held back; relax it, or pause these jobs in another way."
            ),
            rows.NO_SUCH_WORD: (
                f"A type or status word of the policy is none that {spec.table} can hold; correct"
                " jobTypes.types or jobTypes.waiting."
            ),
        }
        for state in rows.OTHER_TYPE:
            fixes[state] = (
                f"Column {spec.due_column} of {spec.table} is no timestamp, so nothing can be held"
                " back by it; correct jobTypes.dueColumn."
            )
        if fault.sqlstate == rows.NO_SUCH_COLUMN and spec.due_column in fault.message:
            fixes[rows.NO_SUCH_COLUMN] = (
                f"{spec.table} has no column {spec.due_column}: without a due time its jobs cannot"
                " be held back by type; correct jobTypes.dueColumn, add the column, or pause what"
                " enqueues these jobs instead."
            )
        return fixes
