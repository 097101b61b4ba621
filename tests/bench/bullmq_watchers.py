"""Which client watches the queue meanwhile: the observer of the operator, or a peer that walks it.

Runs as a process of its own, as the operator would: a line of JSON with an order on its input, a
line of JSON with what each observation cost on its output.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, Final, cast

import redis
from tests.bench.bullmq_redis import OURS, PEERS, Spent
from tests.bench.bullmq_source import Eye, eye

from starforge_backlog.snapshot import Known

OBSERVER, WALK = "this observer", "a walk through the queue"
CHUNK: Final = 500  # jobs that the walk asks for at a time
# The walk takes every so many-th chunk first, so that a part of it is one of the whole list: Redis
# goes to the middle of a list step by step.
STRIDE: Final = 101


@dataclass(frozen=True)
class Order:
    """Observe `queue` every `every` seconds for `seconds`."""

    who: str
    queue: str
    every: float
    seconds: float
    accounts: bool = True  # by commandstats; reading those costs Redis something as well


@dataclass(frozen=True)
class Observation:
    """What one observation cost: a pass of the observer, or the walk as far as it came."""

    wall: float  # seconds
    redis: int  # microseconds of Redis' one thread
    calls: int
    jobs: int  # that were counted, or walked over


class Watcher:
    """The other process, seen from here."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bullmq_watchers", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()  # it is ready

    def start(self, order: Order) -> None:
        """Give an order; `finish` has the answer."""
        assert self._process.stdin is not None
        print(json.dumps(asdict(order)), file=self._process.stdin, flush=True)

    def finish(self) -> list[Observation]:
        """Every observation. Raises RuntimeError when the process has failed."""
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _answer(self) -> list[Observation]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the watcher's process has failed")
        return [Observation(**one) for one in json.loads(line)]


async def _observe(watching: Eye, admin: redis.Redis, order: Order) -> list[Observation]:
    watching.timer.every(order.every)
    seen: list[Observation] = []
    start = time.monotonic()
    due = start + order.every / 2
    while due < start + order.seconds:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        before = Spent.now(admin) if order.accounts else None
        began = time.monotonic()
        reading = await watching.read(order.queue)
        wall = time.monotonic() - began
        calls, microseconds = Spent.now(admin).since(before, OURS) if before else (0, 0)
        assert isinstance(reading.waiting, Known), reading.waiting
        seen.append(Observation(wall, microseconds, calls, reading.waiting.value.value))
        due = max(due + order.every, time.monotonic())
    return seen


def _chunks(length: int) -> Iterator[int]:
    """Where chunks begin: each once, the first few spread over the whole list."""
    many = max(1, length // CHUNK)
    for first in range(min(STRIDE, many)):
        for number in range(first, many, STRIDE):
            yield number * CHUNK


def _walk(admin: redis.Redis, order: Order) -> list[Observation]:
    """A peer without bounds: names and times of all waiting jobs, chunk by chunk."""
    base, jobs = f"bull:{order.queue}:", 0
    before, began = Spent.now(admin), time.monotonic()
    for first in _chunks(admin.llen(base + "wait")):
        if time.monotonic() > began + order.seconds:
            break
        ids = cast("list[str]", admin.lrange(base + "wait", first, first + CHUNK - 1))
        with admin.pipeline(transaction=False) as pipeline:
            for job in ids:
                pipeline.hmget(f"{base}{job}", "name", "timestamp")
            pipeline.execute()
        jobs += len(ids)
    calls, microseconds = Spent.now(admin).since(before, PEERS)
    return [Observation(time.monotonic() - began, microseconds, calls, jobs)]


async def _serve(url: str, orders: IO[str]) -> None:
    with contextlib.closing(redis.Redis.from_url(url, decode_responses=True)) as admin:
        async with eye(url) as watching:
            print("[]", flush=True)
            while line := await asyncio.to_thread(orders.readline):
                order = Order(**json.loads(line))
                if order.who == OBSERVER:
                    seen = await _observe(watching, admin, order)
                else:
                    seen = _walk(admin, order)
                print(json.dumps([asdict(one) for one in seen]), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.stdin))
