"""The planner chooses how a big table is read; counts are exact, or say how they are not."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from statistics import mean

import pytest

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Confidence, Count, Known, QueueReading, Unknown, Why

from . import schemas
from .conftest import Admin, Recorder, Watcher, estimates, run
from .histories import INDEXES, Truth, fill, is_as_old, truth

pytestmark = pytest.mark.postgres

ROWS = 12_000  # about 170 pages: big by the settings below, quick to make


@pytest.fixture
def settings() -> ObserverSettings:
    """A table of 170 pages is to these what 3 GB are to production's."""
    return replace(
        ObserverSettings(),
        small_pages=8,
        sample_pages=40,
        head_rows=1_001,
        most_counted=2_001,
        least_counted=501,
    )


def make(admin: Admin, index: str) -> None:
    run(admin, "SET synchronous_commit = on", *schemas.BARE, *INDEXES[index])


TIERS = {
    "none": "sample of blocks",
    "I1": "head of the line: i1",
    "I2": "head of the line: i2",
    "I3": "counted per type: i3",
    "I4": "counted per type: i4",
    "I5": "counted per type: i5",
}


def waiting(seen: QueueReading) -> Count:
    assert isinstance(seen.waiting, Known)
    return seen.waiting.value


@pytest.mark.parametrize("index", INDEXES)
async def test_the_index_decides_the_tier(admin: Admin, watcher: Watcher, index: str) -> None:
    make(admin, index)
    fill(admin, rows=ROWS, live=0.5, seed=0.1)
    since = time.monotonic()
    seen = await watcher.read()
    assert seen.how.startswith(TIERS[index])
    assert isinstance(seen.waiting, Known)
    real = truth(admin)
    assert real.waiting > 2_001  # longer than what is counted
    match seen.waiting.value.confidence:
        case Confidence.ESTIMATED:
            assert index == "none"
            assert mean(await estimates(watcher, waiting)) == pytest.approx(real.waiting, rel=0.25)
            assert isinstance(seen.oldest_due_age, Unknown)
            assert "CREATE INDEX CONCURRENTLY" in seen.oldest_due_age.message
        case Confidence.AT_LEAST:
            assert 1_000 < seen.waiting.value.value <= real.waiting
            assert isinstance(seen.oldest_due_age, Known)
            assert is_as_old(seen.oldest_due_age.value, real, since)
        case Confidence.EXACT | Confidence.AT_MOST:
            pytest.fail("that many are not counted, and some are seen")


@pytest.mark.parametrize("index", ["I1", "I2", "I3", "I4", "I5"])
@pytest.mark.parametrize("seed", [0.11, 0.42, 0.73])
async def test_short_lines_are_exact(
    admin: Admin, watcher: Watcher, index: str, seed: float
) -> None:
    make(admin, index)
    fill(admin, rows=ROWS, live=0.04 * seed, seed=seed)
    for types in ((), ("backfill_range",), ("process_snapshot", "archive_snapshot"), ("never",)):
        since = time.monotonic()
        seen = await watcher.read(PostgresQueue(types=types))
        check(seen, truth(admin, *types), index, since)


def check(seen: QueueReading, real: Truth, index: str, since: float) -> None:
    assert isinstance(seen.waiting, Known), seen.waiting
    assert isinstance(seen.scheduled, Known)
    assert seen.waiting.value == Count(real.waiting)
    assert seen.scheduled.value == Count(real.scheduled)
    assert isinstance(seen.oldest_due_age, Known)
    assert is_as_old(seen.oldest_due_age.value, real, since)
    if index in ("I1", "I3"):  # indexes of waiting jobs alone
        assert isinstance(seen.in_progress, Unknown)
        assert isinstance(seen.failed, Unknown)
        assert seen.in_progress.why is seen.failed.why is Why.NO_INDEX
        return
    assert isinstance(seen.in_progress, Known)
    assert isinstance(seen.failed, Known)
    assert seen.in_progress.value == Count(real.in_progress)
    assert seen.failed.value == Count(real.failed)


