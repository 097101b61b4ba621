"""A private PostgreSQL on a free loopback port, with the means to make its life hard."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from local.errors import LocalError, log_tail
from local.ports import AddressTakenError, free_ports, was_taken
from local.postgres_programs import PostgresPrograms, find_postgres
from local.postgres_user import COPIED_PROGRAMS, data_folder, other_user, programs_for
from local.processes import RUN_VARIABLE, Child, descendants, spawn, wait_until

SUPERUSER = "postgres"
LOOPBACK = "127.0.0.1"
START_ATTEMPTS = 3
READY_WITHIN = 120.0
STOP_WITHIN = 15.0
# With `standby.signal` in its data folder it is a standby, and ready for reads only.
_READY = re.compile(rb"ready to accept (read-only )?connections")

Mode = Literal["smart", "fast", "immediate"]
_SIGNALS: dict[Mode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

Setting = str | int | float | bool


class PostgresServer:
    """`start` makes one; passwords over TCP are checked (scram) as on a real server."""

    def __init__(
        self,
        programs: PostgresPrograms,
        data: Path,
        *,
        run_dir: Path,
        run: str,
        user: str | None,
        settings: Mapping[str, Setting],
        reached_at: str = LOOPBACK,
        clients: Sequence[str] = (),
    ) -> None:
        self.programs = programs
        self.data = data
        self.run_dir = run_dir
        self.log = run_dir / "logs" / "postgres.log"
        self.password = secrets.token_urlsafe(18)
        self.port = 0
        self.settings = dict(settings)
        self.run = run
        self.reached_at = reached_at
        self._clients = clients
        self._user = user
        self._child: Child | None = None

    @classmethod
    def start(
        cls,
        run_dir: Path,
        *,
        max_connections: int = 100,
        settings: Mapping[str, Setting] | None = None,
        run: str | None = None,
        reached_at: str = LOOPBACK,
        clients: Sequence[str] = (),
    ) -> PostgresServer:
        """Nothing is flushed to disk (the data is thrown away); all else is as it is shipped.

        It listens on `reached_at` besides loopback, for the networks `clients` (with a password).
        """
        user = other_user()
        data = data_folder(run_dir / "postgres", user)
        server = cls(
            programs_for(find_postgres(), user, data.parent),
            data,
            run_dir=run_dir,
            run=run or str(run_dir),
            user=user,
            settings={
                "fsync": False,
                "synchronous_commit": False,
                "full_page_writes": False,
                **(settings or {}),
                "max_connections": max_connections,
            },
            reached_at=reached_at,
            clients=clients,
        )
        try:
            server._initialize()
            server._start_on_free_port()
        except BaseException:
            server.close()
            raise
        return server

    def url(
        self, user: str = SUPERUSER, database: str = "postgres", password: str | None = None
    ) -> str:
        secret = self.password if password is None else password
        return (
            f"postgresql://{quote(user, safe='')}:{quote(secret, safe='')}"
            f"@{self.reached_at}:{self.port}/{quote(database, safe='')}"
        )

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return self._running().pid

    def stop(self, mode: Mode = "fast") -> None:
        """Keeps data and port, so that `restart` brings the same server back."""
        child = self._child
        if child is None:
            return
        self.thaw()
        if not child.exited():
            child.process.send_signal(_SIGNALS[mode])
        try:
            child.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            if mode == "smart":
                raise LocalError(
                    f"PostgreSQL waits for its clients to leave (smart) for {STOP_WITHIN:g} s. "
                    'Close them, or stop it with mode "fast".'
                ) from None
            self._kill(child)
        self._child = None

    def restart(self, mode: Mode = "fast") -> None:
        self.stop(mode)
        self._launch()

    def freeze(self) -> None:
        """It stops answering: connections stay open and new ones are accepted by the kernel only.

        The postmaster first, so that it starts nobody while its children are being stopped.
        """
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._child is not None:
            self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good and throw the data away."""
        self.stop("immediate")
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.data.parent / COPIED_PROGRAMS, ignore_errors=True)
        if self.data.parent != self.run_dir:
            shutil.rmtree(self.data.parent, ignore_errors=True)

    def _initialize(self) -> None:
        command: list[str | Path] = [
            *(self.programs.initdb, "--pgdata", self.data, "--username", SUPERUSER),
            *("--auth", "scram-sha-256", "--pwfile", self._password_file()),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        ]
        environment = {**os.environ, "LC_ALL": "C"}
        child = spawn(
            "initdb", command, log=self.log, env=environment, cwd=Path("/"), user=self._user
        )
        try:
            code = child.process.wait(READY_WITHIN)
        finally:
            if not child.exited():
                child.kill()
            self._password_file().unlink()
        if code != 0:
            raise LocalError(
                f"{self.programs.initdb} could not make a database:\n{log_tail(self.log)}\n"
                "Make room on the disk, or put another PostgreSQL on PATH."
            )
        # No socket file: its path has a length limit that run folders exceed.
        addresses = ",".join({LOOPBACK: None, self.reached_at: None})
        settings = {"unix_socket_directories": "", "listen_addresses": addresses}
        with (self.data / "postgresql.conf").open("a") as file:
            for name, value in {**self.settings, **settings}.items():
                file.write(f"{name} = '{_setting(value)}'\n")
        with (self.data / "pg_hba.conf").open("a") as file:
            for network in self._clients:
                file.write(f"host all all {network} scram-sha-256\n")

    def _password_file(self) -> Path:
        path = self.data.parent / "postgres.password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(self.password + "\n")
            if self._user:
                shutil.chown(path, self._user)
        return path

    def _start_on_free_port(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            (self.port,) = free_ports(1)
            try:
                return self._launch()
            except AddressTakenError:
                if attempt == START_ATTEMPTS:
                    raise
        return None

    def _launch(self) -> None:
        begin = self.log.stat().st_size if self.log.exists() else 0
        child = spawn(
            "postgres",
            [self.programs.postgres, "-D", self.data, "-p", str(self.port)],
            log=self.log,
            env={**os.environ, RUN_VARIABLE: self.run, "LC_ALL": "C"},
            cwd=Path("/"),
            user=self._user,
        )
        self._child = child
        try:
            wait_until(
                lambda: self._accepts(begin),
                timeout=READY_WITHIN,
                what="starting PostgreSQL",
                alive=[child],
            )
        except BaseException as error:
            self._kill(child)
            self._child = None
            if isinstance(error, LocalError) and was_taken(self.log, begin):
                raise AddressTakenError(
                    f"port {self.port} was taken by another program while PostgreSQL started. "
                    "Start again."
                ) from error
            raise

    def _accepts(self, begin: int) -> bool:
        with self.log.open("rb") as file:
            file.seek(begin)
            if not _READY.search(file.read()):
                return False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _running(self) -> Child:
        if self._child is None:
            raise LocalError("this PostgreSQL is stopped; `restart` starts it again.")
        return self._child

    def _signal_all(self, number: signal.Signals) -> None:
        """Each backend has a session of its own, so the process group does not reach it."""
        postmaster = self._running().pid
        seen: set[int] = set()
        while fresh := [p for p in (postmaster, *descendants(postmaster)) if p not in seen]:
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
            seen.update(fresh)

    def _kill(self, child: Child) -> None:
        below = descendants(child.pid)
        child.kill()
        deadline = time.monotonic() + 5
        for pid in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in below):
            time.sleep(0.02)


def _setting(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace("'", "''")
