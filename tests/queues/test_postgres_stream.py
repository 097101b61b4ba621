"""Rates against a real stream of jobs whose every insert, claim and end is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import combinations

import psycopg
import pytest

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.queues.postgres.observer import PostgresQueues
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Known, QueueReading, Reading, Unknown, Why

from . import schemas
from .conftest import Admin, Recorder, run
from .histories import INDEXES, fill

pytestmark = pytest.mark.postgres

WINDOW = timedelta(seconds=5)
# A busy machine slows the stream unevenly, and each observer's window begins a moment later than
# the count beside it. How exact rates are is proven where the clock is turned
# (test_postgres_rates_pure).
TOLERANCE = 0.35
APART = 3.0  # seconds

_CLAIM = """
WITH next AS (SELECT id FROM queue_jobs WHERE status = 'pending' AND run_after <= now()
               ORDER BY run_after LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE queue_jobs j SET status = 'processing', updated_at = now() FROM next
 WHERE j.id = next.id RETURNING j.id"""
_END = "UPDATE queue_jobs SET status = %s, updated_at = now() WHERE id = %s"


@dataclass
class Stream:
    """Jobs per second, and what was really done."""

    url: str
    arriving: float = 120.0
    rolled_back: float = 60.0
    working: float = 80.0
    every_nth_fails: int = 8
    arrived: int = 0
    finished: int = 0
    failed: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until it is `over`: how long a test reads depends on the machine."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._each(self.arriving, self._enqueue))
            group.create_task(self._each(self.rolled_back, self._roll_back))
            group.create_task(self._each(self.working, self._work))

    async def _each(
        self,
        rate: float,
        act: Callable[[psycopg.AsyncConnection], Awaitable[None]],
    ) -> None:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            start = time.monotonic()
            done = 0
            while not self.over.is_set():
                now = time.monotonic() - start
                while done < now * rate:
                    await act(connection)
                    done += 1
                # A server reports its counters once a second: 1 % of a window of 90 s, but 20 % of
                # these 5 s.
                await connection.execute("SELECT pg_stat_force_next_flush()")
                await asyncio.sleep(0.02)

    async def _enqueue(self, connection: psycopg.AsyncConnection) -> None:
        kind = "process_snapshot" if self.arrived % 4 else "backfill_range"
        await connection.execute("INSERT INTO queue_jobs (type) VALUES (%s)", (kind,))
        self.arrived += 1

    async def _roll_back(self, connection: psycopg.AsyncConnection) -> None:
        async with connection.transaction(force_rollback=True):
            await connection.execute("INSERT INTO queue_jobs (type) VALUES ('never')")

    async def _work(self, connection: psycopg.AsyncConnection) -> None:
        claimed = await (await connection.execute(_CLAIM)).fetchone()
        if claimed is None:
            return
        fails = (self.finished + self.failed) % self.every_nth_fails == 0
        await connection.execute(_END, ("failed" if fails else "completed", claimed[0]))
        if fails:
            self.failed += 1
        else:
            self.finished += 1


Mark = tuple[float, int, int, int]  # seconds; arrived, finished, failed


def rates_between(marks: list[Mark], count: Callable[[Mark], int]) -> list[float]:
    """What really happened per second between any two marks that are as far apart as a window: on
    a busy machine it is uneven. Marks are set before and after each reading, which lies between."""
    return [
        (count(later) - count(earlier)) / (later[0] - earlier[0])
        for earlier, later in combinations(marks, 2)
        if later[0] - earlier[0] >= APART
    ]


def is_one_of(found: float, real: list[float]) -> bool:
    """Whether a reading lies among what really happened."""
    return min(real) * (1 - TOLERANCE) <= found <= max(real) * (1 + TOLERANCE)


def rate(reading: Reading[float]) -> float:
    assert isinstance(reading, Known), reading
    return reading.value


async def test_rates_of_a_real_stream(admin: Admin, postgres_url: str, recorder: Recorder) -> None:
    run(admin, *schemas.BARE, *INDEXES["I2"], "CREATE INDEX changed ON queue_jobs (updated_at)")
    fill(admin, rows=20_000, live=0.0, seed=0.5)
    admin.execute("INSERT INTO queue_jobs (type) SELECT 'old' FROM generate_series(1, 2000)")
    admin.execute("ANALYZE queue_jobs")
    # Else these 22,000 rows are counted some seconds later, as if they had arrived meanwhile.
    admin.execute("SELECT pg_stat_force_next_flush()")
    usual = ObserverSettings(duty=1)
    by_index = replace(usual, small_pages=0)
    observers = {
        "counted in full": PostgresQueues(recorder, settings=usual),
        "head of the line": PostgresQueues(recorder, settings=by_index),
        # So many wait that the counts see no difference.
        "beyond the cap": PostgresQueues(
            recorder, settings=replace(by_index, head_rows=101, most_counted=201)
        ),
    }
    seen: dict[str, QueueReading] = {}
    stream = Stream(postgres_url)
    marks: list[Mark] = []

    def mark() -> None:
        marks.append((time.monotonic(), stream.arrived, stream.finished, stream.failed))

    async def watch(*, types: tuple[str, ...] = ()) -> None:
        for name, queues in observers.items():
            mark()
            seen[name + " ".join(types)] = await queues.read(
                "jobs", PostgresQueue(types=types), rate_window=WINDOW, max_age=timedelta(0)
            )
            mark()

    streaming = asyncio.create_task(stream.run())
    await asyncio.sleep(0.5)
    for _ in range(6):
        await watch()
        await asyncio.sleep(1.0)
    await watch()
    arrivals = rates_between(marks, lambda m: m[1])
    throughput = rates_between(marks, lambda m: m[2] + m[3])
    for name, reading in seen.items():
        assert is_one_of(rate(reading.arrivals_per_second), arrivals), (name, arrivals)
        assert is_one_of(rate(reading.throughput_per_second), throughput), (name, throughput)
        assert isinstance(reading.outcomes, Known), name
        assert reading.outcomes.value.failed_percent == pytest.approx(100 / 8, abs=2), name
    sources = {name: reading.how.partition("; ")[2] for name, reading in seen.items()}
    assert sources == {
        "counted in full": "throughput from counts",
        "head of the line": "throughput from counts",
        "beyond the cap": "throughput from the times of change",
    }

    await watch(types=("process_snapshot", "backfill_range"))
    assert rate(seen["counted in fullprocess_snapshot backfill_range"].arrivals_per_second) > 0
    stream.over.set()
    await streaming

    admin.execute("SELECT pg_stat_reset()")
    await watch()
    for reading in seen.values():
        if reading.how.startswith("head"):
            assert isinstance(reading.arrivals_per_second, Unknown)
            assert reading.arrivals_per_second.why is Why.COUNTER_RESET
            assert isinstance(reading.waiting, Known)
            break


async def test_without_an_index_beyond_the_cap_updates_estimate_it(
    admin: Admin, postgres_url: str, recorder: Recorder
) -> None:
    """The claim index alone, as most tables have it, and a line too long to be counted."""
    run(admin, *schemas.BARE, *INDEXES["I1"])
    fill(admin, rows=5_000, live=0.0, seed=0.5)
    admin.execute("INSERT INTO queue_jobs (type) SELECT 'old' FROM generate_series(1, 2000)")
    admin.execute("ANALYZE queue_jobs")
    queues = PostgresQueues(
        recorder,
        settings=replace(ObserverSettings(duty=1), small_pages=0, head_rows=101, most_counted=201),
    )
    stream = Stream(postgres_url, rolled_back=0.0)
    streaming = asyncio.create_task(stream.run())
    await asyncio.sleep(0.5)
    marks: list[Mark] = []

    def mark() -> None:
        marks.append((time.monotonic(), stream.arrived, stream.finished, stream.failed))

    for _ in range(6):
        mark()
        seen = await queues.read("jobs", PostgresQueue(), rate_window=WINDOW, max_age=timedelta(0))
        mark()
        await asyncio.sleep(1.0)
    stream.over.set()
    await streaming
    done = rates_between(marks, lambda m: m[2] + m[3])
    assert seen.how == "head of the line: i1; throughput estimated from row updates"
    assert is_one_of(rate(seen.throughput_per_second), done), done
    assert isinstance(seen.outcomes, Unknown)
    assert seen.outcomes.why is Why.NO_INDEX
