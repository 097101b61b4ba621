"""Many policies, one set of statements; and never more than a small share of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from psycopg import sql

from starforge_backlog.api.queue import ColumnNames, PostgresQueue
from starforge_backlog.databases.faults import DatabaseFault, NoAnswer, NoTurn
from starforge_backlog.databases.session import Rows
from starforge_backlog.queues.postgres.observer import PostgresQueues
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Known, QueueReading, Unknown, Why

from . import schemas
from .conftest import Admin, Recorder, Watcher, run

pytestmark = pytest.mark.postgres

WINDOW = timedelta(seconds=90)


async def test_a_hundred_policies_cost_one_set_of_statements(
    admin: Admin, watcher: Watcher, recorder: Recorder
) -> None:
    run(admin, *schemas.MODEL, "INSERT INTO queue_jobs (type) VALUES ('a'), ('a'), ('b')")
    await watcher.read()
    recorder.asked.clear()
    watcher.now += 15
    specs = [PostgresQueue(types=types) for types in ((), ("a",), ("b",), ("a", "b"))] * 25

    readings: list[QueueReading] = await asyncio.gather(
        *(
            watcher.queues.read(f"q{n}", spec, rate_window=WINDOW, max_age=timedelta(seconds=1))
            for n, spec in enumerate(specs)
        )
    )

    assert len(recorder.asked) == 2  # counts and counters
    waiting = [r.waiting.value.value for r in readings if isinstance(r.waiting, Known)]
    assert waiting == [3, 2, 1, 3] * 25


async def test_young_readings_are_shared_and_old_ones_are_not(
    admin: Admin, watcher: Watcher, recorder: Recorder
) -> None:
    run(admin, *schemas.MODEL)
    first = await watcher.read()
    recorder.asked.clear()
    watcher.now += 5
    again = await watcher.queues.read(
        "jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(seconds=10)
    )
    assert not recorder.asked
    assert isinstance(first.waiting, Known)
    assert again.waiting == first.waiting  # with the time at which it was read
    watcher.now += 6
    await watcher.queues.read(
        "jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(seconds=10)
    )
    assert recorder.asked


async def test_another_mapping_is_another_reading(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        """CREATE TABLE queue_jobs (status text, stage text, type text)""",
        "INSERT INTO queue_jobs VALUES ('pending', 'done', 'a')",
    )
    one = await watcher.read()
    other = await watcher.read(PostgresQueue(columns=ColumnNames(status="stage")))
    assert isinstance(one.waiting, Known)
    assert isinstance(other.waiting, Known)
    assert (one.waiting.value.value, other.waiting.value.value) == (1, 0)


async def test_who_gives_up_does_not_break_off_the_others(
    admin: Admin, recorder: Recorder, settings: ObserverSettings
) -> None:
    run(admin, *schemas.MODEL, "INSERT INTO queue_jobs (type) VALUES ('a')")
    queues = PostgresQueues(recorder, settings=settings)

    async def read(patience: float) -> QueueReading:
        async with asyncio.timeout(patience):
            return await queues.read(
                "jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0)
            )

    hasty, patient = await asyncio.gather(read(0.0), read(30.0), return_exceptions=True)
    assert isinstance(hasty, TimeoutError)
    assert isinstance(patient, QueueReading)
    assert isinstance(patient.waiting, Known)


class Slow:
    """Passes statements on and lets the timer run while they do."""

    def __init__(self, recorder: Recorder, seconds: float) -> None:
        self.recorder = recorder
        self.seconds = seconds
        self.now = 0.0
        self.counted: list[float] = []

    async def fetch(
        self,
        query: str | sql.SQL | sql.Composed,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        by_index: bool = False,
    ) -> list[dict[str, Any]]:
        if "AS scheduled" not in (query if isinstance(query, str) else query.as_string(None)):
            return await self.recorder.fetch(query, params, by_index=by_index)
        self.counted.append(self.now)
        self.now += self.seconds
        return Rows(await self.recorder.fetch(query, params, by_index=by_index), self.seconds)


async def test_duty_is_bounded_however_often_somebody_asks(
    admin: Admin, recorder: Recorder, settings: ObserverSettings
) -> None:
    """Counting takes 0.2 s, so it may happen every 10 s."""
    run(admin, *schemas.MODEL)
    slow = Slow(recorder, seconds=0.2)
    queues = PostgresQueues(slow, timer=lambda: slow.now, settings=settings)
    for _ in range(40):
        await queues.read("jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0))
        slow.now += 1.0
    gaps = [b - a for a, b in zip(slow.counted, slow.counted[1:], strict=False)]
    assert len(slow.counted) == 4
    assert min(gaps) >= settings.duty * slow.seconds


async def test_waiting_for_the_line_is_no_work(
    admin: Admin, recorder: Recorder, settings: ObserverSettings
) -> None:
    """Thirty tables that share a connection wait for each other: none of them may be read less
    often for it, or a storm in one is seen late because the others are many."""
    run(admin, *schemas.MODEL)

    class Queued(Slow):
        async def fetch(
            self,
            query: str | sql.SQL | sql.Composed,
            params: Sequence[Any] | Mapping[str, Any] = (),
            *,
            by_index: bool = False,
        ) -> list[dict[str, Any]]:
            self.now += 1.0
            return await self.recorder.fetch(query, params, by_index=by_index)

    queued = Queued(recorder, seconds=0)
    queues = PostgresQueues(queued, timer=lambda: queued.now, settings=settings)
    for number in range(3):
        asked = len(recorder.reads())
        await queues.read("jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0))
        assert len(recorder.reads()) > asked, number
        queued.now += 2.0


@pytest.mark.parametrize(
    "fault", [DatabaseFault(Why.UNREACHABLE, "Nothing answers."), NoAnswer(1.8), NoTurn()]
)
async def test_a_server_that_is_away_is_asked_again_at_once(
    admin: Admin, recorder: Recorder, settings: ObserverSettings, fault: DatabaseFault
) -> None:
    """Its connection paces itself; a pause of ours on top would only delay readings."""
    run(admin, *schemas.MODEL)
    slow = Slow(recorder, seconds=3.0)
    queues = PostgresQueues(slow, timer=lambda: slow.now, settings=settings)
    recorder.fails_on = "AS scheduled"
    recorder.fault = fault
    for _ in range(settings.most_timeouts + 1):
        seen = await queues.read("jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0))
        assert isinstance(seen.waiting, Unknown)
        assert "FROM part" not in recorder.asked[-1]  # no second wait for the counters
    recorder.fault = None
    seen = await queues.read("jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0))
    assert isinstance(seen.waiting, Known)
    assert seen.how.startswith("counted in full")  # it is not the table's fault


async def test_a_statement_that_hits_its_limit_is_paid_for(
    admin: Admin, recorder: Recorder, settings: ObserverSettings
) -> None:
    run(admin, *schemas.MODEL)
    slow = Slow(recorder, seconds=0.8)
    queues = PostgresQueues(slow, timer=lambda: slow.now, settings=settings)
    recorder.fails_on = "AS scheduled"
    recorder.fault = DatabaseFault(Why.TIMEOUT, "Ended by its limit.", sqlstate="57014")
    for _ in range(100):
        seen = await queues.read("jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0))
        assert isinstance(seen.waiting, Unknown)
        slow.now += 1.0
    assert len(slow.counted) == 3  # 0.8 s, then 40 s without a word
