"""The console of a real PgBouncer: pools, waiters, and everything that can be wrong with it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.databases.conftest import scalar, until
from tests.patience import PATIENT

from local.pgbouncer import PgBouncer
from local.postgres import PostgresServer
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.pgbouncer import (
    Console,
    ConsoleHub,
    ConsoleLimits,
    workers_pools,
)
from starforge_backlog.databases.pgbouncer_pools import Workers
from starforge_backlog.snapshot import Known, Pooler, Unknown, Why

pytestmark = pytest.mark.pgbouncer

Start = Callable[..., PgBouncer]
LIMITS = ConsoleLimits(
    connect_within=PATIENT,
    answer_within=PATIENT,
    retry_after=timedelta(milliseconds=200),
    shared_for=timedelta(0),
)
# For consoles that do not answer: production's.
SHORT = replace(LIMITS, connect_within=timedelta(seconds=2), answer_within=timedelta(seconds=1))
SIZE, RESERVE, CLIENTS = 3, 2, 40


@dataclass(frozen=True)
class Fleet:
    """Workers' role and database behind a pooler."""

    pooler: PgBouncer
    server: PostgresServer
    role: str
    database: str
    password: str

    @property
    def workers(self) -> Workers:
        return Workers(self.role, self.database)

    async def works(self, number: int) -> None:
        """Until so many statements of theirs run."""
        running = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'active'"
        url = self.server.url()
        await until(lambda: scalar(url, running, self.role) == number, f"{number} statements")

    @asynccontextmanager
    async def clients(self, number: int, *, busy: float = 0) -> AsyncIterator[None]:
        """Clients of the pooler, each busy with one statement for so many seconds."""
        url = self.pooler.url(self.role, self.database, self.password)
        opened = [
            await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None)
            for _ in range(number)
        ]
        sleep = f"SELECT pg_sleep({busy})".encode()
        work = [asyncio.create_task(one.execute(sleep)) for one in opened] if busy else []
        try:
            yield
        finally:
            for one in opened:
                await one.close()
            await asyncio.gather(*work, return_exceptions=True)


@pytest.fixture
def database(postgres_url: str) -> str:
    return urlsplit(postgres_url).path.lstrip("/")


@pytest.fixture
def role(postgres_server: PostgresServer, database: str) -> Iterator[tuple[str, str]]:
    name, password = f"worker_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'".encode())
    yield name, password
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,)
        )
        admin.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def fleet(
    start_pgbouncer: Start,
    postgres_server: PostgresServer,
    database: str,
    role: tuple[str, str],
) -> Fleet:
    pooler = start_pgbouncer(
        default_pool_size=SIZE,
        reserve_pool_size=RESERVE,
        settings={"max_client_conn": CLIENTS, "reserve_pool_timeout": 60},
    )
    return Fleet(pooler, postgres_server, role[0], database, role[1])


@pytest.fixture
async def hub() -> AsyncIterator[ConsoleHub]:
    made = ConsoleHub(limits=LIMITS)
    yield made
    await made.close()


async def pools(console: Console, workers: Workers | None, replicas: int = 1) -> Pooler:
    found = workers_pools(await console.sample(), workers, replicas)
    assert isinstance(found, Known), found
    return found.value


async def refused(hub: ConsoleHub, url: str) -> Unknown:
    found = await hub.get(url, owner="ns/a").sample()
    assert isinstance(found, Unknown)
    assert found.message.startswith("database.pgbouncer: ")
    return found


async def test_the_pools_of_the_workers(fleet: Fleet, hub: ConsoleHub) -> None:
    console = hub.get(fleet.pooler.console_url(), owner="ns/a")
    async with fleet.clients(2, busy=60):
        await fleet.works(2)
        found = await pools(console, fleet.workers)
    assert found == Pooler(
        known=True,
        capacity=SIZE + RESERVE,
        full=False,
        clients_waiting=0,
        longest_wait=timedelta(0),
        waited_before=False,
        max_client_connections=CLIENTS,
        other_clients=1,  # the console itself
    )


async def test_clients_that_wait_twice_in_a_row(fleet: Fleet, hub: ConsoleHub) -> None:
    console = hub.get(fleet.pooler.console_url(), owner="ns/a")
    async with fleet.clients(SIZE + 4, busy=60):
        await fleet.works(SIZE)
        await until(lambda: sum(row["cl_waiting"] for row in fleet.pooler.show("POOLS")) == 4, "4")
        await asyncio.sleep(0.6)
        once = await pools(console, fleet.workers)
        again = await pools(console, fleet.workers)
    assert once.full
    assert once.clients_waiting == 4
    assert once.longest_wait > timedelta(seconds=0.5)
    assert (once.waited_before, again.waited_before) == (False, True)


async def test_nobody_came_yet(fleet: Fleet, hub: ConsoleHub) -> None:
    """The entry `*` is not shown before its first client: its defaults stand for it."""
    found = await pools(hub.get(fleet.pooler.console_url(), owner="ns/a"), fleet.workers)
    assert not found.known
    assert (found.capacity, found.full) == (SIZE + RESERVE, False)


async def test_others_are_clients_too(fleet: Fleet, hub: ConsoleHub) -> None:
    console = hub.get(fleet.pooler.console_url(), owner="ns/a")
    async with fleet.clients(3):
        found = await pools(console, Workers("somebody_else", fleet.database))
    assert found.other_clients == 4  # and the console


