"""Every published variant of the job table is understood without a mapping, others with one."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import LiteralString

import pytest

from starforge_backlog.api.queue import ColumnNames, PostgresQueue, StatusNames
from starforge_backlog.snapshot import Confidence, Count, Known, Reading, Unknown, Why

from . import schemas
from .conftest import Admin, Watcher, run

pytestmark = pytest.mark.postgres


def value(reading: Reading[Count]) -> int:
    assert isinstance(reading, Known), reading
    return reading.value.value


def missing(reading: Reading[object]) -> Unknown:
    assert isinstance(reading, Unknown), reading
    return reading


@pytest.mark.parametrize(
    ("schema", "running", "finished"),
    [
        (schemas.MODEL, "running", "done"),
        (schemas.SCHEMA_SQL, "processing", "completed"),
        (schemas.ENUM, "running", "done"),
    ],
)
async def test_variants_with_a_due_time(
    admin: Admin,
    watcher: Watcher,
    schema: tuple[LiteralString, ...],
    running: str,
    finished: str,
) -> None:
    run(admin, *schema)
    words = ["pending"] * 5 + [running] * 3 + ["failed"] * 2 + [finished] * 7
    for word in words:
        admin.execute("INSERT INTO queue_jobs (type, status) VALUES ('a', %s)", (word,))
    begin = time.monotonic()
    run(
        admin,
        """INSERT INTO queue_jobs (type, run_after)
           VALUES ('b', now() - interval '90 s'), ('b', now() + interval '2 h')""",
    )

    seen = await watcher.read()
    took = timedelta(seconds=time.monotonic() - begin)

    assert value(seen.waiting) == 6
    assert value(seen.scheduled) == 1
    assert value(seen.in_progress) == 3
    assert value(seen.failed) == 2
    assert seen.types == {"a": Count(5), "b": Count(1)}
    assert isinstance(seen.oldest_due_age, Known)
    assert timedelta(seconds=90) <= seen.oldest_due_age.value <= timedelta(seconds=90) + took
    assert missing(seen.throughput_per_second).why is Why.NOT_YET


async def test_first_migration_has_no_due_time_and_says_so(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        *schemas.FIRST_MIGRATION,
        """INSERT INTO queue_jobs (type, status, created_at) VALUES
             ('a', 'pending', now() - interval '40 s'), ('a', 'pending', now()),
             ('a', 'processing', now()), ('a', 'completed', now()), ('b', 'failed', now())""",
    )

    seen = await watcher.read()

    assert (value(seen.waiting), value(seen.in_progress), value(seen.failed)) == (2, 1, 1)
    scheduled = missing(seen.scheduled)
    assert scheduled.why is Why.NOT_IN_TABLE
    assert "spec.queues[jobs].postgres.columns.runAfter" in scheduled.message
    assert isinstance(seen.oldest_due_age, Known)
    assert seen.oldest_due_age.value >= timedelta(seconds=40)


async def test_a_job_without_due_time_is_due_since_its_creation(
    admin: Admin, watcher: Watcher
) -> None:
    run(
        admin,
        *schemas.SCHEMA_SQL,
        """INSERT INTO queue_jobs (type, run_after, created_at)
           VALUES ('a', NULL, now() - interval '1 h'), (NULL, now(), now())""",
    )
    seen = await watcher.read()
    assert value(seen.waiting) == 2
    assert seen.types == {"a": Count(1), "": Count(1)}
    assert isinstance(seen.oldest_due_age, Known)
    assert seen.oldest_due_age.value >= timedelta(hours=1)


async def test_an_endless_due_time_is_neither_an_age_nor_a_fault(
    admin: Admin, watcher: Watcher
) -> None:
    run(
        admin,
        *schemas.MODEL,
        "INSERT INTO queue_jobs (type, run_after) VALUES ('a', 'infinity'), ('a', '-infinity')",
    )
    seen = await watcher.read()
    assert (value(seen.waiting), value(seen.scheduled)) == (1, 1)
    assert isinstance(seen.oldest_due_age, Unknown)


async def test_mapped_columns_and_words(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        "CREATE SCHEMA app",
        """CREATE TABLE app."Tasks" (
             "taskId" int, kind int NOT NULL, state int NOT NULL, due timestamp, made timestamp)""",
        """INSERT INTO app."Tasks" VALUES
             (1, 7, 0, now(), now()), (2, 7, 1, now(), now()), (3, 8, 2, now(), now()),
             (4, 8, 0, now() + interval '1 h', now())""",
    )
    spec = PostgresQueue(
        table="app.Tasks",
        columns=ColumnNames(type="kind", status="state", run_after="due", created_at="made"),
        statuses=StatusNames(
            waiting=("0",), in_progress=("1",), failed=("2",), finished=("3", "4")
        ),
    )
    seen = await watcher.read(spec)
    assert (value(seen.waiting), value(seen.scheduled)) == (1, 1)
    assert (value(seen.in_progress), value(seen.failed)) == (1, 1)
    assert seen.types == {"7": Count(1)}


async def test_a_partitioned_table_is_one_queue(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        """CREATE TABLE queue_jobs (id int, type text NOT NULL, status text NOT NULL,
             run_after timestamptz NOT NULL DEFAULT now()) PARTITION BY LIST (type)""",
        "CREATE TABLE jobs_a PARTITION OF queue_jobs FOR VALUES IN ('a')",
        "CREATE TABLE jobs_b PARTITION OF queue_jobs FOR VALUES IN ('b')",
        "INSERT INTO queue_jobs VALUES (1, 'a', 'pending'), (2, 'b', 'pending')",
    )
    seen = await watcher.read()
    assert value(seen.waiting) == 2
    assert missing(seen.arrivals_per_second).why is Why.NOT_YET


async def test_a_quarantined_job_does_not_wait(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        *schemas.ENUM,
        "INSERT INTO queue_jobs (type, status) VALUES ('a', 'quarantined'), ('a', 'failed')",
    )
    seen = await watcher.read()
    assert (value(seen.waiting), value(seen.failed)) == (0, 1)


async def test_a_group_without_a_word_is_unknown_not_zero(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        """CREATE TABLE queue_jobs (type text NOT NULL,
             status text NOT NULL CHECK (status IN ('queued', 'done')))""",
        "INSERT INTO queue_jobs VALUES ('a', 'queued')",
    )
    seen = await watcher.read()
    assert value(seen.waiting) == 1
    running = missing(seen.in_progress)
    assert running.why is Why.STATUS_NOT_MAPPED
    assert "spec.queues[jobs].postgres.statuses.inProgress" in running.message
    assert missing(seen.oldest_due_age).why is Why.NOT_IN_TABLE


async def test_a_table_of_unknown_words_is_not_an_empty_queue(
    admin: Admin, watcher: Watcher
) -> None:
    run(admin, *schemas.SCHEMA_SQL)
    admin.execute("INSERT INTO queue_jobs (type, status) VALUES ('a', 'new'), ('a', 'over')")
    unread = missing((await watcher.read()).waiting)
    assert unread.why is Why.STATUS_NOT_MAPPED
    assert "only new, over" in unread.message
    assert "spec.queues[jobs].postgres.statuses" in unread.message
    admin.execute("INSERT INTO queue_jobs (type, status) VALUES ('a', 'pending')")
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(1, Confidence.AT_LEAST), "the others may be waiting too"
