"""One connection, short transactions, limits on each."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from tests.databases.conftest import Open, until

from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.url import parse_url
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.postgres

SETTINGS = (
    "SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS"
    " lock, current_setting('max_parallel_workers_per_gather') AS workers, current_setting('jit')"
    " AS jit, current_setting('transaction_read_only') AS read_only,"
    " current_setting('transaction_isolation') AS isolation,"
    " current_setting('synchronous_commit') AS synchronous, pg_backend_pid() AS pid"
)


@pytest.mark.usefixtures("production_limits")
async def test_every_read_has_the_limits(open_database: Open, postgres_url: str) -> None:
    (row,) = await open_database(postgres_url).fetch(SETTINGS)
    assert row.pop("pid")
    assert row == {
        "statement": "800ms",
        "lock": "100ms",
        "workers": "0",
        "jit": "off",
        "read_only": "on",
        "isolation": "read committed",
        "synchronous": "off",  # as the test server is set
    }


async def test_the_schema_of_a_url_holds_for_every_statement(
    open_database: Open, postgres_url: str
) -> None:
    """Prisma's `?schema=app`: `public.queue_jobs` must not be read or written in its place."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute('CREATE SCHEMA "my App"')
        admin.execute(
            'CREATE TABLE public.flags (word text); CREATE TABLE "my App".flags (word text)'
        )
    database = open_database(f"{postgres_url}?schema=my%20App")
    await database.execute_write("INSERT INTO flags VALUES ('ours')")
    for by_index in (False, True):
        (row,) = await database.fetch("SELECT word FROM flags", by_index=by_index)
        assert row["word"] == "ours"
    other = open_database(postgres_url)
    assert await other.fetch("SELECT word FROM flags") == []
    assert await database.where() != await other.where(), "another table of the same name"


@pytest.mark.usefixtures("production_limits")
async def test_every_write_has_limits_and_is_on_disk(
    open_database: Open, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            f'ALTER DATABASE "{admin.info.dbname}" SET default_transaction_isolation TO'
            " 'repeatable read'"
        )
    (row,) = await open_database(postgres_url).execute_write(SETTINGS)
    assert (row["statement"], row["lock"]) == ("2s", "100ms")
    assert (row["read_only"], row["isolation"]) == ("off", "read committed")
    assert row["synchronous"] == "on"


async def test_a_stronger_commit_is_not_weakened(open_database: Open, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{admin.info.dbname}" SET synchronous_commit = remote_apply')
    (row,) = await open_database(postgres_url).execute_write(SETTINGS)
    assert row["synchronous"] == "remote_apply"


async def test_limits_end_with_the_transaction(open_database: Open, postgres_url: str) -> None:
    database = open_database(postgres_url)
    (before,) = await database.fetch(SETTINGS, timeout=timedelta(seconds=13))
    (after,) = await database.fetch(SETTINGS)
    assert (before["statement"], after["statement"]) == ("13s", "30s")


async def test_parameters_and_percent_signs(open_database: Open, postgres_url: str) -> None:
    database = open_database(postgres_url)
    assert await database.fetch("SELECT 'a%' AS text") == [{"text": "a%"}]
    assert await database.fetch("SELECT %s::int AS n", (7,)) == [{"n": 7}]
    assert await database.fetch("SELECT %(é)s::text AS t", {"é": "ü"}) == [{"t": "ü"}]


async def test_a_failed_statement_leaves_nothing_behind(
    open_database: Open, postgres_url: str
) -> None:
    database = open_database(postgres_url)
    (first,) = await database.fetch(SETTINGS)
    for query in ("SELECT 1/0", "SELECT pg_sleep(60)", "nonsense"):
        with pytest.raises(DatabaseFault):
            await database.fetch(query, timeout=timedelta(seconds=0.8))
    with pytest.raises(DatabaseFault):
        await database.execute_write("CREATE TABLE half AS SELECT 1/0 AS n")
    (last,) = await database.fetch(SETTINGS)
    assert last["pid"] == first["pid"]
    assert await database.fetch("SELECT to_regclass('half') AS half") == [{"half": None}]


async def test_many_users_one_connection(open_database: Open, postgres_url: str) -> None:
    database = open_database(postgres_url)
    rows = await asyncio.gather(
        *(database.fetch("SELECT pg_backend_pid() AS pid") for _ in range(200))
    )
    assert len({row["pid"] for (row,) in rows}) == 1
    with psycopg.connect(postgres_url) as admin:
        sessions = admin.execute(
            "SELECT count(*), min(state) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'starforge-backlog'"
        ).fetchone()
    assert sessions == (1, "idle")


async def test_a_caller_that_gives_up_costs_nobody_the_connection(
    open_database: Open, postgres_url: str
) -> None:
    database = open_database(postgres_url)
    (before,) = await database.fetch("SELECT pg_backend_pid() AS pid")
    for query in ("SELECT pg_sleep(60)", "SELECT 1/0, pg_sleep(60)"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await database.fetch(query)
    assert database._connection.busy, "who gives up does not wait for the statement's end"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_cancel_backend(%s)", [before["pid"]])
    assert await database.fetch("SELECT pg_backend_pid() AS pid") == [before]


async def test_nobody_waits_for_a_turn_forever(postgres_url: str) -> None:
    database = Database(parse_url(postgres_url), pacing=Pacing(turn_within=timedelta(seconds=0.1)))
    (session,) = await database.fetch("SELECT pg_backend_pid() AS pid")
    slow = asyncio.create_task(database.fetch("SELECT pg_sleep(60)"))
    await until(lambda: database._connection.busy, "the other statement")
    with pytest.raises(DatabaseFault) as caught:
        await database.fetch("SELECT 1")
    assert caught.value.why is Why.TIMEOUT
    assert not slow.done()
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [session["pid"]])
    with pytest.raises(DatabaseFault):
        await slow
    await database.close()


async def test_update_url_is_for_the_same_server_only(
    open_database: Open, postgres_url: str
) -> None:
    database = open_database(postgres_url)
    with pytest.raises(ValueError, match="Database of its own"):
        database.update_url(parse_url("postgresql://app:p@elsewhere/db"))
    assert "postgres" in repr(database)
    assert "://" not in repr(database)