async def test_small_tables_are_counted_in_full(admin: Admin, recorder: Recorder) -> None:
    make(admin, "none")
    fill(admin, rows=ROWS, live=0.5, seed=0.3)
    watcher = Watcher(recorder, ObserverSettings())
    for types in ((), ("backfill_range",)):
        since = time.monotonic()
        seen = await watcher.read(PostgresQueue(types=types))
        assert seen.how.startswith("counted in full")
        check(seen, truth(admin, *types), "none", since)


async def test_a_sample_of_every_block_is_a_full_count(admin: Admin, recorder: Recorder) -> None:
    make(admin, "none")
    fill(admin, rows=ROWS, live=0.5, seed=0.3)
    watcher = Watcher(recorder, replace(ObserverSettings(), small_pages=8))
    since = time.monotonic()
    seen = await watcher.read()
    assert seen.how.startswith("counted in full")
    check(seen, truth(admin), "none", since)


async def test_a_storm_that_no_statistics_know(admin: Admin, watcher: Watcher) -> None:
    """ANALYZE has last seen an idle queue; estimates would still say so (−91 % measured)."""
    make(admin, "I5")
    fill(admin, rows=ROWS, live=0.0, seed=0.5)
    assert isinstance((await watcher.read()).waiting, Known)
    fill(admin, rows=3_000, live=1.0, seed=0.6, analyze=False)
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value.value > 1_000
    assert isinstance(seen.failed, Known)
    assert seen.failed.value == Count(truth(admin).failed)


async def test_a_rare_type_is_not_hidden_by_a_long_one(admin: Admin, watcher: Watcher) -> None:
    make(admin, "I5")
    fill(admin, rows=ROWS, live=0.5, seed=0.5)
    run(
        admin,
        """INSERT INTO queue_jobs (type, run_after)
           SELECT 'rare_admin', now() - interval '5 h' FROM generate_series(1, 81)""",
    )
    seen = await watcher.read(PostgresQueue(types=("rare_admin",)))
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(81)


async def test_a_type_behind_the_head_is_unknown_not_zero(admin: Admin, watcher: Watcher) -> None:
    make(admin, "I1")
    fill(admin, rows=ROWS, live=0.5, seed=0.5)
    run(admin, "INSERT INTO queue_jobs (type, run_after) VALUES ('rare_admin', now())")
    seen = await watcher.read(PostgresQueue(types=("rare_admin",)))
    assert isinstance(seen.waiting, Unknown)
    assert seen.waiting.why is Why.NO_INDEX
    assert "(status, type, run_after)" in seen.waiting.message


async def test_one_long_type_may_be_counted_further(admin: Admin, watcher: Watcher) -> None:
    """What one reading may count is shared by the types that are long, here one of three."""
    make(admin, "I5")
    run(
        admin,
        """INSERT INTO queue_jobs (type)
           SELECT CASE WHEN g <= 1900 THEN 'long' WHEN g <= 2000 THEN 'a' ELSE 'b' END
             FROM generate_series(1, 2100) g""",
        "VACUUM ANALYZE queue_jobs",
    )
    first = await watcher.read()
    second = await watcher.read()
    assert first.types["long"] == Count(501, Confidence.AT_LEAST)
    assert second.types == {"long": Count(1_900), "a": Count(100), "b": Count(100)}


async def test_only_a_status_index(admin: Admin, watcher: Watcher) -> None:
    """The first migration's index counts, but does not lead to the oldest job of a long line."""
    run(admin, *schemas.FIRST_MIGRATION)
    run(
        admin,
        """INSERT INTO queue_jobs (type, status)
           SELECT 'a', CASE WHEN g <= 20000 THEN 'completed' WHEN g <= 20100 THEN 'pending'
                            ELSE 'failed' END
             FROM generate_series(1, 20150) g""",
        "VACUUM ANALYZE queue_jobs",
    )
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(100)
    assert isinstance(seen.oldest_due_age, Known)

    run(
        admin,
        "INSERT INTO queue_jobs (type) SELECT 'a' FROM generate_series(1, 3000)",
        "VACUUM queue_jobs",
    )
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value.confidence is Confidence.AT_LEAST
    assert isinstance(seen.oldest_due_age, Unknown)


