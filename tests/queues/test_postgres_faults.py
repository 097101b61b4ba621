"""What can be wrong with a table: each its own reason, with the fix, and never an exception."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from local.postgres import PostgresServer
from starforge_backlog.api.queue import ColumnNames, ColumnPart, PostgresQueue, Queue, StatusNames
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.url import parse_url
from starforge_backlog.decide.assess.need import load
from starforge_backlog.decide.assess.objectives import readable
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Count, Known, QueueReading, Unknown, Why

from . import schemas
from .conftest import Admin, Recorder, Watcher, run

pytestmark = pytest.mark.postgres

QUEUE = Queue.model_validate({"name": "jobs", "postgres": {}})

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


async def test_the_table_of_the_urls_schema_is_read(admin: Admin, postgres_url: str) -> None:
    """Prisma's `?schema=app`; the same name in `public` is another table."""
    run(
        admin,
        *schemas.MODEL,
        "CREATE SCHEMA app",
        "CREATE TABLE app.queue_jobs (LIKE queue_jobs INCLUDING ALL)",
        "INSERT INTO app.queue_jobs (type) SELECT 'a' FROM generate_series(1, 7)",
    )
    database = Database(parse_url(f"{postgres_url}?schema=app&connection_limit=5"))
    seen = await Watcher(Recorder(database), ObserverSettings()).read()
    await database.close()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(7)


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


async def test_a_column_of_another_type_costs_no_count(admin: Admin, watcher: Watcher) -> None:
    """`created_at bigint`: jobs are counted; their age alone is unknown, with the column named."""
    run(
        admin,
        "CREATE TABLE queue_jobs (type json, status text, created_at bigint, updated_at bigint)",
        "INSERT INTO queue_jobs VALUES ('{}', 'pending', 1, 1)",
    )
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(1)
    assert isinstance(seen.oldest_due_age, Unknown)
    assert seen.oldest_due_age.why is Why.NOT_IN_TABLE
    assert "created_at is bigint" in seen.oldest_due_age.message
    assert "spec.queues[jobs].postgres.columns.createdAt" in seen.oldest_due_age.message
    assert len([note for note in seen.notes if "columns.absent" in note]) == 3
    assert all(note[0].isupper() for note in seen.notes)


async def test_a_column_can_be_declared_absent(admin: Admin, watcher: Watcher) -> None:
    """Without it a due time of another type would make a job of next week count as due."""
    run(
        admin,
        "CREATE TABLE queue_jobs (status text, run_after bigint, created_at bigint)",
        "INSERT INTO queue_jobs VALUES ('pending', 1, 1)",
    )
    refused = reason(await watcher.read())
    assert "columns.absent" in refused.message
    absent = (ColumnPart.RUN_AFTER, ColumnPart.CREATED_AT)
    seen = await watcher.read(PostgresQueue(columns=ColumnNames(absent=absent)))
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(1)
    assert readable(QUEUE, seen), "nobody waits for an age that the policy says there is not"
    assert seen.notes == ()


async def test_jobs_without_any_time_are_counted_and_stepped_for(
    admin: Admin, watcher: Watcher
) -> None:
    """3,000 are too many, however old they are; no index would show the age of any."""
    run(
        admin,
        *schemas.SCHEMA_SQL,
        """INSERT INTO queue_jobs (type, run_after, created_at)
           SELECT 'a', NULL, NULL FROM generate_series(1, 3000)""",
        "INSERT INTO queue_jobs (type) VALUES ('a')",
    )
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(3001)
    assert isinstance(seen.oldest_due_age, Unknown)
    assert seen.oldest_due_age.why is Why.NOT_IN_TABLE
    assert "run_after and created_at is NULL" in seen.oldest_due_age.message
    assert "INDEX" not in seen.oldest_due_age.message
    assert not any(": oldest: " in part for part in load([("jobs", seen)]).missing)


async def test_a_table_without_times_and_without_jobs_is_in_time(
    admin: Admin, watcher: Watcher
) -> None:
    run(admin, "CREATE TABLE queue_jobs (status text DEFAULT 'pending')")
    assert readable(QUEUE, await watcher.read())
    run(admin, "INSERT INTO queue_jobs DEFAULT VALUES")
    assert not readable(QUEUE, await watcher.read())


async def test_children_that_inherit_are_no_partitions(admin: Admin, watcher: Watcher) -> None:
    run(admin, *schemas.MODEL, "CREATE TABLE archive (PRIMARY KEY (id)) INHERITS (queue_jobs)")
    why = reason(await watcher.read())
    assert why.why is Why.BAD_SHAPE
    assert "INHERITS" in why.message
    assert "spec.queues[jobs].postgres.table" in why.message
    child = await watcher.read(PostgresQueue(table="archive"))
    assert isinstance(child.waiting, Known)


