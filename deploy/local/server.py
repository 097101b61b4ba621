"""What the private servers have in common: one process on a free loopback port, made to suffer.

PostgreSQL is not one of them: its backends are processes of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from local.errors import LocalError
from local.ports import AddressTakenError, free_ports, was_taken
from local.processes import RUN_VARIABLE, Child, spawn, wait_until

START_ATTEMPTS = 3
READY_WITHIN = 90.0
STOP_WITHIN = 10.0


class LocalServer(ABC):
    """Subclasses say how it is started and when it answers; `start` of each makes one."""

    def __init__(
        self, name: str, run_dir: Path, *, run: str | None = None, user: str | None = None
    ) -> None:
        self.name = name
        self.run_dir = run_dir
        self.run = run or str(run_dir)
        self.data = run_dir / "data" / name
        self.log = run_dir / "logs" / f"{name}.log"
        self.port = 0
        self._user = user
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._child is not None and not self._child.exited()

    def stop(self) -> None:
        """Politely. Keeps data and port, so that `restart` brings the same server back."""
        child = self._child
        if child is None:
            return
        self.thaw()
        if not child.exited():
            child.process.send_signal(signal.SIGTERM)
        try:
            child.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            child.kill()
        self._child = None

    def kill(self) -> None:
        """SIGKILL: what was not on disk is gone."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def restart(self) -> None:
        """Also starts one that was stopped or killed."""
        self.stop()
        self._launch()

    def freeze(self) -> None:
        """It stops answering; connections stay open, new ones are accepted by the kernel only."""
        self._running().signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._child is not None:
            self._child.signal_group(signal.SIGCONT)

    def close(self) -> None:
        """Stop for good and throw the data away."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The program and its arguments, for `self.port`."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it is ready for clients now."""

    @abstractmethod
    def _configure(self) -> None:
        """Write the files that depend on the port."""

    def _choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def _start_on_free_port(self) -> None:
        for attempt in range(1, START_ATTEMPTS + 1):
            self._choose_ports()
            self._configure()
            try:
                return self._launch()
            except AddressTakenError:
                if attempt == START_ATTEMPTS:
                    raise
        return None

    def _launch(self) -> None:
        begin = self.log.stat().st_size if self.log.exists() else 0
        child = spawn(
            self.name,
            self._command(),
            log=self.log,
            env={**os.environ, RUN_VARIABLE: self.run},
            cwd=Path("/"),
            user=self._user,
        )
        self._child = child
        try:
            wait_until(
                self._answers,
                timeout=READY_WITHIN,
                what=f"starting {self.name}",
                alive=[child],
                every=0.02,
            )
        except BaseException as error:
            self.kill()
            if isinstance(error, LocalError) and was_taken(self.log, begin):
                raise AddressTakenError(
                    f"port {self.port} was taken by another program while {self.name} started. "
                    "Start again."
                ) from error
            raise

    def _running(self) -> Child:
        if self._child is None:
            raise LocalError(f"this {self.name} is stopped; `restart` starts it again.")
        return self._child
