"""What can be wrong with a table: each its own reason, with the mend, and never an exception."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from starforge_backlog.api.queue import ColumnNames, PostgresQueue, StatusNames
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.url import parse_url
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Known, QueueReading, Unknown, Why

from . import schemas
from .conftest import Admin, Recorder, Watcher, run

pytestmark = pytest.mark.postgres

READINGS = (
    "waiting",
    "scheduled",
    "in_progress",
    "failed",
    "oldest_due_age",
    "arrivals_per_second",
    "throughput_per_second",
    "outcomes",
)


def reason(seen: QueueReading) -> Unknown:
    """The one reason why nothing is known."""
    readings: list[Any] = [getattr(seen, name) for name in READINGS]
    assert all(isinstance(reading, Unknown) for reading in readings), seen
    assert len({(reading.why, reading.message) for reading in readings}) == 1
    assert isinstance(seen.waiting, Unknown)
    return seen.waiting


async def test_missing_table(watcher: Watcher) -> None:
    why = reason(await watcher.read(PostgresQueue(table="nothing")))
    assert why.why is Why.TABLE_NOT_FOUND
    assert "nothing" in why.message
    assert "spec.queues[jobs].postgres.table" in why.message


async def test_a_table_in_another_schema_is_named(admin: Admin, watcher: Watcher) -> None:
    run(admin, "CREATE SCHEMA app", "CREATE TABLE app.queue_jobs (status text)")
    why = reason(await watcher.read())
    assert why.why is Why.TABLE_NOT_FOUND
    assert "app.queue_jobs" in why.message


async def test_a_view_is_no_table(admin: Admin, watcher: Watcher) -> None:
    run(admin, "CREATE VIEW queue_jobs AS SELECT 'pending'::text AS status")
    why = reason(await watcher.read())
    assert why.why is Why.BAD_SHAPE
    assert "view" in why.message


async def test_a_mapped_column_that_is_missing(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.MODEL)
    spec = PostgresQueue(columns=ColumnNames(run_after="due_at"))
    why = reason(await watcher.read(spec))
    assert why.why is Why.COLUMN_NOT_FOUND
    assert "due_at" in why.message
    assert "run_after" in why.message  # the columns that exist
    assert "spec.queues[jobs].postgres.columns.runAfter" in why.message


async def test_no_status_column(admin: Admin, watcher: Watcher) -> None:
    run(admin, "CREATE TABLE queue_jobs (id int, state text)")
    why = reason(await watcher.read())
    assert why.why is Why.COLUMN_NOT_FOUND
    assert "state" in why.message
    assert "spec.queues[jobs].postgres.columns.status" in why.message


async def test_a_due_time_that_is_no_time(admin: Admin, watcher: Watcher) -> None:
    run(admin, "CREATE TABLE queue_jobs (status text, run_after bigint)")
    why = reason(await watcher.read())
    assert why.why is Why.BAD_SHAPE
    assert "bigint" in why.message


async def test_words_that_mean_nothing(admin: Admin, watcher: Watcher) -> None:
    run(admin, "CREATE TYPE s AS ENUM ('new', 'old')", "CREATE TABLE queue_jobs (status s)")
    why = reason(await watcher.read())
    assert why.why is Why.STATUS_NOT_MAPPED
    assert "new, old" in why.message
    assert "spec.queues[jobs].postgres.statuses.waiting" in why.message


async def test_a_mapped_word_that_cannot_occur(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.ENUM)
    spec = PostgresQueue(statuses=StatusNames(waiting=("ready",)))
    why = reason(await watcher.read(spec))
    assert why.why is Why.STATUS_NOT_MAPPED
    assert "ready" in why.message
    assert "pending" in why.message


async def test_types_without_a_type_column(admin: Admin, watcher: Watcher) -> None:
    run(admin, "CREATE TABLE queue_jobs (status text DEFAULT 'pending')")
    why = reason(await watcher.read(PostgresQueue(types=("a",))))
    assert why.why is Why.COLUMN_NOT_FOUND
    assert "spec.queues[jobs].postgres.columns.type" in why.message


def as_role(postgres_url: str, role: str) -> str:
    parts = urlsplit(postgres_url)
    return urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.hostname}:{parts.port}"))


async def test_no_permission_then_granted(
    admin: Admin, postgres_url: str, settings: ObserverSettings
) -> None:
    run(
        admin,
        *schemas.MODEL,
        'DROP ROLE IF EXISTS "back-log"',
        "CREATE ROLE \"back-log\" LOGIN PASSWORD 'secret'",
    )
    database = Database(parse_url(as_role(postgres_url, "back-log")))
    watcher = Watcher(Recorder(database), settings)
    try:
        why = reason(await watcher.read())
        assert why.why is Why.NO_PERMISSION
        grant = why.message[why.message.index("GRANT") : -1]
        assert "payload" not in grant
        admin.execute(grant)  # the very text that users get
        assert isinstance((await watcher.read()).waiting, Known)

        run(
            admin,
            "ALTER TABLE queue_jobs ENABLE ROW LEVEL SECURITY",
            "INSERT INTO queue_jobs (type) VALUES ('hidden')",
        )
        watcher.now += settings.recheck_after.total_seconds()
        why = reason(await watcher.read())
        assert why.why is Why.NO_PERMISSION
        assert "BYPASSRLS" in why.message

        run(admin, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
        watcher.now += settings.recheck_after.total_seconds()
        why = reason(await watcher.read(PostgresQueue(table="public.queue_jobs")))
        assert why.why is Why.NO_PERMISSION
        assert 'GRANT USAGE ON SCHEMA public TO "back-log"' in why.message
    finally:
        await database.close()
        run(
            admin,
            'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "back-log"',
            'DROP OWNED BY "back-log"',
            'DROP ROLE "back-log"',
        )


async def test_a_migration_in_between_is_noticed_at_once(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.MODEL)
    assert isinstance((await watcher.read()).waiting, Known)
    run(admin, "ALTER TABLE queue_jobs RENAME COLUMN run_after TO due_at")
    why = (await watcher.read()).waiting
    assert isinstance(why, Unknown)
    assert why.why is Why.COLUMN_NOT_FOUND
    # Looked at again: the table has no due time any more, and that is no fault.
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert isinstance(seen.scheduled, Unknown)


async def test_a_table_that_was_replaced_is_found_again(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.MODEL, "INSERT INTO queue_jobs (type) VALUES ('a')")
    await watcher.read()
    run(admin, "DROP TABLE queue_jobs", *schemas.MODEL)
    rates = (await watcher.read()).arrivals_per_second
    assert isinstance(rates, Unknown)
    assert rates.why is Why.TABLE_NOT_FOUND
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value.value == 0
    assert isinstance(seen.arrivals_per_second, Unknown)
    assert seen.arrivals_per_second.why is Why.COUNTER_RESET


async def test_a_locked_table_is_not_waited_for(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.MODEL)
    await watcher.read()
    with admin.transaction():
        run(admin, "LOCK TABLE queue_jobs IN ACCESS EXCLUSIVE MODE")
        seen = await watcher.read()
    assert isinstance(seen.waiting, Unknown)
    assert seen.waiting.why is Why.LOCK_BUSY
    assert isinstance((await watcher.read()).waiting, Known)


async def test_a_lost_database_is_one_reason_for_all(
    admin: Admin, watcher: Watcher, recorder: Recorder
) -> None:
    run(admin, *schemas.MODEL)
    await watcher.read()
    recorder.fault = DatabaseFault(Why.UNREACHABLE, "Nothing answers.")
    assert reason(await watcher.read()).why is Why.UNREACHABLE
    recorder.fault = None
    assert isinstance((await watcher.read()).waiting, Known)
