"""Child processes that cannot outlive us, each in its own group, each with its log file."""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError, log_tail

LINUX = platform.system() == "Linux"
TRAMPOLINE = Path(__file__).with_name("trampoline.py")

RUN_VARIABLE = "STARFORGE_LOCAL_RUN"
"""Every process of a run carries this in its environment; `leftovers` finds strays by it."""


@dataclass(frozen=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def exited(self) -> bool:
        return self.process.poll() is not None

    def signal_group(self, number: signal.Signals) -> None:
        """The group and not only its leader: a program may have children of its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self, timeout: float = 10) -> None:
        self.signal_group(signal.SIGKILL)
        self.process.wait(timeout)

    def must_run(self) -> None:
        if self.exited():
            raise LocalError(
                f"{self.name} exited with code {self.process.returncode}. Its log ends with:\n"
                f"{log_tail(self.log)}"
            )


def spawn(
    name: str,
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    pipes: bool = False,
) -> Child:
    """Start a program that gets `death_signal` when this process ends, however it ends.

    With `pipes` its input and output are ours, and only its errors go to the log.
    """
    command = [
        *(sys.executable, "-I", "-S", str(TRAMPOLINE)),
        *(str(os.getpid()), str(int(death_signal)), user or "-"),
        *(str(part) for part in argv),
    ]
    log.parent.mkdir(parents=True, exist_ok=True)

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out if pipes else subprocess.STDOUT,
                env=dict(os.environ if env is None else env),
                cwd=cwd,
                process_group=0,
            )

    return Child(name, _spawner.run(start), log)


class _Spawner:
    """Linux sends the death signal when the *thread* that forked ends, not the process.

    So all children are started from one thread that lives as long as the process does.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], _Result]]
        self._work = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._loop, name="spawner", daemon=True)
                self._thread.start()
        result: _Result = Future()
        self._work.put((start, result))
        return result.result()

    def _loop(self) -> None:
        while True:
            start, result = self._work.get()
            try:
                result.set_result(start())
            except OSError as error:
                result.set_exception(error)


_Result = Future[subprocess.Popen[bytes]]
_spawner = _Spawner()


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout: float,
    what: str,
    alive: Sequence[Child] = (),
    every: float = 0.05,
) -> None:
    """Wait for a condition, and give up at once when a process it depends on is gone."""
    deadline = time.monotonic() + timeout
    while not condition():
        for child in alive:
            child.must_run()
        if time.monotonic() > deadline:
            logs = "\n".join(f"  {c.name} says:\n{log_tail(c.log)}" for c in alive)
            raise LocalError(f"{what} took longer than {timeout:g} s; give up.\n{logs}")
        time.sleep(every)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, nearest first."""
    children: dict[int, list[int]] = {}
    for child, parent in _process_table():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    frontier = [pid]
    while frontier:
        frontier = [child for parent in frontier for child in children.get(parent, [])]
        found += frontier
    return found


def leftovers(run: str) -> list[int]:
    """Living processes that were started for this run, wherever they hang in the tree."""
    marker = f"{RUN_VARIABLE}={run}".encode()
    found: list[int] = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return [pid for pid in found if pid != os.getpid()]


def kill_leftovers(run: str) -> None:
    """The last sweep: a container's own children are in groups that nobody remembers."""
    for pid in leftovers(run):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _process_table() -> list[tuple[int, int]]:
    if LINUX:
        rows: list[tuple[int, int]] = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                after_name = (directory / "stat").read_text().rpartition(")")[2].split()
                rows.append((int(directory.name), int(after_name[1])))
        return rows
    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    return [(int(a), int(b)) for a, b in (line.split() for line in listing.stdout.splitlines())]
