"""A job table in a real PostgreSQL, and a database that remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from tests.patience import PATIENT
from tests.queues.bullmq_adapter import Eye
from tests.redis.servers import StartRedis, starting

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.url import parse_url
from starforge_backlog.queues.postgres.observer import PostgresQueues
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.node import Pacing
from starforge_backlog.snapshot import Confidence, Count, QueueReading

Admin = psycopg.Connection[tuple[Any, ...]]


# Production tries again after seconds.
QUICK = Pacing(
    retry_first=timedelta(seconds=0.05),
    retry_most=timedelta(seconds=0.05),
    retry_jitter=0,
)


class Recorder:
    """Passes statements on and keeps their text; can be made to fail."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.fails_on = ""

    async def fetch(
        self,
        query: str | sql.SQL | sql.Composed,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        by_index: bool = False,
    ) -> list[dict[str, Any]]:
        text = query if isinstance(query, str) else query.as_string(None)
        self.asked.append(text)
        # With `fails_on`, asking for the plan of such a statement still works.
        planned = bool(self.fails_on) and text.startswith("EXPLAIN")
        if self.fault is not None and self.fails_on in text and not planned:
            raise self.fault
        # The limit of a read is for servers in trouble; it would end what a busy machine slows.
        return await self.database.fetch(query, params, by_index=by_index, timeout=PATIENT)

    def reads(self) -> list[str]:
        """Statements that count jobs: neither catalog nor plans nor counters."""
        skipped = ("EXPLAIN", "pg_class", "pg_attribute", "pg_index", "pg_stat")
        return [text for text in self.asked if not any(word in text for word in skipped)]


class Watcher:
    """One observer under test, with a timer that is turned by hand."""

    def __init__(self, recorder: Recorder, settings: ObserverSettings) -> None:
        self.recorder = recorder
        self.now = 1_000.0
        # Without duty: on a busy machine a statement takes long, and would forbid the next reading.
        self.queues = PostgresQueues(
            recorder, timer=lambda: self.now, settings=replace(settings, duty=0)
        )

    async def read(
        self, spec: PostgresQueue | None = None, *, name: str = "jobs", window: float = 5.0
    ) -> QueueReading:
        """A fresh reading."""
        self.now += 1.0
        return await self.queues.read(
            name,
            spec or PostgresQueue(),
            rate_window=timedelta(seconds=window),
            max_age=timedelta(0),
        )


async def estimates(watcher: Watcher, take: Callable[[QueueReading], Count]) -> list[int]:
    """Nine readings of a table that nobody has read before. Blocks are chosen at random, so
    one sample in some hundred is far off; the mean of nine is not."""
    found: list[int] = []
    for _ in range(9):
        fresh = Watcher(watcher.recorder, watcher.queues._settings)
        count = take(await fresh.read())
        assert count.confidence is Confidence.ESTIMATED
        found.append(count.value)
    return found


@pytest.fixture
async def hub() -> AsyncIterator[RedisHub]:
    """All Redis servers of one operator, which reconnects soon."""
    made = RedisHub(pacing=QUICK)
    yield made
    await made.close()


@pytest.fixture
def admin(postgres_url: str) -> Iterator[Admin]:
    """A superuser's session in the test's own database."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def recorder(postgres_url: str) -> AsyncIterator[Recorder]:
    """The operator's connection to that database."""
    database = Database(parse_url(postgres_url))
    yield Recorder(database)
    await database.close()


@pytest.fixture
def settings() -> ObserverSettings:
    """Production's numbers; a test overrides the fixture to make tables big."""
    return ObserverSettings()


@pytest.fixture
def watcher(recorder: Recorder, settings: ObserverSettings) -> Watcher:
    """An observer of the test's database."""
    return Watcher(recorder, settings)


def run(admin: Admin, *statements: LiteralString) -> None:
    """Statements one by one, e.g. DDL."""
    for statement in statements:
        admin.execute(statement)


@pytest.fixture
async def eye(hub: RedisHub, redis_url: str) -> Eye:
    """Reads queues of the run's Redis."""
    return Eye(hub, redis_url)


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    """For tests that need a server for themselves."""
    with starting(tmp_path_factory) as start:
        yield start
