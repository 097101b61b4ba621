"""Jobs that are held back by their due times: reported as held, with their age, in every tier."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import mean

import pytest
from tests.queues import schemas
from tests.queues.conftest import Admin, Recorder, Watcher, estimates, run
from tests.queues.histories import INDEXES, fill

from starforge_backlog.api.pausing import JobTypes
from starforge_backlog.api.policy import Queue
from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.assess.objectives import missed
from starforge_backlog.decide.results import Paused, Resumed, ResumeOutcome
from starforge_backlog.producers.job_types import HeldTypes
from starforge_backlog.producers.job_types_plan import HoldPlan
from starforge_backlog.producers.job_types_table import JobTypesTable
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Confidence, Count, Known, QueueReading

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
TOKEN = "uid/etl/2026-01-01T03:00:00"
PLAN = HoldPlan(7, ("backfill_range",)).text
WAITS = "SELECT count(*) FROM queue_jobs WHERE status = 'pending' AND type = %s"


@pytest.fixture
def settings() -> ObserverSettings:
    """Small tables are to these what big ones are to production's."""
    return replace(
        ObserverSettings(),
        small_pages=8,
        sample_pages=40,
        head_rows=1_001,
        most_counted=2_001,
        least_counted=501,
    )


def held_types(recorder: Recorder) -> HeldTypes:
    types = JobTypes(types=("backfill_range",))
    table = JobTypesTable(recorder.database, types, utc_now, shared_for=timedelta())
    return HeldTypes(table, Holder("uid", "etl"))


async def hold(recorder: Recorder) -> None:
    got = await held_types(recorder).pause(owner="ns/etl", token=TOKEN, at=AT, plan=PLAN)
    assert isinstance(got, Paused)
    assert got.complete


async def release(recorder: Recorder) -> None:
    got = await held_types(recorder).resume(token=TOKEN, version="", previous=PLAN)
    assert got == Resumed(ResumeOutcome.RESUMED)


async def again(watcher: Watcher) -> QueueReading:
    """What is there from now on: after slow statements the observer rests, and says what it saw."""
    began = utc_now()
    async with asyncio.timeout(60):
        while True:
            seen = await watcher.read()
            if seen.waiting.at >= began:
                return seen
            await asyncio.sleep(0.05)


def number(admin: Admin, kind: str) -> int:
    row = admin.execute(WAITS, (kind,)).fetchone()
    assert row is not None
    return int(row[0])


def words(queue: Queue, reading: QueueReading) -> tuple[str, ...]:
    """The objectives that are missed, in words."""
    return tuple(map(str, missed(queue, reading)))


def waiting(seen: QueueReading) -> Count:
    assert isinstance(seen.waiting, Known), seen.waiting
    return seen.waiting.value


@pytest.mark.parametrize("index", ["I1", "I2", "I3", "I4", "I5"])
@pytest.mark.parametrize("thousands", [0, 3_000])
async def test_short_lines_are_exact(
    admin: Admin, recorder: Recorder, watcher: Watcher, index: str, thousands: int
) -> None:
    """Also the waiting jobs beside thousands that are held: the line ends before those."""
    run(admin, "SET synchronous_commit = on", *schemas.BARE, *INDEXES[index])
    fill(admin, rows=9_000, live=0.05, seed=0.3)
    admin.execute(
        "INSERT INTO queue_jobs (type, run_after)"
        " SELECT 'backfill_range', now() - interval '2 h' FROM generate_series(1, %s)",
        (thousands,),
    )
    run(admin, "VACUUM ANALYZE queue_jobs")
    before = await watcher.read()
    others = number(admin, "process_snapshot") + number(admin, "archive_snapshot")
    held = number(admin, "backfill_range")
    await hold(recorder)
    run(admin, "VACUUM ANALYZE queue_jobs")
    seen = await again(watcher)
    assert seen.held is not None
    assert isinstance(seen.scheduled, Known)
    free = waiting(seen).value + seen.scheduled.value.value
    assert (free, waiting(seen).confidence) == (others, Confidence.EXACT)
    assert "backfill_range" not in seen.types
    if seen.held.count.confidence is Confidence.EXACT:
        assert seen.held.count.value == held
    else:
        assert 500 < seen.held.count.value <= held
    # As old as the type's oldest was before.
    ages = [b for b in (before.oldest_due_age, seen.oldest_due_age) if isinstance(b, Known)]
    assert seen.held.oldest is not None
    oldest = max([seen.held.oldest, ages[-1].value])
    grown = (seen.waiting.at - before.waiting.at).total_seconds()
    assert oldest.total_seconds() - ages[0].value.total_seconds() == pytest.approx(grown, abs=3)
    assert any("held back" in note for note in seen.notes)
    await release(recorder)
    after = await again(watcher)
    assert (after.held, after.notes) == (None, ())
    if waiting(before).confidence is Confidence.EXACT:
        assert waiting(after) == waiting(before)


