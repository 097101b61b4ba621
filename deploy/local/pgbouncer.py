"""A private PgBouncer in front of a `PostgresServer`: the machine's own, or Debian's package.

No wheel has one. On Debian its package is unpacked into the cache; elsewhere it must be installed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import psycopg
from psycopg.rows import dict_row

from local.debian import packages
from local.errors import LocalError
from local.postgres import SUPERUSER, PostgresServer
from local.postgres_user import data_folder, other_user, reachable
from local.server import LocalServer

CONSOLE = "pgbouncer"
STATS_USER = "pgbouncer_stats"

PoolMode = Literal["session", "transaction", "statement"]
Setting = str | int


class NoPgBouncerError(LocalError):
    """This machine has none: tests skip."""


@dataclass(frozen=True)
class PgBouncerProgram:
    path: Path
    libraries: Path | None = None
    """The folder of shared libraries that came with it; None where the machine has them."""

    def copied_for(self, user: str | None, near: Path) -> PgBouncerProgram:
        """What lies in root's own cache is closed to others: they get a copy beside the data."""
        if user is None or self.libraries is None or reachable(self.path, user):
            return self
        near.mkdir(mode=0o755)
        program = Path(shutil.copy2(self.path, near))
        shutil.copytree(self.libraries, near / "lib", symlinks=True)
        return PgBouncerProgram(program, near / "lib")

    def command(self, configuration: Path) -> Sequence[str | Path]:
        if self.libraries is None:
            return (self.path, configuration)
        # Only the program gets the variable: the interpreter beside it has libraries of its own.
        return ("/usr/bin/env", f"LD_LIBRARY_PATH={self.libraries}", self.path, configuration)


