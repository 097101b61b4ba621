"""A server of our own to mistreat, and databases that are closed after each test."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest

from local.postgres import PostgresServer
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.url import parse_url

SLOTS = 12  # max_connections of the fragile server; 3 of them for superusers

Open = Callable[[str], Database]


@pytest.fixture
def quick() -> Pacing:
    """Tries again soon; production waits seconds."""
    return Pacing(
        retry_first=timedelta(seconds=0.1), retry_most=timedelta(seconds=0.1), retry_jitter=0
    )


async def until(come: Callable[[], object], what: str, within: float = 60) -> None:
    """Without blocking the loop, and long enough for a busy machine."""
    try:
        async with asyncio.timeout(within):
            while not await asyncio.to_thread(come):  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {within:g} s: {what}")


def scalar(url: str, query: str, *params: object) -> object:
    """The only value that a superuser's query returns."""
    with psycopg.connect(url, autocommit=True) as admin:
        row = admin.execute(query.encode(), params).fetchone()
    return None if row is None else row[0]


async def sessions(url: str, role: str, number: int) -> None:
    """Until the role has so many: the server lets go of closed ones a moment later."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    await until(lambda: scalar(url, query, role) == number, f"{number} sessions of {role}")


@pytest.fixture
async def open_database(quick: Pacing) -> AsyncIterator[Open]:
    """Makes a `Database` for a URL and closes it in the end."""
    opened: list[Database] = []

    def make(url: str) -> Database:
        opened.append(Database(parse_url(url), pacing=quick))
        return opened[-1]

    yield make
    for database in opened:
        await database.close()


@dataclass(frozen=True)
class Role:
    """A role with a password nobody else has, and the URL to use it."""

    name: str
    password: str
    url: str


@pytest.fixture
def role(postgres_server: PostgresServer, postgres_url: str) -> Iterator[Role]:
    """A role that may connect and nothing more; its name needs quotes."""
    name, password = f"Ops {secrets.token_hex(4)}", f"planted-{secrets.token_hex(8)}"
    database = urlsplit(postgres_url).path[1:]
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'")
        yield Role(name, password, postgres_server.url(name, database, password))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,)
        )
        admin.execute(f'DROP OWNED BY "{name}"')
        admin.execute(f'DROP ROLE "{name}"')


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A small server that tests may fill, freeze, restart and demote."""
    server = PostgresServer.start(
        tmp_path_factory.mktemp("fragile"),
        max_connections=SLOTS,
        settings={"max_wal_senders": 0, "max_prepared_transactions": 2},
    )
    with contextlib.closing(server):
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute("CREATE ROLE app LOGIN PASSWORD 'planted-app'")
        yield server