async def test_a_small_table_is_exact_and_a_sample_says_about(
    admin: Admin, recorder: Recorder, watcher: Watcher
) -> None:
    run(admin, *schemas.BARE)
    fill(admin, rows=200, live=1, seed=0.2)
    held = number(admin, "backfill_range")
    await hold(recorder)
    seen = await again(watcher)
    assert seen.held is not None
    assert seen.held.count == Count(held)
    fill(admin, rows=12_000, live=1, seed=0.4)
    await hold(recorder)

    def sampled(seen: QueueReading) -> Count:
        assert seen.how.startswith("sample")
        assert seen.held is not None
        assert seen.held.oldest is None
        return seen.held.count

    # What is held lies in the last blocks.
    found = mean(await estimates(watcher, sampled))
    assert found == pytest.approx(number(admin, "backfill_range"), rel=0.3)


async def test_a_queue_of_the_held_type_alone(
    admin: Admin, recorder: Recorder, watcher: Watcher
) -> None:
    run(admin, *schemas.BARE, *INDEXES["I4"])
    fill(admin, rows=9_000, live=0.05, seed=0.3)
    await hold(recorder)
    seen = await watcher.read(PostgresQueue(types=("backfill_range",)))
    assert waiting(seen) == Count(0)
    assert seen.held is not None
    assert seen.held.count == Count(number(admin, "backfill_range"))
    other = await watcher.read(PostgresQueue(types=("process_snapshot",)))
    assert other.held is None


async def test_held_jobs_are_never_healthy(
    admin: Admin, recorder: Recorder, watcher: Watcher
) -> None:
    run(admin, *schemas.MODEL)
    run(
        admin,
        "INSERT INTO queue_jobs (type, run_after)"
        " SELECT 'backfill_range', now() - interval '2 h' FROM generate_series(1, 600)",
    )
    queue = Queue.model_validate({"name": "jobs", "postgres": {}})
    assert words(queue, await watcher.read()) == ("waiting 600 > 500", "oldest 2h > 30m")
    await hold(recorder)
    seen = await again(watcher)
    assert waiting(seen) == Count(0)
    assert words(queue, seen) == (
        "waiting 0 and 600 held back > 500",
        "oldest held back 2h > 30m",
    )
    await release(recorder)
    assert words(queue, await watcher.read()) == ("waiting 600 > 500", "oldest 2h > 30m")


async def test_rates_see_no_job_come_or_go(
    admin: Admin, recorder: Recorder, watcher: Watcher
) -> None:
    """A job that is held has not left, and one that is released has not arrived."""
    run(admin, *schemas.MODEL)
    fill_model = (
        "INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1, 300)"
    )
    run(admin, fill_model)
    for step in range(8):
        admin.execute("SELECT pg_stat_force_next_flush()")
        seen = await watcher.read(window=3)
        if step == 2:
            await hold(recorder)
        if step == 5:
            await release(recorder)
        admin.execute("SELECT pg_sleep(1.1)")
    assert isinstance(seen.throughput_per_second, Known), seen.throughput_per_second
    assert seen.throughput_per_second.value == 0
    assert isinstance(seen.arrivals_per_second, Known)
    assert seen.arrivals_per_second.value == 0
