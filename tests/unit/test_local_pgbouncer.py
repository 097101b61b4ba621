"""The private PgBouncer: pools, logins, the console. Skipped where the machine has none
and is no Debian."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import psycopg
import pytest

from local.pgbouncer import NoPgBouncerError, PgBouncer, find_pgbouncer
from local.postgres import PostgresServer

pytestmark = [pytest.mark.pgbouncer, pytest.mark.postgres]


@pytest.fixture
def pool(start_pgbouncer: Callable[..., PgBouncer]) -> PgBouncer:
    return start_pgbouncer(
        default_pool_size=2,
        databases={"tiny": "dbname=postgres pool_size=1"},
        stats_users={"watcher": 'it"s'},
    )


def test_clients_share_the_servers_connections(
    pool: PgBouncer, postgres_server: PostgresServer
) -> None:
    with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
        admin.execute("CREATE ROLE pooled LOGIN PASSWORD 'secret'")
    try:
        url = pool.url(user="pooled", password="secret")
        clients = [psycopg.connect(url, autocommit=True) for _ in range(5)]
        pids = {row[0] for c in clients if (row := c.execute("SELECT pg_backend_pid()").fetchone())}
        assert len(pids) <= 2
        for client in clients:
            client.close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(pool.url(user="pooled", password="wrong"))
    finally:
        pool.close()
        with psycopg.connect(postgres_server.url(), autocommit=True) as admin:
            admin.execute("DROP ROLE pooled")


def test_the_console_shows_but_does_not_obey(pool: PgBouncer) -> None:
    for url in (pool.console_url(), pool.console_url("watcher", 'it"s')):
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
            shown = console.execute("SHOW POOLS")
            assert "cl_waiting" in [column.name for column in shown.description or ()]
            with pytest.raises(psycopg.Error, match="admin access"):
                console.execute("PAUSE")


def test_its_own_databases_and_pauses(pool: PgBouncer) -> None:
    with psycopg.connect(pool.url(database="tiny")) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
    (tiny,) = [row for row in pool.show("DATABASES") if row["name"] == "tiny"]
    assert tiny["pool_size"] in (1, "1")
    pool.order("PAUSE")
    pool.order("RESUME")
    before = pool.url()
    pool.restart()
    assert pool.url() == before


def test_without_one_the_message_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(NoPgBouncerError, match="Install the package `pgbouncer`"):
        find_pgbouncer()
