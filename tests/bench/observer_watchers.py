"""What watches the table meanwhile: nothing, the operator's observer, or the runbook's queries.

Runs as a process of its own, as the operator would: a line of JSON with an order on its input, a
line of JSON with the seconds of each observation on its output.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import IO

import psycopg

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.url import parse_url
from starforge_backlog.queues.postgres.observer import PostgresQueues
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Known

OURS, RUNBOOK = "this observer", "runbook's queries"
FIRST = (
    0.2  # seconds until the first observation, so that a long one still has the workers beside it
)

# As the runbook has them (Commands & queries), payload and all.
_RUNBOOK = (
    "SELECT status, type, COUNT(*) AS cnt FROM queue_jobs GROUP BY status, type ORDER BY cnt DESC",
    """SELECT id, type, payload, run_after, created_at FROM queue_jobs WHERE status = 'pending'
        ORDER BY run_after ASC, created_at ASC LIMIT 50""",
    """SELECT id, type, attempts, last_error, updated_at FROM queue_jobs WHERE status = 'failed'
        ORDER BY updated_at DESC LIMIT 100""",
)

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Order:
    """Observe every `every` seconds for `seconds`."""

    who: str
    every: float
    seconds: float


class Watcher:
    """The other process, seen from here."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.observer_watchers", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()  # it is ready

    def start(self, order: Order) -> None:
        """Give an order; `finish` has the answer."""
        assert self._process.stdin is not None
        print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)

    def finish(self) -> list[float]:
        """Seconds of each observation. Raises RuntimeError when the process has failed."""
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> list[float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the watcher's process has failed")
        took: list[float] = json.loads(line)
        return took


async def _serve(url: str, orders: IO[str]) -> None:
    async with AsyncExitStack() as stack:
        database = Database(parse_url(url))
        stack.push_async_callback(database.close)
        connection = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(url, autocommit=True)
        )
        # The bench sets the pace.
        queues = PostgresQueues(database, settings=ObserverSettings(duty=0))

        async def ours() -> None:
            seen = await queues.read(
                "jobs", PostgresQueue(), rate_window=timedelta(seconds=90), max_age=timedelta(0)
            )
            assert isinstance(seen.waiting, Known), seen.waiting

        async def runbook() -> None:
            for query in _RUNBOOK:
                await (await connection.execute(query)).fetchall()

        acts: dict[str, Act] = {OURS: ours, RUNBOOK: runbook}
        await ours()  # the read of catalog and plans, once in five minutes
        print("[]", flush=True)
        while line := await asyncio.to_thread(orders.readline):
            order = Order(**json.loads(line))
            took = await _repeat(acts[order.who], order.every, order.seconds)
            print(json.dumps(took), flush=True)


async def _repeat(act: Act, every: float, seconds: float) -> list[float]:
    took: list[float] = []
    start = time.monotonic()
    due = start + FIRST
    while due < start + seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        await act()
        ended = time.monotonic()
        took.append(ended - began)
        due = max(due + every, ended)
    return took


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.stdin))