def find_pgbouncer() -> PgBouncerProgram:
    """The machine's own first: distributions put it where only root's PATH goes.

    Raises `NoPgBouncerError` on a machine that has none and is no Debian, and `LocalError` where
    the package cannot be downloaded.
    """
    folders = [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"]
    found = shutil.which("pgbouncer", path=os.pathsep.join(folders))
    if found is not None:
        return PgBouncerProgram(Path(found))
    if not packages.available():
        raise NoPgBouncerError(
            "this machine has no PgBouncer and is no Debian whose package could be used. Install "
            "the package `pgbouncer` (Ubuntu, Homebrew) to run what needs it."
        )
    usr = packages.unpacked(packages.PGBOUNCER) / "usr"
    (library,) = usr.glob("lib/*/libcares.so.2")
    return PgBouncerProgram(usr / "sbin/pgbouncer", library.parent)


class PgBouncer(LocalServer):
    """`start` makes one. Every role and database of the PostgreSQL behind it can be used."""

    def __init__(
        self,
        program: PgBouncerProgram,
        name: str,
        postgres: PostgresServer,
        *,
        user: str | None,
        settings: Mapping[str, Setting],
        databases: Mapping[str, str],
        stats_users: Mapping[str, str],
    ) -> None:
        super().__init__(name, postgres.run_dir, run=postgres.run, user=user)
        self.data = data_folder(postgres.run_dir / name, user)
        self.program = program.copied_for(user, self.data.parent / f"{name}-program")
        self.stats_password = secrets.token_urlsafe(18)
        self._postgres = postgres
        self._settings = dict(settings)
        self._databases = dict(databases)
        self._stats_users = {STATS_USER: self.stats_password, **stats_users}

    @classmethod
    def start(
        cls,
        postgres: PostgresServer,
        *,
        name: str = "pgbouncer",
        pool_mode: PoolMode = "transaction",
        default_pool_size: int = 20,
        reserve_pool_size: int = 0,
        settings: Mapping[str, Setting] | None = None,
        databases: Mapping[str, str] | None = None,
        stats_users: Mapping[str, str] | None = None,
    ) -> PgBouncer:
        """`settings`: more of pgbouncer.ini, as in `{"max_db_connections": 10}`.

        `databases`: those with settings of their own, as in `{"etl": "pool_size=5"}`.
        `stats_users`: more logins for the console's SHOW → their passwords.
        """
        server = cls(
            find_pgbouncer(),
            name,
            postgres,
            user=other_user(),
            settings={
                "pool_mode": pool_mode,
                "default_pool_size": default_pool_size,
                "reserve_pool_size": reserve_pool_size,
                **(settings or {}),
            },
            databases=databases or {},
            stats_users=stats_users or {},
        )
        try:
            server._start_on_free_port()
        except BaseException:
            server.close()
            raise
        return server

    def url(
        self, user: str = SUPERUSER, database: str = "postgres", password: str | None = None
    ) -> str:
        """As `PostgresServer.url`, through the pool."""
        secret = self._postgres.password if password is None else password
        return self._url(user, secret, database)

    def console_url(self, user: str = STATS_USER, password: str | None = None) -> str:
        """For SHOW only. PostgreSQL's superuser, with its password, may do everything."""
        secret = self.stats_password if password is None else password
        return self._url(user, secret, CONSOLE)

    def show(self, what: str) -> list[dict[str, Any]]:
        """`show("POOLS")`, as the administrator."""
        with self._console() as console:
            return console.execute(f"SHOW {what}".encode()).fetchall()

    def order(self, command: str) -> None:
        """`order("PAUSE etl")`, `order("RESUME")`, `order("KILL etl")`."""
        with self._console() as console:
            console.execute(command.encode())

    def stop(self) -> None:
        """At once: what a polite signal means differs between versions, and it keeps nothing."""
        self.kill()

    def close(self) -> None:
        super().close()
        if self.data.parent != self.run_dir:
            shutil.rmtree(self.data.parent, ignore_errors=True)

    def _configure(self) -> None:
        behind = f"host=127.0.0.1 port={self._postgres.port}"
        settings: dict[str, Setting] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            # No socket file: its path has a length limit that run folders exceed.
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self.data / "userlist.txt"),
            # Roles that are made later can log in, with the secrets that PostgreSQL keeps.
            "auth_user": SUPERUSER,
            "auth_query": "SELECT usename, passwd FROM pg_shadow WHERE usename = $1",
            "admin_users": SUPERUSER,
            "stats_users": ", ".join(self._stats_users),
            **self._settings,
        }
        lines = ["[databases]"]
        lines += [f"{name} = {behind} {more}" for name, more in self._databases.items()]
        lines += [f"* = {behind}", "", "[pgbouncer]"]
        lines += [f"{key} = {value}" for key, value in settings.items()]
        users = {SUPERUSER: self._postgres.password, **self._stats_users}
        logins = [f'"{_quoted(user)}" "{_quoted(secret)}"' for user, secret in users.items()]
        self._write("pgbouncer.ini", lines)
        self._write("userlist.txt", logins)

    def _write(self, name: str, lines: Sequence[str]) -> None:
        path = self.data / name
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n")
        if self._user:
            shutil.chown(path, self._user)

    def _command(self) -> Sequence[str | Path]:
        return self.program.command(self.data / "pgbouncer.ini")

    def _answers(self) -> bool:
        try:
            self.show("VERSION")
        except psycopg.Error:
            return False
        return True

    def _url(self, user: str, secret: str, database: str) -> str:
        login = f"{quote(user, safe='')}:{quote(secret, safe='')}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def _console(self) -> psycopg.Connection[dict[str, Any]]:
        """It speaks the simple protocol only, and knows no transactions."""
        return psycopg.Connection[dict[str, Any]].connect(
            self.console_url(SUPERUSER, self._postgres.password),
            autocommit=True,
            connect_timeout=5,
            row_factory=dict_row,
            cursor_factory=psycopg.ClientCursor[dict[str, Any]],
        )


def _quoted(text: str) -> str:
    return text.replace('"', '""')
