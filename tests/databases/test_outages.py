"""Full, restarted, frozen, killed, demoted, with a new password: distinguished, and recovered."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from tests.databases.conftest import SLOTS, Open, Role, scalar, until
from tests.patience import PATIENT

from local.postgres import PostgresServer
from local.waiting import eventually
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.url import parse_url
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.postgres

LIMIT = timedelta(seconds=0.8)  # of a statement that nobody answers, as in production


async def fault_of(
    database: Database, statement: str = "SELECT 1", limit: timedelta = PATIENT
) -> DatabaseFault:
    with pytest.raises(DatabaseFault) as caught:
        await database.fetch(statement, timeout=limit)
    assert "planted" not in caught.value.message
    return caught.value


async def recovered(database: Database, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            await database.fetch("SELECT 1")
        except DatabaseFault:
            assert time.monotonic() < deadline, "the database did not come back"
            await asyncio.sleep(0.05)
        else:
            return


def app_url(server: PostgresServer) -> str:
    return server.url("app", "postgres", "planted-app")


@contextlib.contextmanager
def taken(url: str, number: int) -> Iterator[None]:
    """Take so many slots, which are all that are left: one more is refused."""

    def take() -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            stack.enter_context(contextlib.closing(psycopg.connect(url)))
            return True
        return False

    with contextlib.ExitStack() as stack:
        # Those that were closed a moment ago are not free yet.
        for count in range(number):
            eventually(take, within=60, what=f"slot {count + 1} of {number}", every=0.02)
        assert not take()
        yield


async def test_full_for_roles_then_for_all(open_database: Open, fragile: PostgresServer) -> None:
    ours, late = open_database(app_url(fragile)), open_database(app_url(fragile))
    (before,) = await ours.fetch("SELECT pg_backend_pid() AS pid")
    with taken(app_url(fragile), SLOTS - 3 - 1):
        assert (await fault_of(late)).why is Why.DATABASE_FULL  # "remaining … reserved"
        with taken(fragile.url(), 3):
            await asyncio.sleep(0.15)
            assert (await fault_of(late)).why is Why.DATABASE_FULL  # "too many clients already"
            # The connection that was there keeps working, through a fault of a statement as well.
            with pytest.raises(DatabaseFault):
                await ours.fetch("SELECT 1/0")
            (now,) = await ours.fetch("SELECT pg_backend_pid() AS pid")
            assert now == before
    await recovered(late)


async def test_full_while_the_password_rotates(
    open_database: Open, fragile: PostgresServer
) -> None:
    ours = open_database(app_url(fragile))
    (before,) = await ours.fetch("SELECT pg_backend_pid() AS pid")
    with psycopg.connect(fragile.url(), autocommit=True) as admin:
        with taken(app_url(fragile), SLOTS - 3 - 2):
            admin.execute("ALTER ROLE app PASSWORD 'planted-new'")
            ours.update_url(parse_url(fragile.url("app", "postgres", "planted-new")))
            assert await ours.fetch("SELECT pg_backend_pid() AS pid") == [before]
        async with asyncio.timeout(60):  # until a slot is free, and the next attempt is due
            while await ours.fetch("SELECT pg_backend_pid() AS pid") == [before]:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.05)
        admin.execute("ALTER ROLE app PASSWORD 'planted-app'")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_restart(open_database: Open, fragile: PostgresServer, mode: str) -> None:
    database = open_database(fragile.url())
    await database.fetch("SELECT 1")
    fragile.stop("immediate" if mode == "immediate" else "fast")
    assert (await fault_of(database)).why is Why.UNREACHABLE
    await asyncio.sleep(0.15)
    assert (await fault_of(database)).why is Why.UNREACHABLE
    fragile.restart()
    await recovered(database)


async def test_a_frozen_server_holds_nobody(fragile: PostgresServer) -> None:
    pacing = Pacing(
        connect_within=timedelta(seconds=1),
        answer_grace=timedelta(seconds=0.3),
        retry_first=timedelta(seconds=0.1),
        retry_most=timedelta(seconds=0.1),
    )
    database = Database(parse_url(fragile.url()), pacing=pacing)
    await recovered(database)
    fragile.freeze()
    try:
        begin = time.monotonic()
        readers = await asyncio.gather(
            *(database.fetch("SELECT 1", timeout=LIMIT) for _ in range(50)), return_exceptions=True
        )
        # One statement's limit and grace, then one attempt to connect (libpq: 2 s at least), and
        # some for a busy machine; 50 of either are 55 s.
        assert time.monotonic() - begin < 25
        assert all(isinstance(reader, DatabaseFault) for reader in readers)
        await asyncio.sleep(0.15)
        assert (await fault_of(database, limit=LIMIT)).why is Why.UNREACHABLE
        with pytest.raises(DatabaseFault):
            await database.execute_write("SELECT 1", timeout=LIMIT)
    finally:
        fragile.thaw()
    await recovered(database)
    await database.close()


async def test_close_does_not_hang_on_a_frozen_server(
    open_database: Open, fragile: PostgresServer
) -> None:
    database = open_database(fragile.url())
    await database.fetch("SELECT 1")
    fragile.freeze()
    try:
        async with asyncio.timeout(30):
            await database.close()
    finally:
        fragile.thaw()


async def test_terminated_by_an_admin(open_database: Open, fragile: PostgresServer) -> None:
    database = open_database(fragile.url())
    (before,) = await database.fetch("SELECT pg_backend_pid() AS pid")
    with psycopg.connect(fragile.url(), autocommit=True) as admin:
        asked = asyncio.create_task(fault_of(database, "SELECT pg_sleep(60)"))
        sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        await until(lambda: scalar(fragile.url(), sleeps) == 1, "the statement")
        admin.execute("SELECT pg_terminate_backend(%s, 30000)", (before["pid"],))
        fault = await asked
    assert (fault.why, "lost" in fault.message) == (Why.UNREACHABLE, True)
    await recovered(database)


async def test_no_stampede(fragile: PostgresServer) -> None:
    """However often it is asked, a `Database` connects once per delay."""

    def attempts() -> int:
        return fragile.log.read_text().count("password authentication failed") - before

    pacing = Pacing(retry_first=timedelta(seconds=0.5), retry_most=timedelta(seconds=0.5))
    database = Database(parse_url(fragile.url(password="planted-wrong")), pacing=pacing)
    before = 0
    before = attempts()
    asked, begin = 0, time.monotonic()
    async with asyncio.timeout(60):
        while attempts() < 3:
            assert (await fault_of(database)).why is Why.WRONG_PASSWORD
            asked += 1
            await asyncio.sleep(0.01)
    assert attempts() == 3
    assert time.monotonic() - begin >= 2 * 0.5
    assert asked > 3


async def test_production_reconnects_no_faster_than_every_five_seconds() -> None:
    pacing = Pacing()
    most = pacing.retry_most.total_seconds() * (1 + pacing.retry_jitter)
    for failures in range(6):
        database = Database(parse_url("postgresql://app:p@127.0.0.1:1/db"), pacing=pacing)
        database._connection.backoff.failures = failures
        before = time.monotonic()
        await fault_of(database)
        after = time.monotonic()  # the attempt failed between the two
        assert before + 5 <= database._connection.backoff.retry_at <= after + most


async def test_an_outage_of_a_week_is_as_good_as_one_of_an_hour() -> None:
    pacing = Pacing(retry_first=timedelta(), retry_most=timedelta(), retry_jitter=0)
    database = Database(parse_url("postgresql://app:p@127.0.0.1:1/db"), pacing=pacing)
    for _ in range(1100):  # 2.0 ** 1024 is more than a float can hold
        assert (await fault_of(database)).why is Why.UNREACHABLE


async def test_a_rotated_password(
    open_database: Open, role: Role, postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = open_database(role.url)
    await database.fetch("SELECT 1")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f"ALTER ROLE \"{role.name}\" PASSWORD 'planted-2'")
        # The open session still works; only a lost one meets the new password.
        await database.fetch("SELECT 1")
        admin.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE usename = %s",
            (role.name,),
        )
        await fault_of(database)
        await asyncio.sleep(0.15)
        assert (await fault_of(database)).why is Why.WRONG_PASSWORD
        # No waiting for the next attempt: the new URL is tried at once.
        database.update_url(parse_url(postgres_server.url(role.name, name, "planted-2")))
        (row,) = await database.fetch(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE usename = session_user"
        )
        assert row["n"] == 1
        # A wrong one in the Secret is reported, although the session of the right one would work.
        database.update_url(parse_url(postgres_server.url(role.name, name, "planted-3")))
        assert (await fault_of(database)).why is Why.WRONG_PASSWORD


async def test_default_read_only(open_database: Open, postgres_url: str) -> None:
    """The switch that people and failover tools use is not overruled."""
    database = open_database(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE TABLE jobs (id int)")
        admin.execute(
            f'ALTER DATABASE "{admin.info.dbname}" SET default_transaction_read_only = on'
        )
    assert await database.fetch("SELECT * FROM jobs") == []
    with pytest.raises(DatabaseFault) as caught:
        await database.execute_write("INSERT INTO jobs VALUES (1)")
    assert caught.value.why is Why.READ_ONLY


async def test_a_standby(open_database: Open, fragile: PostgresServer) -> None:
    """A failover to a read-only server, and back."""
    database = open_database(fragile.url())
    await database.fetch("SELECT 1")
    fragile.stop()
    signal = Path(fragile.data) / "standby.signal"
    signal.touch()
    try:
        fragile.restart()
        await recovered(database)
        with pytest.raises(DatabaseFault) as caught:
            await database.execute_write("CREATE TABLE jobs ()")
        assert caught.value.why is Why.READ_ONLY
        url = fragile.url() + "?target_session_attrs=read-write"
        assert (await fault_of(open_database(url))).why is Why.READ_ONLY
    finally:
        fragile.stop()
        signal.unlink()
        fragile.restart()
    await recovered(database)
    assert await database.execute_write("CREATE TABLE jobs ()") == []


async def test_a_session_that_ended_between_two_statements_costs_none_of_them(
    open_database: Open, fragile: PostgresServer
) -> None:
    """idle_session_timeout, a PgBouncer's client_idle_timeout, or a load balancer's, where passes
    are further apart."""
    database = open_database(app_url(fragile))
    (before,) = await database.fetch("SELECT pg_backend_pid() AS pid")
    with psycopg.connect(fragile.url(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 30000)", [before["pid"]])
        await asyncio.sleep(0.3)
    (after,) = await database.fetch("SELECT pg_backend_pid() AS pid")
    assert after != before