async def test_a_table_without_a_status_leads_to_prometheus(admin: Admin, watcher: Watcher) -> None:
    """Laravel's jobs table: rows are deleted when they are done."""
    run(
        admin,
        """CREATE TABLE jobs (id bigserial, queue text, payload text, attempts smallint,
             reserved_at int, available_at int, created_at int)""",
    )
    why = reason(await watcher.read(PostgresQueue(table="jobs")))
    assert why.why is Why.COLUMN_NOT_FOUND
    assert "queues[].prometheus" in why.message
    assert "reserved_at" in why.message


async def test_a_name_in_a_message_is_written_as_sql_has_it(admin: Admin, watcher: Watcher) -> None:
    run(admin, 'CREATE SCHEMA "Jobs"', 'CREATE VIEW "Jobs".queue_jobs AS SELECT 1 AS status')
    why = reason(await watcher.read(PostgresQueue(table="Jobs.queue_jobs")))
    assert '"Jobs".queue_jobs' in why.message
    run(admin, "CREATE VIEW queue_jobs AS SELECT 1 AS status")
    assert "Public" not in reason(await watcher.read()).message


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
    # Read again: the table no longer has a due time, and that is no fault.
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


@pytest.mark.parametrize("filler", ["0001-01-01 00:00+00", "1970-01-01 00:00+00"])
async def test_a_time_that_is_a_filler_is_no_age(
    admin: Admin, watcher: Watcher, filler: str
) -> None:
    """Go's zero time and an epoch of 0: an age of 2,000 years would trip every breaker."""
    run(admin, *schemas.MODEL)
    admin.execute("INSERT INTO queue_jobs (type, run_after) VALUES ('a', %s)", [filler])
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(1)
    assert isinstance(seen.oldest_due_age, Unknown)
    assert seen.oldest_due_age.why is Why.BAD_SHAPE
    assert "run_after" in seen.oldest_due_age.message


async def test_a_job_of_the_future_has_no_age_of_0(admin: Admin, watcher: Watcher) -> None:
    """A producer with another time zone, in a column that has none."""
    run(admin, *schemas.FIRST_MIGRATION)
    insert = "INSERT INTO queue_jobs (type, created_at) VALUES ('a', now() + interval '2 hours')"
    run(admin, insert)
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert isinstance(seen.oldest_due_age, Unknown)
    assert seen.oldest_due_age.why is Why.BAD_SHAPE
    assert "created_at" in seen.oldest_due_age.message
    run(admin, "UPDATE queue_jobs SET created_at = now() + interval '1 minute'")
    assert isinstance((await watcher.read()).oldest_due_age, Known), "clocks differ"


async def test_another_table_of_the_same_name_is_noticed(admin: Admin, watcher: Watcher) -> None:
    """ALTER TABLE … RENAME, as migrations swap tables: counts are of the new one at once, so the
    counters of the old one must not be used with them."""
    run(admin, *schemas.MODEL, "CREATE TABLE fresh (LIKE queue_jobs INCLUDING ALL)")
    await watcher.read()
    run(
        admin,
        "ALTER TABLE queue_jobs RENAME TO old_jobs",
        "ALTER TABLE fresh RENAME TO queue_jobs",
        "INSERT INTO queue_jobs (type) VALUES ('a')",
    )
    seen = await watcher.read()
    assert isinstance(seen.arrivals_per_second, Unknown)
    assert seen.arrivals_per_second.why is Why.TABLE_NOT_FOUND
    again = await watcher.read()
    assert isinstance(again.waiting, Known)
    assert again.waiting.value == Count(1)
    assert isinstance(again.arrivals_per_second, Unknown)
    assert again.arrivals_per_second.why is not Why.TABLE_NOT_FOUND


async def test_bytes_that_are_no_text_say_what_to_do(postgres_server: PostgresServer) -> None:
    """A database of encoding SQL_ASCII takes any bytes."""
    name = "bytes_that_are_no_text"
    with psycopg.connect(postgres_server.url(), autocommit=True) as server:
        server.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0"
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        url = postgres_server.url(database=name)
        with psycopg.connect(url, autocommit=True) as admin:
            run(admin, *schemas.BARE)
            admin.execute("INSERT INTO queue_jobs (type) VALUES (E'caf\\xe9')")
        database = Database(parse_url(url))
        seen = await Watcher(Recorder(database), ObserverSettings()).read()
        await database.close()
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert isinstance(seen.waiting, Unknown)
    assert seen.waiting.why is Why.BAD_SHAPE
    assert "SQL_ASCII" in seen.waiting.message
