"""The real BullMQ (Node.js, majors 4 to 6), from Python.

    with Bull.start(run_dir) as bull:
        queue = bull.queue(redis_url, "etl", version=5)
        queue.add_bulk(1000, {"import": 9, "poison": 1})
        queue.worker(Behaviour(ms=10, fail={"poison": "out of memory"}), concurrency=5)

Calls block for as long as Redis takes, milliseconds; from a coroutine `await bull.ask(...)`, or
`asyncio.to_thread`. A worker lives in the process of its `Bull`: start a second one to kill it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.node.handles import ANSWER_WITHIN, BullQueue

from local.errors import LocalError, log_tail
from local.nodejs import find_node, node_packages
from local.processes import RUN_VARIABLE, Child, spawn

FOLDER = Path(__file__).resolve().parent
CLOSE_WITHIN = 20.0

Version = Literal[4, 5, 6]
OldPackage = Literal["bull3", "bull4"]
VERSIONS: tuple[Version, ...] = (4, 5, 6)


class BullError(LocalError):
    """BullMQ (or this process) said no. `name` is the JavaScript class of its error."""

    def __init__(self, message: str, name: str = "Error") -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Connection:
    """What `url` alone does not say."""

    authority: Path | None = None
    """Verifies a `rediss://` server."""
    sentinels: Sequence[str] = ()
    master: str = ""
    """How the Sentinels call it; the login and database are those of `url`."""
    cluster: bool = False

    def to(self, url: str) -> dict[str, Any]:
        return {
            "url": url,
            "authority": str(self.authority) if self.authority else None,
            "sentinels": list(self.sentinels) or None,
            "master": self.master or None,
            "cluster": self.cluster,
        }


class Bull:
    """One Node.js process. `kill` and `freeze` hit all workers in it."""

    def __init__(self, child: Child, run_dir: Path, name: str) -> None:
        self._child = child
        self._where = (run_dir, name)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._next = 0
        self._reader = threading.Thread(target=self._read, name="bull", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, run_dir: Path, *, name: str = "bull", run: str | None = None) -> Bull:
        node_packages(FOLDER)
        child = spawn(
            name,
            [find_node().path, FOLDER / "bull.mjs"],
            log=run_dir / "logs" / f"{name}.log",
            env={**os.environ, RUN_VARIABLE: run or str(run_dir)},
            cwd=FOLDER,
            pipes=True,
        )
        bull = cls(child, run_dir, name)
        try:
            bull.call("ping")
        except BaseException:
            bull.kill()
            raise
        return bull

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return not self._child.exited()

    def queue(
        self,
        url: str,
        name: str,
        *,
        version: Version = 5,
        prefix: str = "bull",
        connection: Connection | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> BullQueue:
        handle = self.call(
            "queue",
            version=version,
            connection=(connection or Connection()).to(url),
            name=name,
            prefix=prefix,
            options=dict(options or {}),
        )
        return BullQueue(self, handle, name)

    def old_queue(
        self, url: str, name: str, *, package: OldPackage, prefix: str = "bull", works: bool = False
    ) -> BullQueue:
        """Of Bull, the library before BullMQ. `works`: it also processes what is added."""
        handle = self.call(
            "bull",
            package=package,
            connection=Connection().to(url),
            name=name,
            prefix=prefix,
            works=works,
        )
        return BullQueue(self, handle, name)

    def call(self, op: str, *, within: float = ANSWER_WITHIN, **arguments: Any) -> Any:
        """Any operation of bull.mjs, and its answer."""
        future = self._send(op, arguments)
        try:
            return future.result(within)
        except TimeoutError:
            raise self._late(op, within) from None

    async def ask(self, op: str, *, within: float = ANSWER_WITHIN, **arguments: Any) -> Any:
        """As `call`, without blocking."""
        try:
            async with asyncio.timeout(within):
                return await asyncio.wrap_future(self._send(op, arguments))
        except TimeoutError:
            raise self._late(op, within) from None

    def close_all(self) -> None:
        """Every queue and worker, without waiting for jobs."""
        self.call("closeAll", within=CLOSE_WITHIN)

    def freeze(self) -> None:
        self._child.signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self._child.signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: jobs in hand stay locked until their locks run out."""
        self._child.kill()
        self._end()

    def close(self) -> None:
        self.thaw()
        process = self._child.process
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(CLOSE_WITHIN)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, op: str, arguments: Mapping[str, Any]) -> Future[Any]:
        stdin = self._child.process.stdin
        assert stdin is not None
        future: Future[Any] = Future()
        with self._lock:
            self._next += 1
            self._waiting[self._next] = future
            line = json.dumps({**arguments, "id": self._next, "op": op}) + "\n"
            try:
                stdin.write(line.encode())
                stdin.flush()
            except (OSError, ValueError):
                del self._waiting[self._next]
                raise self._gone() from None
        return future

    def _read(self) -> None:
        stdout = self._child.process.stdout
        assert stdout is not None
        for line in stdout:
            message = json.loads(line)
            with self._lock:
                future = self._waiting.pop(message["id"], None)
            if future is None or not future.set_running_or_notify_cancel():
                continue
            if "error" in message:
                error = message["error"]
                future.set_exception(BullError(error["message"], error["name"]))
            else:
                future.set_result(message["ok"])
        with self._lock:
            lost, self._waiting = self._waiting, {}
        for future in lost.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(self._gone())

    def _end(self) -> None:
        self._reader.join(CLOSE_WITHIN)
        for pipe in (self._child.process.stdin, self._child.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _gone(self) -> BullError:
        return BullError(f"the Node.js process has ended. It said:\n{log_tail(self._child.log)}")

    def _late(self, op: str, within: float) -> BullError:
        return BullError(
            f"`{op}` was not answered within {within:g} s: is Redis there? Node.js said:\n"
            f"{log_tail(self._child.log)}"
        )
