"""Holding job types back in the job table, by their due times (runbook: *keep only critical job
types running*).

Where a held job is due, and how a row tells whose it is: `databases/held_back.py`. Each policy
holds what it wants held; jobs that another one holds are not waiting any more, and come into sight
when it lets go. Jobs without a due time (NULL) are left alone: there is nothing to add to, and
nothing that would tell later that it was NULL.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from starforge_backlog.api.pausing import JobTypes
from starforge_backlog.api.status import PauseState, PauseStatus
from starforge_backlog.clock import Clock
from starforge_backlog.databases import held_back
from starforge_backlog.databases.connection import READ_LIMIT, Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.producers import rows
from starforge_backlog.producers.holder import Holder, named_in
from starforge_backlog.producers.protocol import Paused, PauseOutcome, Resumed, ResumeOutcome
from starforge_backlog.producers.shared import SharedReading
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why

# Rows of one statement: 30 to 60 ms with the table's indexes, which no worker notices.
BATCH = 2_000
# All batches of one pass. The pass has 5 s for all its writes, and others wait for the connection.
BATCHES_FOR = timedelta(seconds=1.5)
# How far into the line, from both ends, it is looked for jobs that should be held (7 ms each).
LOOK = 10_001
# As the observer of the queue: 1/50 = 2 % of one core of the database, never blind for longer.
DUTY = 50
CHEAP = timedelta(milliseconds=50)  # with an index a look takes 1 to 15 ms
LONGEST_REST = timedelta(minutes=2)
MOST_SLOTS = 16  # holders of one table that are told apart


@dataclass(frozen=True, slots=True)
class Line:
    """What a look at the table brings, whoever asks."""

    held: frozenset[int]  # slots that hold jobs
    running: bool  # jobs of these types are about to be worked on


@dataclass(frozen=True, slots=True)
class _Moved:
    """What the batches of one pass did."""

    moved: int
    left: bool  # more is there, or in somebody's hands
    swallowed: bool


class JobTypesProducer:
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
        self.database = database
        self.spec = spec
        self.clock = clock
        self.batch = batch
        self.place = f"table {spec.table}"
        self.line = SharedReading(self._look, shared_for)

    def idle_since(self) -> float:
        """Loop time of the last question."""
        return self.line.idle_since()

    def held_by(self, holder: Holder) -> HeldTypes:
        """As one policy sees it: a `Pausable`."""
        return HeldTypes(self, holder)

    def unknown(self, fault: DatabaseFault) -> Unknown:
        """A fault with its mend."""
        return rows.unknown(fault, self.place, self._mends(fault), self.clock())

    def refusal(self, fault: DatabaseFault) -> str | None:
        """The sentence for a table in which nothing can be held back."""
        return rows.refusal(fault, self._mends(fault))

    async def _look(self) -> Reading[Line]:
        at = self.clock()
        blocks = [self._fill("read", word=sql.Literal(word)) for word in self.spec.waiting]
        try:
            found = await self.database.fetch(sql.SQL("\nUNION ALL\n").join(blocks))
        except DatabaseFault as fault:
            if fault.why is Why.TIMEOUT and fault.sqlstate:
                self._spare(READ_LIMIT.total_seconds())
            return self.unknown(fault)
        self._spare(found.seconds)
        slots = frozenset(row["slot"] for row in found if row["slot"] is not None)
        return Known(Line(slots, any(row["running"] for row in found)), at)

    def _spare(self, seconds: float) -> None:
        """Without a fitting index a look reads the table: then it is looked at less often."""
        if seconds > CHEAP.total_seconds():
            self.line.rest(min(seconds * DUTY, LONGEST_REST.total_seconds()))

    async def hold(self, slot: int) -> _Moved:
        """Move jobs into the slot. Raises DatabaseFault."""
        hours = (-held_back.HELD_PAST, held_back.HELD_AHEAD)
        return await self._move("hold", slot, hours)

    async def release(self, slot: int) -> _Moved:
        """Move the jobs of the slot back. Raises DatabaseFault."""
        return await self._move("release", slot, held_back.slot_range(slot))

    async def _move(self, what: str, slot: int, between: tuple[int, int]) -> _Moved:
        params = {"most": self.batch, "hours": held_back.shift_hours(slot)}
        clock = asyncio.get_running_loop().time
        until = clock() + BATCHES_FOR.total_seconds()
        moved, after, passed_over = 0, None, False
        self.line.forget()
        try:
            while True:
                statement = self._fill(what, between=between, after=after)
                (row,) = await self.database.execute_write(statement, params)
                moved, after = moved + row["written"], row["last"]
                passed_over |= row["seen"] > row["written"]
                swallowed = row["picked"] > row["written"]
                more = row["seen"] == self.batch and row["written"] > 0
                if swallowed or not more or clock() >= until:
                    return _Moved(moved, passed_over or more, swallowed)
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
            width=sql.Literal(held_back.WIDTH),
            most_slots=sql.Literal(MOST_SLOTS),
            look=sql.Literal(LOOK),
            **parts,
        )

    def _mends(self, fault: DatabaseFault) -> dict[str, str]:
        spec = self.spec
        mends = {
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
            mends[state] = (
                f"Column {spec.due_column} of {spec.table} is no timestamp, so nothing can be held"
                " back by it; correct jobTypes.dueColumn."
            )
        if fault.sqlstate == rows.NO_SUCH_COLUMN and spec.due_column in fault.message:
            mends[rows.NO_SUCH_COLUMN] = (
                f"{spec.table} has no column {spec.due_column}: without a due time its jobs cannot"
                " be held back by type; correct jobTypes.dueColumn, add the column, or pause what"
                " enqueues these jobs instead."
            )
        return mends


class HeldTypes:
    """A `Pausable`: the jobs of these types that one policy holds back.

    There is no place for a token in a row, so the slot is derived from the token's owner and
    producer. A pause with no job to hold is held all the same: jobs that arrive make it `leaking`.
    """

    def __init__(self, producer: JobTypesProducer, holder: Holder) -> None:
        self._producer = producer
        self._holder = holder

    async def read(self) -> Reading[ProducerReading]:
        """As this policy's entry has it: paused while it holds jobs, or has none to hold.

        Running under a pause of ours means that jobs were held, none is any more, and jobs wait:
        somebody set them due again.
        """
        seen = await self._producer.line.read()
        if isinstance(seen, Unknown):
            return seen
        line, entry = seen.value, self._holder.entry
        slot = held_back.slot_of(self._holder.name)
        version = _version(slot)
        if slot in line.held:
            # Without an entry the status was lost: the slot still proves whose it is.
            token = entry.token if entry is not None else f"{self._holder.name}/found"
            held = ProducerReading(FlagValue.PAUSED, token, version, leaking=line.running)
            return Known(held, seen.at)
        if entry is not None and entry.state is PauseState.HELD:
            lifted = _count(entry) > 0 and line.running
            if not lifted:
                none = ProducerReading(
                    FlagValue.PAUSED, entry.token, entry.version, leaking=line.running
                )
                return Known(none, seen.at)
        return Known(ProducerReading(FlagValue.RUNNING, None, version), seen.at)

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Hold back what waits, first in line first; `complete` is False while more is left."""
        slot = held_back.slot_of(named_in(token))
        try:
            done = await self._producer.hold(slot)
        except DatabaseFault as fault:
            said = self._producer.refusal(fault)
            if said is not None:
                return Paused(PauseOutcome.BAD_SHAPE, message=said)
            return self._producer.unknown(fault)
        if done.swallowed and not done.moved:
            return rows.swallowed(self._producer.place, self._producer.clock())
        entry = self._holder.entry
        before = _count(entry) if entry is not None and entry.token == token else 0
        total = before + done.moved
        return Paused(
            PauseOutcome.PAUSED,
            _version(slot),
            json.dumps({"held": total}),
            message=f"{total} jobs are held back so far; the others follow" if done.left else "",
            complete=not done.left,
        )

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Give the held jobs their due times back, oldest first, in batches."""
        slot = held_back.slot_of(named_in(token))
        try:
            done = await self._producer.release(slot)
        except DatabaseFault as fault:
            said = self._producer.refusal(fault)
            if said is not None:
                return Resumed(ResumeOutcome.BAD_SHAPE, said)
            return self._producer.unknown(fault)
        if done.swallowed and not done.moved:
            return rows.swallowed(self._producer.place, self._producer.clock())
        if done.left:
            return Resumed(
                ResumeOutcome.PARTLY, f"{done.moved} jobs were released; the others follow"
            )
        if done.moved or not _held(previous):
            return Resumed(ResumeOutcome.RESUMED)
        message = f"No job of {self._producer.place} is held back any more; somebody released them."
        return Resumed(ResumeOutcome.NOT_PAUSED, message)


def _version(slot: int) -> str:
    """Rows are told apart one by one; as a whole they have no version but whose they are."""
    return f"slot {slot}"


def _count(entry: PauseStatus) -> int:
    return _held(entry.previous)


def _held(previous: str | None) -> int:
    """How many jobs were held; 0 where that is not known."""
    try:
        found = json.loads(previous or "{}")
        return int(found["held"]) if isinstance(found, dict) else 0
    except (ValueError, KeyError, TypeError):
        return 0
