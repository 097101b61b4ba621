"""Who shares a connection with whom, and when it is closed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from tests.databases.conftest import Role, sessions

from local.postgres import PostgresServer
from starforge_backlog.databases.connection import Pacing
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.snapshot import Known, Why

pytestmark = pytest.mark.postgres


async def test_a_hundred_policies_one_connection(role: Role, postgres_url: str) -> None:
    hub = DatabaseHub()
    spellings = (
        role.url,
        role.url.replace("postgresql://", "postgres+asyncpg://"),
        role.url + "\n",
    )
    databases = {hub.get(spellings[n % 3], owner=f"ns/{n}") for n in range(100)}
    assert len(databases) == 1
    readers = {hub.headroom(hub.get(role.url, owner=f"ns/{n}")) for n in range(100)}
    assert len(readers) == 1
    await asyncio.gather(*(database.fetch("SELECT 1") for database in databases))
    await sessions(postgres_url, role.name, 1)
    await hub.close()
    await sessions(postgres_url, role.name, 0)


async def test_a_password_rotates_in_place(
    role: Role, postgres_url: str, postgres_server: PostgresServer
) -> None:
    hub = DatabaseHub()
    database = hub.get(role.url, owner="ns/etl")
    await database.fetch("SELECT 1")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE \"{role.name}\" PASSWORD 'planted-2'")
        rotated = postgres_server.url(role.name, admin.info.dbname, "planted-2")
    assert hub.get(rotated, owner="ns/etl") is database
    await database.fetch("SELECT 1")
    await sessions(postgres_url, role.name, 1)
    await hub.close()


async def test_policies_that_rotate_one_after_the_other(
    role: Role, postgres_url: str, postgres_server: PostgresServer
) -> None:
    hub = DatabaseHub()
    old = hub.get(role.url, owner="a")
    assert hub.get(role.url, owner="b") is old
    await old.fetch("SELECT 1")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE \"{role.name}\" PASSWORD 'planted-2'")
        rotated = postgres_server.url(role.name, admin.info.dbname, "planted-2")
    new = hub.get(rotated, owner="a")
    assert new is not old
    assert hub.get(rotated, owner="b") is new
    await new.fetch("SELECT 1")
    await sessions(postgres_url, role.name, 1)
    await hub.close()


async def test_an_address_is_not_a_password(role: Role, postgres_server: PostgresServer) -> None:
    """A policy with a wrong Secret neither uses nor disturbs the connection of the others."""
    hub = DatabaseHub()
    good = hub.get(role.url, owner="ns/good")
    (before,) = await good.fetch("SELECT pg_backend_pid() AS pid")
    wrong = role.url.replace(role.password, "planted-wrong")
    for _ in range(3):
        with pytest.raises(DatabaseFault) as caught:
            await hub.get(wrong, owner="other/bad").fetch("SELECT 1")
        assert caught.value.why is Why.WRONG_PASSWORD
        (now,) = await hub.get(role.url, owner="ns/good").fetch("SELECT pg_backend_pid() AS pid")
        assert now == before
    await hub.close()


async def test_nobody_asks_any_more(role: Role, postgres_url: str) -> None:
    hub = DatabaseHub(idle_after=timedelta(seconds=0.05))
    await hub.get(role.url, owner="a").fetch("SELECT 1")
    await asyncio.sleep(0.1)
    hub.get(postgres_url, owner="b")
    await sessions(postgres_url, role.name, 0)
    await hub.close()


async def test_the_last_owner_leaves(role: Role, postgres_url: str) -> None:
    hub = DatabaseHub()
    await hub.get(role.url, owner="a").fetch("SELECT 1")
    hub.get(role.url, owner="b")
    hub.release("a")
    await asyncio.sleep(0.05)
    await sessions(postgres_url, role.name, 1)
    hub.release("b")
    await sessions(postgres_url, role.name, 0)
    await hub.close()


async def test_malformed(quick: Pacing) -> None:
    hub = DatabaseHub(pacing=quick)
    with pytest.raises(DatabaseFault) as caught:
        hub.get("postgres://app:pl@nted@db/x", owner="a")
    assert caught.value.why is Why.SECRET_MALFORMED
    assert "nted" not in caught.value.message
    await hub.close()


async def test_one_server_is_known_by_whatever_leads_to_it(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    hub = DatabaseHub()
    names = []
    for url in (
        postgres_url,
        postgres_url.replace("127.0.0.1", "localhost"),
        postgres_server.url(),
    ):
        reading = await hub.headroom(hub.get(url, owner=url)).read()
        assert isinstance(reading.connections, Known)
        names.append(reading.connections.value.server)
    assert len(set(names)) == 1, "the limit is the server's, so its databases share a ledger"
    await hub.close()
