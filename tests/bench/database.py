"""Databases for benchmarks: StarForge's job table and flag, once or many times over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import psycopg
from psycopg import sql
from tests.e2e.store import FLAGS
from tests.queues.schemas import MODEL

from local.postgres import PostgresServer

OPERATOR: Final = "backlog_operator"
PASSWORD: Final = "bench"


@dataclass(frozen=True)
class JobDatabase:
    """`tables` are copies of queue_jobs; each has a row of its own in feature_flags."""

    server: PostgresServer
    name: str
    tables: tuple[str, ...]

    @classmethod
    def create(cls, server: PostgresServer, name: str, tables: tuple[str, ...]) -> Self:
        """With the operator's role, and the rights that the documentation asks for."""
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (OPERATOR,)).rowcount:
                role, password = sql.Identifier(OPERATOR), sql.Literal(PASSWORD)
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
                admin.execute(sql.SQL("GRANT pg_monitor TO {}").format(role))
        database = cls(server, name, tables)
        with database.connect() as connection:
            for statement in (*MODEL, *FLAGS):
                connection.execute(statement)
            for table in tables:
                if table != "queue_jobs":
                    like = sql.SQL("CREATE TABLE {} (LIKE queue_jobs INCLUDING ALL)")
                    connection.execute(like.format(sql.Identifier(table)))
                connection.execute(
                    "INSERT INTO feature_flags (name, data)"
                    """ VALUES (%s, '{"ingest_paused": false}')""",
                    (table,),
                )
            role = sql.Identifier(OPERATOR)
            connection.execute(
                sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(role)
            )
            connection.execute(sql.SQL("GRANT UPDATE ON feature_flags TO {}").format(role))
        return database

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """As superuser."""
        return psycopg.connect(self.server.url(database=self.name), autocommit=True)

    @property
    def url(self) -> str:
        """The operator's."""
        return self.server.url(OPERATOR, self.name, PASSWORD)
