"""The private PostgreSQL: settings, passwords, restarts, and the ways it can be made to fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local import postgres_user
from local.errors import LocalError
from local.postgres import PostgresServer
from local.processes import leftovers

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Of its own: these tests stop and freeze it."""
    started = PostgresServer.start(
        tmp_path_factory.mktemp("postgres"),
        max_connections=17,
        settings={"work_mem": "3MB", "log_statement": "all", "application_name": "it's"},
    )
    yield started
    started.close()


def ask(server: PostgresServer, query: str) -> object:
    with psycopg.connect(server.url(), connect_timeout=60) as connection:
        row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def test_settings_are_those_asked_for(server: PostgresServer) -> None:
    assert ask(server, "SHOW max_connections") == "17"
    assert ask(server, "SHOW work_mem") == "3MB"
    assert ask(server, "SHOW fsync") == "off"
    assert ask(server, "SHOW autovacuum") == "on"


def test_passwords_are_checked(server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url(password="wrong"))


def test_url_quotes_what_it_is_made_of(server: PostgresServer) -> None:
    url = server.url(user="a@b", database="c/d", password="e:f")
    assert url == f"postgresql://a%40b:e%3Af@127.0.0.1:{server.port}/c%2Fd"


def test_restart_keeps_port_and_data(server: PostgresServer) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    before = server.url(), server.pid
    server.restart()
    assert server.url() == before[0]
    assert server.pid != before[1]
    assert ask(server, "SELECT n FROM kept") == 7


def test_frozen_server_answers_nobody_and_thawed_goes_on(server: PostgresServer) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        server.freeze()
        try:
            with pytest.raises(psycopg.errors.ConnectionTimeout):
                psycopg.connect(server.url(), connect_timeout=2)
        finally:
            server.thaw()
        row = connection.execute("SELECT 1").fetchone()
        assert row == (1,)


def test_smart_stop_waits_for_clients(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.postgres.STOP_WITHIN", 0.5)
    with (
        psycopg.connect(server.url()),
        pytest.raises(LocalError, match="waits for its clients"),
    ):
        server.stop("smart")
    monkeypatch.undo()
    server.restart()
    assert ask(server, "SELECT 1") == 1


def test_nothing_is_left_after_close(tmp_path: Path) -> None:
    server = PostgresServer.start(tmp_path)
    assert leftovers(server.run)
    server.freeze()
    server.close()
    assert leftovers(server.run) == []
    assert not server.data.exists()
    with pytest.raises(LocalError, match="is stopped"):
        _ = server.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it under another user")
def test_data_moves_to_where_the_other_user_can_go(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    user = postgres_user.other_user()
    assert user is not None
    data = postgres_user.data_folder(closed / "postgres", user)
    assert closed not in data.parents
    assert data.stat().st_uid != 0
    data.rmdir()
    data.parent.rmdir()
