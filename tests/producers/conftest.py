"""A flag table, hands to write it, and operators that pause it."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.node.bull import Bull
from tests.node.handles import BullQueue
from tests.producers import places
from tests.producers.brakes import NEW, NOWHERE, Brake
from tests.producers.table import Hands, Operators, own_database
from tests.queues.schemas import MODEL

from local.postgres import PostgresServer
from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.policy import FeatureFlag
from starforge_backlog.clock import utc_now
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.url import parse_url
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.redis.hub import RedisHub

# As published by StarForge, with the runbook's row.
SCHEMA = """
DROP SCHEMA IF EXISTS public, app CASCADE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO public;
CREATE TABLE feature_flags (
    id serial PRIMARY KEY, name text UNIQUE NOT NULL, enabled boolean NOT NULL DEFAULT false,
    rollout_percentage int NOT NULL DEFAULT 0, data jsonb DEFAULT '{}',
    created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
INSERT INTO feature_flags (name) VALUES ('ingest_control')
"""
RUNBOOK = (
    "UPDATE feature_flags SET data = jsonb_set(data, '{ingest_paused}', 'true'::jsonb)"
    " WHERE name = 'ingest_control'"
)


@dataclass(frozen=True)
class Human:
    """Another client with psql."""

    session: psycopg.Connection

    def run(self, statement: str) -> None:
        self.session.execute(statement.encode())

    def write(self, data: object) -> None:
        self.session.execute(
            "UPDATE feature_flags SET data = %s WHERE name = 'ingest_control'", (json.dumps(data),)
        )

    def read(self) -> Any:
        row = self.session.execute(
            "SELECT data FROM feature_flags WHERE name = 'ingest_control'"
        ).fetchone()
        assert row is not None
        return row[0]

    def version(self) -> str:
        row = self.session.execute(
            "SELECT xmin::text FROM feature_flags WHERE name = 'ingest_control'"
        ).fetchone()
        assert row is not None
        return str(row[0])


@pytest.fixture(scope="module")
def flag_url(postgres_server: PostgresServer) -> Iterator[str]:
    """One database for all tests of a module: making one costs more than most of the tests."""
    name = f"flags_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield postgres_server.url(database=name)
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def human(flag_url: str) -> Iterator[Human]:
    """Autocommit, like psql; the table is made by them, again for each test."""
    with psycopg.connect(flag_url, autocommit=True) as session:
        session.execute("SET default_transaction_read_only = off")
        session.execute(f'ALTER DATABASE "{session.info.dbname}" RESET ALL'.encode())
        session.execute(SCHEMA.encode())
        yield Human(session)


Operator = Callable[..., FeatureFlagProducer]


@pytest.fixture
async def operator(flag_url: str) -> AsyncIterator[Operator]:
    """Each call is an operator of its own, with a connection of its own."""
    opened: list[Database] = []
    pacing = Pacing(
        retry_first=timedelta(),
        retry_most=timedelta(),
        retry_jitter=0,
    )

    def make(*, url: str = flag_url, **flag: Any) -> FeatureFlagProducer:
        opened.append(Database(parse_url(url), pacing=pacing))
        return FeatureFlagProducer(opened[-1], FeatureFlag(**flag), utc_now)

    yield make
    for database in opened:
        await database.close()


@pytest.fixture(scope="module")
def rows_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database for the job tables of one module."""
    with own_database(postgres_server) as own:
        yield own


@pytest.fixture
async def operators(rows_url: str) -> AsyncIterator[Operators]:
    """Policies that pause rows there."""
    made = Operators(rows_url)
    yield made
    await made.close()


@pytest.fixture
async def make() -> AsyncIterator[places.Make]:
    made: list[places.Operator] = []

    def operator(url: str, way: str, **place: Any) -> places.Operator:
        made.append(places.Operator(url, way, place))
        return made[-1]

    yield operator
    for one in made:
        await one.redis.close()
        await one.databases.close()


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresServer) -> Iterator[tuple[str, str]]:
    with own_database(postgres_server) as one, own_database(postgres_server) as other:
        yield one, other


@pytest.fixture
def databases(pair: tuple[str, str]) -> Iterator[tuple[Hands, Hands]]:
    """The same tables in two databases."""
    with (
        psycopg.connect(pair[0], autocommit=True) as one,
        psycopg.connect(pair[1], autocommit=True) as other,
    ):
        both = Hands(one), Hands(other)
        for person in both:
            person.fresh()
            person.run(*MODEL, *places.FLAGS)
        yield both


@pytest.fixture
async def brake(redis_url: str) -> AsyncIterator[Brake]:
    """Each call is an operator of its own, with a connection of its own."""
    hubs: list[RedisHub] = []

    def make(name: str = "etl-backfill", *, prefix: str = "bull", url: str = redis_url) -> Any:
        hubs.append(RedisHub())
        server = hubs[-1].get(url, owner="ns/etl")
        return BrakeProducer(server, BullmqQueue(url=NOWHERE, name=name, prefix=prefix), utc_now)

    yield make
    for hub in hubs:
        await hub.close()


@pytest.fixture(params=NEW)
def queue(request: pytest.FixtureRequest, bull: Bull, redis_url: str) -> BullQueue:
    return bull.queue(redis_url, "etl-backfill", version=request.param)