async def test_growing_beyond_a_full_count_is_noticed_at_once(
    admin: Admin, watcher: Watcher
) -> None:
    make(admin, "I5")
    assert (await watcher.read()).how.startswith("counted in full")
    fill(admin, rows=ROWS, live=0.5, seed=0.2)
    await watcher.read()
    assert (await watcher.read()).how.startswith("counted per type")


async def test_three_timeouts_lower_the_tier_for_a_while(
    admin: Admin, watcher: Watcher, recorder: Recorder, settings: ObserverSettings
) -> None:
    make(admin, "I5")
    fill(admin, rows=ROWS, live=0.5, seed=0.2)
    recorder.fault = DatabaseFault(Why.TIMEOUT, "Ended by its limit.", sqlstate="57014")
    recorder.fails_on = "RECURSIVE"
    for _ in range(settings.most_timeouts):
        seen = await watcher.read()
        assert isinstance(seen.waiting, Unknown)
        assert seen.waiting.why is Why.TIMEOUT
    recorder.fault = None

    seen = await watcher.read()
    assert seen.how.startswith("head of the line")
    assert isinstance(seen.waiting, Known)

    watcher.now += settings.lower_for.total_seconds()
    assert (await watcher.read()).how.startswith("counted per type")


async def test_statistics_are_left_when_all_else_is_slow(
    admin: Admin, watcher: Watcher, recorder: Recorder, settings: ObserverSettings
) -> None:
    make(admin, "none")
    fill(admin, rows=ROWS, live=0.5, seed=0.2)
    recorder.fails_on = "TABLESAMPLE"
    recorder.fault = DatabaseFault(Why.TIMEOUT, "Ended by its limit.", sqlstate="57014")
    for _ in range(settings.most_timeouts):
        assert isinstance((await watcher.read()).waiting, Unknown)
    seen = await watcher.read()
    assert seen.how.startswith("activity counters only")
    assert isinstance(seen.waiting, Unknown)
    assert seen.waiting.why is Why.NO_INDEX


async def test_nothing_selects_the_payload(
    admin: Admin, watcher: Watcher, recorder: Recorder
) -> None:
    for index in INDEXES:
        run(admin, "DROP TABLE IF EXISTS queue_jobs")
        make(admin, index)
        run(admin, "CREATE INDEX changed ON queue_jobs (updated_at)")
        fill(admin, rows=ROWS, live=0.5, seed=0.2)
        watcher.now += timedelta(minutes=6).total_seconds()
        await watcher.read()
    assert len(recorder.reads()) >= len(INDEXES)
    assert not [text for text in recorder.asked if "payload" in text or "SELECT *" in text]


@pytest.mark.parametrize("index", ["I1", "I5"])
async def test_rows_without_type_or_due_time_are_counted(
    admin: Admin, watcher: Watcher, index: str
) -> None:
    """schema.sql allows NULL nearly everywhere."""
    run(admin, "SET synchronous_commit = on", *schemas.SCHEMA_SQL, *INDEXES[index])
    fill(admin, rows=ROWS, live=0.0, seed=0.5)
    run(
        admin,
        """INSERT INTO queue_jobs (type, run_after)
           SELECT CASE WHEN g <= 30 THEN 'a' END,
                  CASE WHEN g % 3 = 0 THEN NULL ELSE now() END FROM generate_series(1, 60) g""",
        "VACUUM ANALYZE queue_jobs",
    )
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(60)
    assert seen.types == {"a": Count(30), "": Count(30)}