@pytest.mark.parametrize(
    ("entry", "settings", "replicas", "capacity"),
    [
        ("pool_size=7", {}, 1, 7 + RESERVE),
        ("pool_size=7 reserve_pool=0", {}, 1, 7),
        ("pool_size=7 max_db_connections=4", {}, 1, 4),
        ("pool_size=7", {"max_user_connections": 5}, 1, 5),
        ("pool_size=7", {"max_db_connections": 6}, 1, 6),
        ("pool_size=7", {}, 3, 3 * (7 + RESERVE)),
    ],
)
async def test_what_a_pool_may_open(
    start_pgbouncer: Start,
    database: str,
    hub: ConsoleHub,
    entry: str,
    settings: dict[str, int],
    replicas: int,
    capacity: int,
) -> None:
    pooler = start_pgbouncer(
        default_pool_size=SIZE,
        reserve_pool_size=RESERVE,
        databases={"alias": f"dbname={database} {entry}"},
        settings=settings,
    )
    console = hub.get(pooler.console_url(), owner="ns/a")
    found = await pools(console, Workers("worker", database), replicas)
    assert (found.known, found.capacity) == (True, capacity)


async def test_several_ways_to_one_database(
    start_pgbouncer: Start, database: str, hub: ConsoleHub
) -> None:
    pooler = start_pgbouncer(
        databases={
            "one": f"dbname={database} pool_size=2",
            "two": f"dbname={database} pool_size=3",
            "not_theirs": f"dbname={database} pool_size=50 user=somebody_else",
            "elsewhere": "dbname=postgres pool_size=50",
        },
    )
    console = hub.get(pooler.console_url(), owner="ns/a")
    assert (await pools(console, Workers("worker", database))).capacity == 5
    # Without a URL it is not known which database is theirs.
    assert (await pools(console, Workers("worker", None))).capacity == 55


async def test_a_login_that_may_not_read_the_console(
    start_pgbouncer: Start, hub: ConsoleHub
) -> None:
    pooler = start_pgbouncer(
        stats_users={"nosy": "n0sy"}, settings={"stats_users": "pgbouncer_stats"}
    )
    denied = await refused(hub, pooler.console_url("nosy", "n0sy"))
    assert (denied.why, "stats_users" in denied.message) == (Why.NO_PERMISSION, True)
    wrong = await refused(hub, pooler.console_url(password="n0pe"))
    assert wrong.why is Why.WRONG_PASSWORD
    assert "n0pe" not in wrong.message


async def test_who_only_the_database_knows(fleet: Fleet) -> None:
    """The console cannot ask the database (auth_query) and does not say so either."""
    hub = ConsoleHub(limits=SHORT)
    silent = await refused(hub, fleet.pooler.console_url(fleet.role, fleet.password))
    assert (silent.why, "stats_users" in silent.message) == (Why.UNREACHABLE, True)


async def test_what_is_no_console(
    fleet: Fleet, hub: ConsoleHub, postgres_server: PostgresServer
) -> None:
    past = await refused(hub, fleet.pooler.url(database=fleet.database))
    assert past.why is Why.BAD_SHAPE
    server = await refused(hub, postgres_server.url())
    assert (server.why, "pgbouncer" in server.message) == (Why.BAD_SHAPE, True)
    options = f"{fleet.pooler.console_url()}?options=-c%20statement_timeout%3D1s"
    parameter = await refused(hub, options)
    assert (parameter.why, "options" in parameter.message) == (Why.SECRET_MALFORMED, True)
    with pytest.raises(DatabaseFault):
        hub.get("http://pgbouncer", owner="ns/a")


async def test_a_pooler_that_comes_back(fleet: Fleet, hub: ConsoleHub) -> None:
    console = hub.get(fleet.pooler.console_url(), owner="ns/a")
    await pools(console, fleet.workers)
    fleet.pooler.stop()
    for _ in range(2):  # the session that was lost, then nobody who answers
        gone = await console.sample()
        assert isinstance(gone, Unknown)
        assert gone.why is Why.UNREACHABLE
        await asyncio.sleep(0.25)
    fleet.pooler.restart()
    await asyncio.sleep(0.25)
    await pools(console, fleet.workers)


async def test_a_pooler_that_hangs(fleet: Fleet, hub: ConsoleHub) -> None:
    console = hub.get(fleet.pooler.console_url(), owner="ns/a")
    await pools(console, fleet.workers)
    console._limits = replace(SHORT, retry_after=PATIENT)
    fleet.pooler.freeze()
    try:
        stuck = await asyncio.gather(*(console.sample() for _ in range(20)))
        assert isinstance(stuck[0], Unknown)
        assert stuck[0].why is Why.TIMEOUT
        assert all(one is stuck[0] for one in stuck), "one question for all"
        assert await console.sample() is stuck[0], "nobody asks again at once"
    finally:
        fleet.pooler.thaw()
    console._limits = LIMITS
    console._shared.expire()
    await pools(console, fleet.workers)


async def test_one_connection_for_all_policies(fleet: Fleet, hub: ConsoleHub) -> None:
    url = fleet.pooler.console_url()
    console = hub.get(url, owner="ns/a")
    assert hub.get(url, owner="ns/b") is console
    await asyncio.gather(*(console.sample() for _ in range(20)))
    await console.sample()
    shown = fleet.pooler.show("CLIENTS")
    assert len([row for row in shown if row["user"] == urlsplit(url).username]) == 1
    hub.release("ns/a")
    hub.release("ns/b")
    await hub.close()


async def test_without_a_role_nothing_is_theirs(fleet: Fleet, hub: ConsoleHub) -> None:
    samples = await hub.get(fleet.pooler.console_url(), owner="ns/a").sample()
    found = workers_pools(samples, None, 1)
    assert isinstance(found, Unknown)
    assert "workerRole" in found.message
