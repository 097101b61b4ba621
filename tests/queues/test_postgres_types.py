"""One job type at a time: as exact as a queue of that type alone, and not one statement more."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import (
    Count,
    Known,
    Outcomes,
    QueueReading,
    TypeReading,
    Unknown,
    Why,
)

from . import schemas
from .conftest import Admin, Recorder, Watcher, run
from .histories import INDEXES, fill, is_as_old, truth

pytestmark = pytest.mark.postgres

ROWS = 12_000
BIG = replace(
    ObserverSettings(),
    small_pages=8,
    sample_pages=40,
    head_rows=1_001,
    most_counted=2_001,
    least_counted=501,
)
WATCHED = frozenset({"process_snapshot", "backfill_range", "never"})


async def read(
    watcher: Watcher, spec: PostgresQueue | None = None, types: frozenset[str] = WATCHED
) -> QueueReading:
    watcher.now += 1.0
    return await watcher.queues.read(
        "jobs",
        spec or PostgresQueue(),
        types,
        rate_window=timedelta(seconds=5),
        max_age=timedelta(0),
    )


@pytest.mark.parametrize(
    ("settings", "index"),
    [(ObserverSettings(), "none"), (BIG, "I1"), (BIG, "I3"), (BIG, "I5")],
    ids=["counted in full", "head of the line", "per type, waiting", "per type, all"],
)
async def test_a_type_is_what_a_queue_of_it_would_be(
    admin: Admin, recorder: Recorder, settings: ObserverSettings, index: str
) -> None:
    run(admin, "SET synchronous_commit = on", *schemas.BARE, *INDEXES[index])
    fill(admin, rows=ROWS, live=0.02, seed=0.42)
    watcher = Watcher(recorder, settings)
    since = time.monotonic()
    seen = await read(watcher)
    assert seen.by_type.keys() == WATCHED
    for name, found in seen.by_type.items():
        real = truth(admin, name)
        assert isinstance(found.waiting, Known)
        assert found.waiting.value == Count(real.waiting)
        assert isinstance(found.oldest_due_age, Known)
        assert is_as_old(found.oldest_due_age.value, real, since)
    assert truth(admin, "never").waiting == 0


async def test_types_cost_no_statement_more(
    admin: Admin, watcher: Watcher, recorder: Recorder
) -> None:
    run(admin, *schemas.BARE, *INDEXES["I5"])
    fill(admin, rows=ROWS, live=0.02, seed=0.42)
    await read(watcher, types=frozenset())
    recorder.asked.clear()
    await read(watcher, types=frozenset())
    without = list(recorder.asked)
    recorder.asked.clear()
    assert (await read(watcher)).by_type
    assert recorder.asked == without


async def test_a_type_behind_the_head_is_unknown_not_zero(admin: Admin, recorder: Recorder) -> None:
    run(admin, *schemas.BARE, *INDEXES["I1"])
    fill(admin, rows=ROWS, live=0.5, seed=0.5)
    run(admin, "INSERT INTO queue_jobs (type, run_after) VALUES ('rare_admin', now())")
    seen = await read(Watcher(recorder, BIG), types=frozenset({"rare_admin"}))
    assert isinstance(seen.by_type["rare_admin"].waiting, Unknown)


async def test_outcomes_are_of_the_type_alone(admin: Admin, watcher: Watcher) -> None:
    """The runbook's breaker: one failing type, while the others work."""
    run(
        admin,
        *schemas.BARE,
        "CREATE INDEX ended ON queue_jobs (updated_at)",
        """INSERT INTO queue_jobs (type, status, created_at, updated_at)
           SELECT kind, status, now() - interval '1 h', now() - interval '20 s'
             FROM (VALUES ('backfill_range', 'failed', 30), ('backfill_range', 'completed', 10),
                          ('process_snapshot', 'completed', 100)) w (kind, status, jobs),
                  generate_series(1, jobs)""",
        """INSERT INTO queue_jobs (type, status, created_at, updated_at)
           SELECT 'process_snapshot', 'completed', now() - interval '9 h', now() - interval '8 h'
             FROM generate_series(1, 20000)""",
        "ANALYZE queue_jobs",
    )
    seen = await read(watcher)

    def ended(part: TypeReading) -> tuple[int, int]:
        assert isinstance(part.outcomes, Known), part.outcomes
        outcomes: Outcomes = part.outcomes.value
        return outcomes.finished, outcomes.failed

    assert ended(seen.by_type["backfill_range"]) == (10, 30)
    assert ended(seen.by_type["process_snapshot"]) == (100, 0)
    assert ended(seen.by_type["never"]) == (0, 0)


async def test_a_queue_reports_its_own_types_and_no_others(admin: Admin, watcher: Watcher) -> None:
    """What belongs to another queue of the table is that queue's."""
    run(admin, *schemas.BARE)
    seen = await read(watcher, PostgresQueue(types=("process_snapshot",)))
    assert seen.by_type.keys() == {"process_snapshot"}


async def test_a_table_without_types_says_so(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.BARE, "ALTER TABLE queue_jobs DROP COLUMN type")
    found = (await read(watcher)).by_type["never"]
    assert isinstance(found.waiting, Unknown)
    assert found.waiting.why is Why.COLUMN_NOT_FOUND
    assert "columns.type" in found.waiting.message
