"""Connections, health and blockers of a real server, also by a role that sees no sessions."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from tests.databases.conftest import Open, Role, scalar, until
from tests.patience import PATIENT
from tests.simulator.given import connections as given

from local.postgres import PostgresServer
from starforge_backlog.api.database import Database as PolicyDatabase
from starforge_backlog.api.database import Pressure
from starforge_backlog.clock import utc_now
from starforge_backlog.databases.connection import READ_LIMIT, Database, Pacing
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.headroom import HeadroomReader
from starforge_backlog.databases.session import Rows
from starforge_backlog.databases.sql import Params, Query
from starforge_backlog.databases.url import parse_url
from starforge_backlog.decide.assess.pressure import pressure
from starforge_backlog.snapshot import (
    Connections,
    DatabaseHealth,
    DatabaseReading,
    Known,
    Unknown,
    Why,
)

pytestmark = pytest.mark.postgres


def connections(reading: DatabaseReading) -> Connections:
    assert isinstance(reading.connections, Known), reading
    return reading.connections.value


def health(reading: DatabaseReading) -> DatabaseHealth:
    assert isinstance(reading.health, Known), reading
    return reading.health.value


async def fresh(reader: HeadroomReader) -> DatabaseReading:
    """A reading taken after now; on a busy machine a rest may come before it."""
    now = utc_now()
    while True:
        reading = await reader.read()
        if reading.connections.at > now:
            return reading
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def held(url: str, count: int) -> Iterator[list[psycopg.Connection]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(psycopg.connect(url)) for _ in range(count)]


def sessions_of(role: str, admin: psycopg.Connection) -> int:
    row = admin.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE usename = %s AND backend_type = 'client backend'",
        (role,),
    ).fetchone()
    return -1 if row is None else int(row[0])


def grant(role: Role, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f'GRANT pg_read_all_stats TO "{role.name}"')


class Counting(Database):
    """Counts what is sent."""

    sent = 0

    async def fetch(
        self,
        query: Query,
        params: Params = (),
        *,
        timeout: timedelta = PATIENT,  # noqa: ASYNC109 - as in Database
        by_index: bool = False,
    ) -> Rows:
        self.sent += 1
        await asyncio.sleep(0.001)  # time enough for others to ask the same
        return await super().fetch(query, params, timeout=timeout)


async def test_connections_of_all_databases_by_role(
    open_database: Open, role: Role, postgres_url: str, postgres_server: PostgresServer
) -> None:
    grant(role, postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'ALTER ROLE "{role.name}" CONNECTION LIMIT 7')
        admin.execute(f'ALTER DATABASE "{admin.info.dbname}" CONNECTION LIMIT 50')
    reader = HeadroomReader(open_database(role.url), utc_now)
    elsewhere = postgres_server.url()
    begin = utc_now()
    with held(elsewhere, 1) as (admin,):
        admin.autocommit = True
        # Sessions that were closed before are counted until the server has let go of them.
        await until(lambda: sessions_of("postgres", admin) == 2, "this one and that of `role`")
        before = connections(await reader.read())
        with held(role.url, 3), held(elsewhere, 2):
            during = connections(await fresh(reader))
        await until(lambda: sessions_of(role.name, admin) == 1, "nobody but the reader")
        after = connections(await fresh(reader))
    assert (during.max_connections, during.superuser_reserved) == (100, 3)
    assert (during.reserved, during.provider_reserved) == (0, 0)
    assert (during.role_limits[role.name], during.database_limit) == (7, 50)
    assert (during.own_role, during.own, during.read_only) == (role.name, 1, False)
    assert during.by_role[role.name] - before.by_role[role.name] == 3
    assert during.by_role["postgres"] - before.by_role.get("postgres", 0) == 2
    assert during.clients == sum(during.by_role.values())
    assert after.by_role[role.name] == 1
    assert after.peak_by_role[role.name] == 4
    assert timedelta(seconds=2) < after.window < utc_now() - begin


async def test_no_limits_are_none(open_database: Open, postgres_url: str) -> None:
    seen = connections(await HeadroomReader(open_database(postgres_url), utc_now).read())
    assert seen.database_limit is None
    assert "postgres" not in seen.role_limits


async def test_a_role_that_sees_no_sessions_knows_nothing_and_prints_the_fix(
    open_database: Open, role: Role, postgres_url: str
) -> None:
    reader = HeadroomReader(open_database(role.url), utc_now)
    with held(postgres_url, 1) as (admin,):
        reading = await reader.read()
        for hidden in (reading.connections, reading.health):
            assert isinstance(hidden, Unknown)
            assert hidden.why is Why.MISSING_ROLE
        assert isinstance(reading.connections, Unknown)
        admin.execute(reading.connections.message.split("database: ")[1].encode())
        admin.commit()
        assert connections(await fresh(reader)).by_role["postgres"] >= 1


async def test_without_the_right_to_read_the_control_file(
    open_database: Open, role: Role, postgres_url: str, postgres_server: PostgresServer
) -> None:
    grant(role, postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    seen = connections(await HeadroomReader(open_database(role.url), utc_now).read())
    assert seen.server == f"127.0.0.1:{postgres_server.port}"


async def test_blockers_without_their_query(open_database: Open, postgres_url: str) -> None:
    reader = HeadroomReader(open_database(postgres_url), utc_now)
    with (
        held(postgres_url + "?application_name=nightly", 1) as (blocker,),
        held(postgres_url, 3) as victims,
    ):
        blocker.execute("CREATE TABLE jobs (id int)")
        blocker.commit()
        begin = utc_now()
        blocker.execute("LOCK TABLE jobs /* planted */")
        loop = asyncio.get_running_loop()
        waiting = [
            loop.run_in_executor(None, victim.execute, b"SELECT 'planted', * FROM jobs")
            for victim in victims
        ]
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await until(lambda: scalar(postgres_url, blocked) == 3, "three that wait")
        await asyncio.sleep(1.2)
        seen = health(await reader.read())
        longest = utc_now() - begin
        pid = blocker.info.backend_pid
        blocker.rollback()
        await asyncio.gather(*waiting)
    assert seen.lock_waiters == 3
    session = rf"pid {pid} \(nightly, idle in transaction for (\d+)s\)"
    fix = re.escape(f"; to end it: SELECT pg_terminate_backend({pid})")
    found = re.fullmatch(session + fix, seen.blocker)
    assert found, seen.blocker
    assert 1 <= int(found[1]) <= longest.total_seconds()
    assert timedelta(seconds=1) < seen.longest_transaction < longest


async def test_an_open_transaction_is_seen(open_database: Open, postgres_url: str) -> None:
    reader = HeadroomReader(open_database(postgres_url), utc_now)
    with held(postgres_url, 2) as (pinning, writing):
        pinning.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        pinning.execute("SELECT 1")
        for _ in range(20):
            writing.execute("SELECT pg_current_xact_id()")
            writing.commit()
        seen = health(await reader.read())
    assert seen.longest_transaction > timedelta(0)
    assert (seen.lock_waiters, seen.blocker) == (0, "")


async def test_a_hundred_policies_one_set_of_statements(postgres_url: str, quick: Pacing) -> None:
    database = Counting(parse_url(postgres_url), pacing=quick)
    reader = HeadroomReader(database, utc_now)
    readings = await asyncio.gather(*(reader.read() for _ in range(100)))
    assert database.sent == 3  # headroom, the server's identity once, health
    assert len({id(reading) for reading in readings}) == 1
    await reader.read(timedelta(hours=1))
    assert database.sent == 3
    await fresh(reader)
    assert database.sent == 5
    await asyncio.gather(*(reader.read(timedelta(hours=1)) for _ in range(100)))
    assert database.sent == 5
    await database.close()


async def test_one_impatient_caller_does_not_cost_the_others_their_reading(
    postgres_url: str, quick: Pacing
) -> None:
    database = Counting(parse_url(postgres_url), pacing=quick)
    reader = HeadroomReader(database, utc_now)
    impatient = asyncio.create_task(reader.read())
    patient = asyncio.create_task(reader.read())
    await asyncio.sleep(0.015)
    impatient.cancel()
    assert connections(await patient).max_connections == 100
    assert database.sent == 3
    await database.close()


async def test_a_lock_is_not_waited_for(postgres_url: str, quick: Pacing) -> None:
    database = Counting(parse_url(postgres_url), pacing=quick)
    reader = HeadroomReader(database, utc_now)
    begin = utc_now()
    await reader.read()
    assert 0 < reader._work < (utc_now() - begin).total_seconds()
    reader._work = 0.0
    with held(postgres_url, 1) as (migration,):
        migration.execute("LOCK TABLE pg_database IN ACCESS EXCLUSIVE MODE")
        busy = await fresh(reader)
    assert isinstance(busy.connections, Unknown)
    assert busy.connections.why is Why.LOCK_BUSY
    assert reader._work == 0.0  # refused at once, so no work
    await database.close()


async def test_a_statement_at_its_limit_is_work(postgres_url: str, quick: Pacing) -> None:
    class Tired(Database):
        async def fetch(
            self,
            query: Query,
            params: Params = (),
            *,
            timeout: timedelta = READ_LIMIT,  # noqa: ASYNC109 - as in Database
            by_index: bool = False,
        ) -> Rows:
            return await super().fetch("SELECT pg_sleep(5)", timeout=timedelta(seconds=0.05))

    database = Tired(parse_url(postgres_url), pacing=quick)
    reader = HeadroomReader(database, utc_now)
    first = await reader.read()
    assert isinstance(first.connections, Unknown)
    assert first.connections.why is Why.TIMEOUT
    await asyncio.sleep(1.05)
    assert await reader.read() is first  # 15 s of rest, not 1
    await database.close()


async def test_faults_are_readings(open_database: Open, quick: Pacing) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    reader = HeadroomReader(open_database("postgresql://app:planted@127.0.0.1:1/db"), lambda: at)
    reading = await reader.read()
    assert isinstance(reading.connections, Unknown)
    assert reading.connections == reading.health
    assert (reading.connections.why, reading.connections.at) == (Why.UNREACHABLE, at)


async def test_a_standby_says_so(open_database: Open, fragile: PostgresServer) -> None:
    fragile.stop()
    signal = Path(fragile.data) / "standby.signal"
    signal.touch()
    try:
        fragile.restart()
        reading = await HeadroomReader(open_database(fragile.url()), utc_now).read()
        assert connections(reading).read_only
        assert health(reading).lock_waiters == 0
    finally:
        fragile.stop()
        signal.unlink()
        fragile.restart()


async def test_the_servers_own_name_for_those_who_read_its_connections_elsewhere(
    open_database: Open, postgres_url: str
) -> None:
    database = open_database(postgres_url)
    reader = HeadroomReader(database, utc_now)
    name = await reader.identity()
    assert name == connections(await fresh(HeadroomReader(database, utc_now))).server
    await database.close()
    assert await reader.identity() == name, "asked a moment ago"


async def test_a_prepared_transaction_that_nobody_ends_is_the_longest(
    open_database: Open, fragile: PostgresServer
) -> None:
    """It has no session, and keeps VACUUM from cleaning all the same."""
    with psycopg.connect(fragile.url(), autocommit=True) as admin:
        admin.execute("BEGIN")
        admin.execute("CREATE TABLE left_behind (id int)")
        admin.execute("PREPARE TRANSACTION 'order''s 42'")
        try:
            await asyncio.sleep(0.05)
            found = health(await HeadroomReader(open_database(fragile.url()), utc_now).read())
        finally:
            admin.execute("ROLLBACK PREPARED 'order''s 42'")
    assert found.longest_transaction >= timedelta(seconds=0.05)
    assert "prepared transaction 'order''s 42' of database postgres" in found.longest_is
    assert found.longest_is in pressure_of(found)[0]


def pressure_of(found: DatabaseHealth) -> tuple[str, ...]:
    """The signs, with a limit that the transaction is beyond."""
    limits = Pressure(longest_transaction=timedelta(milliseconds=1))
    return pressure(PolicyDatabase(pressure=limits), given(), found)


async def test_the_roles_that_can_log_in_are_known(
    open_database: Open, role: Role, postgres_url: str
) -> None:
    grant(role, postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS sleeper")
        admin.execute("CREATE ROLE sleeper NOLOGIN")
        seen = connections(await HeadroomReader(open_database(role.url), utc_now).read())
        admin.execute("DROP ROLE sleeper")
    assert seen.roles is not None
    assert role.name in seen.roles
    assert "sleeper" not in seen.roles
    assert seen.peak_until.keys() == seen.by_role.keys()


async def test_a_role_at_its_connection_limit_is_distinguished_from_a_full_server(
    open_database: Open, role: Role, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f'ALTER ROLE "{role.name}" CONNECTION LIMIT 0')
        with pytest.raises(DatabaseFault) as caught:
            await open_database(role.url).fetch("SELECT 1")
        admin.execute(f'ALTER ROLE "{role.name}" CONNECTION LIMIT -1')
    assert caught.value.why is Why.ROLE_LIMIT
    assert "ALTER ROLE" in caught.value.message
    assert "max_connections" not in caught.value.message
