"""Holding job types back in the job table, by their due times (runbook: *keep only critical job
types running*).

Where a held job is due: `databases/held_back.py`; what proves that it is ours: `job_types_plan.py`;
the table: `job_types_table.py`.
Each policy holds what it wants held; jobs that another one holds are not waiting any more, and come
into sight when it lets go. Jobs without a due time (NULL) are not changed: there is nothing to add
to, and nothing would show later that it was NULL.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.api.status import PauseProgress, PauseState, PauseStatus
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.job_types_plan import HoldPlan, parse_plan
from starforge_backlog.producers.job_types_table import JobTypesTable, Line
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why


class HeldTypes:
    """A `Pausable`: the jobs of these types that one policy holds back.

    A pause with no job to hold is held all the same: jobs that arrive make it `leaking`.
    """

    def __init__(self, table: JobTypesTable, holder: Holder) -> None:
        self._table = table
        self._holder = holder

    async def where(self) -> ServerPlace | Unknown:
        """See `Pausable.where`."""
        return await self._table.where()

    async def read(self) -> Reading[ProducerReading]:
        """As this policy's entry has it: paused while it holds jobs, or has none to hold.

        Running under a pause of ours means that a job that was held is due again and none is held
        any more: another client lifted the hold. Jobs that vanished prove nothing of that kind.
        """
        seen = await self._table.line.get()
        if isinstance(seen, Unknown):
            return seen
        try:
            reading = await self._as_held(seen.value)
            return Known(replace(reading, where=await self._table.database.where()), seen.at)
        except DatabaseFault as fault:
            return self._table.unknown(fault)

    async def _as_held(self, line: Line) -> ProducerReading:
        entry, name, table = self._holder.entry, self._holder.name, self._table
        plan = _plan(entry)
        note = await table.strays(name, line, plan.slot if plan is not None else None)
        if entry is None or plan is None:
            # Without an entry nothing is ours, whatever lies in any slot.
            slot = await table.free(name, line)
            new = HoldPlan(slot, table.spec.types).text if slot is not None else None
            unrecorded = entry is not None and entry.state is PauseState.UNRECORDED
            value = FlagValue.PAUSED if unrecorded and note else FlagValue.RUNNING
            return ProducerReading(value, None, "", plan=new, note=note)
        wider = plan.with_types(table.spec.types).text
        running = ProducerReading(FlagValue.RUNNING, None, plan.version, plan=wider, note=note)
        paused = replace(running, value=FlagValue.PAUSED, token=entry.token, leaking=line.running)
        if await table.taken(plan.slot, line):
            return paused
        if entry.state is not PauseState.HELD:
            return running
        # What is due again while we release it is due by us.
        doubtful = plan.held > 0 and line.running and entry.progress is not PauseProgress.RESUMING
        lifted = doubtful and await table.lifted(plan.ids)
        return running if lifted else paused

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Hold back what waits, first in order first; `complete` is False while more is left."""
        hold = parse_plan(plan, "", token)
        try:
            if hold is None:
                await self._table.ask()
                return self._unplanned()
            done = await self._table.hold(hold)
        except DatabaseFault as fault:
            return self._table.not_paused(fault)
        if done.swallowed and not done.moved:
            return self._table.swallowed()
        after = hold.with_moved(done.moved, done.ids)
        return Paused(
            PauseOutcome.PAUSED,
            after.version,
            after.text,
            message=f"{after.held} jobs are held back so far; the others follow"
            if done.left
            else "",
            complete=not done.left,
        )

    def _unplanned(self) -> Unknown:
        message = (
            f"It is not known yet which far due times are free in {self._table.place}; the next"
            " pass that can read it begins."
        )
        return Unknown(Why.NOT_YET, message, self._table.clock())

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Give the held jobs their due times back, oldest first, in batches."""
        hold = parse_plan(previous, version, token)
        if hold is None:
            return Resumed(ResumeOutcome.NOT_PAUSED, "No job was held back yet.")
        try:
            done = await self._table.release(hold)
        except DatabaseFault as fault:
            return self._table.not_resumed(fault)
        if done.swallowed and not done.moved:
            return self._table.swallowed()
        if done.left:
            return Resumed(
                ResumeOutcome.PARTLY, f"{done.moved} jobs were released; the others follow"
            )
        if done.moved or (version and not hold.held):
            return Resumed(ResumeOutcome.RESUMED)
        message = f"No job of {self._table.place} is still held back."
        return Resumed(ResumeOutcome.NOT_PAUSED, message)


def _plan(entry: PauseStatus | None) -> HoldPlan | None:
    return parse_plan(entry.previous, entry.version, entry.token) if entry is not None else None
