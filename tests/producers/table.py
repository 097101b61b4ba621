"""A database with StarForge's job tables, hands to write it, and operators that pause rows."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from local.postgres import PostgresServer
from starforge_backlog.api.pausing import BackfillJobs, JobTypes
from starforge_backlog.api.status import PausedBy, PauseState, PauseStatus
from starforge_backlog.clock import utc_now
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.url import parse_url
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.backfill_jobs import HeldBackfills
from starforge_backlog.producers.backfill_jobs_table import BackfillJobsTable
from starforge_backlog.producers.job_types import HeldTypes
from starforge_backlog.producers.job_types_table import BATCH, JobTypesTable
from starforge_backlog.producers.protocol import Holder, Pausable
from starforge_backlog.snapshot import Known, ProducerReading

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
NO_WAIT = Pacing(
    retry_first=timedelta(),
    retry_most=timedelta(),
    retry_jitter=0,
)


@contextmanager
def own_database(server: PostgresServer) -> Iterator[str]:
    """The URL of a database for one module of tests."""
    name = f"rows_{secrets.token_hex(6)}"
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield server.url(database=name)
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@dataclass(frozen=True)
class Hands:
    """Another client with psql."""

    session: psycopg.Connection[tuple[Any, ...]]

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.session.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.session.execute(query.encode()).fetchall()

    def one(self, query: str) -> Any:
        ((value,),) = self.rows(query)
        return value

    @classmethod
    @contextmanager
    def at(cls, url: str, *statements: str) -> Iterator[Hands]:
        """At a database that has nothing but what these statements make."""
        with psycopg.connect(url, autocommit=True) as session:
            person = cls(session)
            person.fresh()
            person.run(*statements)
            yield person

    def fresh(self) -> None:
        """An empty schema, and settings as they come."""
        self.run("SET default_transaction_read_only = off")
        self.run(
            f'ALTER DATABASE "{self.session.info.dbname}" RESET ALL',
            "DROP SCHEMA IF EXISTS public, app CASCADE; CREATE SCHEMA public;"
            "GRANT USAGE ON SCHEMA public TO public",
        )


async def settled(hands: Hands, living: int) -> None:
    """Until the backends of dead operators have noticed that they are alone."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'starforge-backlog'"
        " AND datname = current_database()"
    )
    while True:
        if hands.one(query) <= living:
            return
        await asyncio.sleep(0.002)


def read_again(table: JobTypesTable | BackfillJobsTable) -> None:
    """A read that took long on a slow machine would be the answer for a while."""
    shared = table.line if isinstance(table, JobTypesTable) else table.seen
    shared.expire()


def held_by(table: JobTypesTable | BackfillJobsTable, holder: Holder) -> Pausable:
    """As one policy sees what it may pause there."""
    if isinstance(table, JobTypesTable):
        return HeldTypes(table, holder)
    return HeldBackfills(table, holder)


@dataclass
class Policy:
    """One policy with one producer, and its entry in status, kept as the operator keeps it."""

    table: JobTypesTable | BackfillJobsTable
    uid: str = "ns"
    name: str = "etl"
    entry: PauseStatus | None = None
    lives: int = field(default=0)

    @property
    def pausable(self) -> Pausable:
        return held_by(self.table, Holder(self.uid, self.name, self.entry))

    async def seen(self) -> ProducerReading:
        read_again(self.table)
        got = await self.pausable.read()
        assert isinstance(got, Known), got
        return got.value

    async def intend(self) -> None:
        """What stands in status before the write: a token, and what may be paused under it."""
        self.lives += 1
        self.entry = PauseStatus(
            producer=self.name,
            by=PausedBy.US,
            state=PauseState.INTENDED,
            since=AT,
            token=f"{self.uid}/{self.name}/2026-{self.lives}",
            previous=(await self.seen()).plan,
        )

    async def write(self) -> Paused:
        """The write of a pause that is intended, and its result in status."""
        assert self.entry is not None
        got = await self.pausable.pause(
            owner="ns/etl", token=self.entry.token, at=AT, why="storm", plan=self.entry.previous
        )
        assert isinstance(got, Paused), got
        if got.outcome in {PauseOutcome.PAUSED, PauseOutcome.ALREADY_OURS}:
            self.entry = self.entry.model_copy(
                update={
                    "state": PauseState.HELD,
                    "version": got.version,
                    "previous": got.previous,
                }
            )
        return got

    async def pause(self) -> Paused:
        await self.intend()
        return await self.write()

    async def resume(self) -> Resumed:
        assert self.entry is not None
        got = await self.pausable.resume(
            token=self.entry.token, version=self.entry.version, previous=self.entry.previous
        )
        assert isinstance(got, Resumed), got
        if got.outcome in {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED}:
            self.entry = None
        return got


class Operators:
    """Each call is an operator of its own, with a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[Database] = []

    def _database(self, url: str | None) -> Database:
        self._opened.append(Database(parse_url(url or self.url), pacing=NO_WAIT))
        return self._opened[-1]

    def job_types(
        self, *, url: str | None = None, uid: str = "ns", batch: int = BATCH, **spec: Any
    ) -> Policy:
        spec.setdefault("types", ("backfill_range",))
        table = JobTypesTable(
            self._database(url), JobTypes(**spec), utc_now, shared_for=timedelta(), batch=batch
        )
        return Policy(table, uid)

    def backfills(self, *, url: str | None = None, uid: str = "ns", **spec: Any) -> Policy:
        table = BackfillJobsTable(
            self._database(url), BackfillJobs(**spec), utc_now, shared_for=timedelta()
        )
        return Policy(table, uid)

    async def close(self) -> None:
        for database in self._opened:
            await database.close()
