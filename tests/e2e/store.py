"""A database of a test's own: jobs, the flag, and two roles, the operator's and the workers'."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from tests.queues.schemas import MODEL

from local.postgres import PostgresServer

FLAGS: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE feature_flags (
         id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL UNIQUE,
         enabled boolean NOT NULL DEFAULT true, data jsonb DEFAULT '{}',
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now())""",
    """INSERT INTO feature_flags (name, data)
       VALUES ('ingest_control', '{"ingest_paused": false, "note": "kept"}')""",
)
RUNNING: Final = {"ingest_paused": False, "note": "kept"}

# To the letter.
RUNBOOKS_PAUSE: Final = """
    UPDATE feature_flags
    SET data = jsonb_set(data, '{ingest_paused}', 'true'::jsonb)
    WHERE name = 'ingest_control'"""

# As published by StarForge; one backfill of each state, and two that run.
BACKFILLS: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE backfill_jobs (
         job_id text PRIMARY KEY, owner text, from_ts timestamptz, to_ts timestamptz,
         batch_size int DEFAULT 500, concurrency int DEFAULT 2,
         status text NOT NULL DEFAULT 'pending'
           CHECK (status IN ('pending', 'running', 'paused', 'failed', 'done')),
         processed_count bigint DEFAULT 0, error_count bigint DEFAULT 0, last_checkpoint jsonb,
         started_at timestamptz, finished_at timestamptz)""",
    """CREATE TABLE audit_logs (
         id bigserial PRIMARY KEY, action text NOT NULL, user_id text, guild_id text,
         metadata jsonb, ip_address text, user_agent text, created_at timestamptz DEFAULT now())""",
    """INSERT INTO backfill_jobs (job_id, status)
       VALUES ('one', 'running'), ('two', 'running'), ('theirs', 'paused'), ('over', 'done'),
              ('later', 'pending'), ('broken', 'failed')""",
)

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Store:
    """`operator` and `worker` are roles; names are new for each test, as roles are the server's."""

    server: PostgresServer
    database: str
    operator: str
    worker: str
    password: str  # of both, and nobody else's, so that it can be searched for

    @classmethod
    def create(cls, server: PostgresServer) -> Store:
        """With the runbook's tables and the rights that the documentation asks for."""
        mark = secrets.token_hex(4)
        store = cls(
            server, f"db_{mark}", f"ops_{mark}", f"wrk_{mark}", f"planted-{secrets.token_hex(8)}"
        )
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(store.database)))
            for role in (store.operator, store.worker):
                admin.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(store.password)
                    )
                )
        store.run(*MODEL, *FLAGS)
        store.grant()
        return store

    def drop(self) -> None:
        """With everybody's sessions."""
        with psycopg.connect(self.server.url(), autocommit=True) as admin:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            admin.execute(drop.format(sql.Identifier(self.database)))
            for role in (self.operator, self.worker):
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    def url(self, role: str | None = None) -> str:
        """The operator's, or that of another role with the password of this store."""
        return self.server.url(role or self.operator, self.database, self.password)

    @contextmanager
    def connect(self, role: str | None = None) -> Iterator[Connection]:
        """As a role of this store, or as superuser."""
        url = self.server.url(database=self.database) if role is None else self.url(role)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    def run(self, *statements: LiteralString) -> None:
        """As superuser."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement)

    def grant(self) -> None:
        """As docs and chart say: pg_monitor, SELECT on the tables, UPDATE on the flags."""
        with self.connect() as connection:
            for right in (
                sql.SQL("GRANT pg_monitor TO {}"),
                sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}"),
                sql.SQL("GRANT UPDATE ON feature_flags TO {}"),
            ):
                connection.execute(right.format(sql.Identifier(self.operator)))

    def make_backfills(self) -> None:
        """With the rights that pauses of rows need, as the documentation says."""
        self.run(*BACKFILLS)
        with self.connect() as connection:
            for right in (
                sql.SQL("GRANT SELECT, UPDATE (status) ON backfill_jobs TO {}"),
                sql.SQL("GRANT SELECT, INSERT ON audit_logs TO {}"),
                sql.SQL("GRANT USAGE ON SEQUENCE audit_logs_id_seq TO {}"),
            ):
                connection.execute(right.format(sql.Identifier(self.operator)))

    def let_hold_jobs(self) -> None:
        """The right that `jobTypes` needs."""
        with self.connect() as connection:
            right = sql.SQL("GRANT UPDATE (run_after) ON queue_jobs TO {}")
            connection.execute(right.format(sql.Identifier(self.operator)))

    def replace_jobs(self, tables: Iterable[LiteralString]) -> None:
        """Another variant of queue_jobs."""
        self.run("DROP TABLE queue_jobs", *tables)
        self.grant()

    # --- jobs ----------------------------------------------------------------------------------

    def enqueue(self, number: int, *, kind: str = "process_snapshot") -> None:
        self.execute(
            "INSERT INTO queue_jobs (type, payload) SELECT %s, '{}' FROM generate_series(1, %s)",
            (kind, number),
        )

    def finish(self, number: int, *, word: str = "done") -> int:
        """What workers do, in one statement; returns how many there were."""
        columns = self._columns()
        ended = "updated_at" if "updated_at" in columns else "processed_at"
        statement = sql.SQL(
            "UPDATE queue_jobs SET status = {}, {} = now() WHERE id IN"
            " (SELECT id FROM queue_jobs WHERE status = 'pending' LIMIT %s)"
        ).format(sql.Literal(word), sql.Identifier(ended))
        with self.connect() as connection:
            return connection.execute(statement, (number,)).rowcount

    def clear(self, *, kind: str = "") -> None:
        """No job (of that type) is there any more."""
        self.execute("DELETE FROM queue_jobs WHERE %s IN ('', type)", (kind,))

    def _columns(self) -> set[str]:
        found = self.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'queue_jobs'"
        )
        return {str(name) for (name,) in found}

    # --- the flag ------------------------------------------------------------------------------

    def flag(self, name: str = "ingest_control") -> dict[str, Any]:
        """What the application reads."""
        with self.connect() as connection:
            row = connection.execute("SELECT data FROM feature_flags WHERE name = %s", (name,))
            ((data,),) = row.fetchall()
        found: dict[str, Any] = data
        return found

    @property
    def paused(self) -> bool:
        return self.flag().get("ingest_paused") is True

    def people_resume(self) -> None:
        self.run(
            "UPDATE feature_flags SET data = jsonb_set(data, '{ingest_paused}', 'false')"
            " WHERE name = 'ingest_control'"
        )

    # --- anything ------------------------------------------------------------------------------

    def rows(self, query: LiteralString) -> list[TupleRow]:
        with self.connect() as connection:
            return connection.execute(query).fetchall()

    def execute(self, query: LiteralString, params: tuple[object, ...]) -> None:
        with self.connect() as connection:
            connection.execute(query, params)
