"""What a BullMQ queue costs Redis if its events, names or options are far larger than usual.

python -m tests.bench.bullmq_large [--passes 20]

Each case is a queue of its own on one Redis. The observer reads it often; the slow log has each of
its commands, and Redis' memory is read before and after.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from tests.bench.bullmq_redis import SlowLog, cpu_milliseconds
from tests.bench.bullmq_source import OPERATOR
from tests.bench.bullmq_watchers import OBSERVER, Order, Watcher
from tests.bench.result import Result, Table, spread
from tests.bench.stage import say
from tests.node.bull import Bull

from local.redis import RedisServer

BAR_COMMAND_MILLISECONDS: Final = 5.0
BAR_MEMORY_PERCENT: Final = 1.0
EVERY_SECONDS: Final = 0.25
# From 0 on the log has each command of a script as well, and writing it costs more than they do.
LOGGED_MICROSECONDS: Final = 50
ENTRIES: Final = 500
JOBS: Final = 500


@dataclass(frozen=True)
class Case:
    """`fill` makes it, beside a job that the real BullMQ added."""

    name: str
    queue: str
    fill: Callable[[redis.Redis, str], None]


@dataclass(frozen=True)
class Measured:
    case: Case
    spent: list[float]  # ms, of each command of the observer
    cpu: float  # ms of Redis' CPU per pass, by the kernel's account
    megabytes: float  # before
    grown: float  # percent, after all passes

    @property
    def slowest(self) -> float:
        return max(self.spent)


def events(size: int, small: int = 0) -> Callable[[redis.Redis, str], None]:
    """As updateProgress() writes them, after so many small ones."""

    def fill(admin: redis.Redis, queue: str) -> None:
        many = admin.pipeline(transaction=False)
        for number in range(small + ENTRIES):
            data = json.dumps("x" * (size if number >= small else 40))
            entry: Any = {"event": "progress", "jobId": str(number), "data": data}
            many.xadd(f"bull:{queue}:events", entry, maxlen=10_000, approximate=True)
            if number % 50 == 49:
                many.execute()
        many.execute()

    return fill


def jobs(field: str, size: int) -> Callable[[redis.Redis, str], None]:
    """Waiting jobs with one field of their hash as large."""

    def fill(admin: redis.Redis, queue: str) -> None:
        now = int(admin.time()[0]) * 1000
        many = admin.pipeline(transaction=False)
        for number in range(JOBS):
            job: Any = {"name": "a", "timestamp": now, "opts": "{}", "data": "{}"}
            many.hset(f"bull:{queue}:x{number}", mapping={**job, field: "x" * size})
            many.lpush(f"bull:{queue}:wait", f"x{number}")
            if number % 50 == 49:
                many.execute()
        many.execute()

    return fill


CASES: Final = (
    Case(f"{ENTRIES} progress events of 200 kB", "events200k", events(200_000)),
    Case(f"{ENTRIES} progress events of 1 MB", "events1m", events(1_000_000)),
    Case(f"{ENTRIES} of 200 kB after 9,000 small ones", "mixed", events(200_000, 9_000)),
    Case(f"{ENTRIES} of 4 kB after 3,000 small ones", "larger", events(4_000, 3_000)),
    Case(f"{JOBS} jobs with names of 80 kB", "names", jobs("name", 80_000)),
    Case(f"{JOBS} jobs with options of 80 kB", "options", jobs("opts", 80_000)),
    Case(f"{JOBS} jobs with data of 80 kB", "data", jobs("data", 80_000)),
)


def measure(case: Case, parts: Parts, passes: int) -> Measured:
    admin = parts.admin
    admin.flushall()
    parts.bull.queue(parts.url, case.queue).add("a")
    case.fill(admin, case.queue)
    # Scripts are loaded, and the connection's buffers are as large as they will be.
    _observe(parts, case, 4)
    # Without the slow log, whose entries are memory as well.
    before, began = _memory(admin), cpu_milliseconds(admin)
    found = _observe(parts, case, passes)
    after, cpu = _memory(admin), cpu_milliseconds(admin) - began
    log = SlowLog(admin, from_microseconds=LOGGED_MICROSECONDS)
    _observe(parts, case, passes)
    spent = [spent / 1000 for spent in log.take(OPERATOR)]
    admin.config_set("slowlog-log-slower-than", -1)
    return Measured(case, spent, cpu / found, before / 1e6, 100 * (after - before) / before)


def _observe(parts: Parts, case: Case, many: int) -> int:
    seconds = EVERY_SECONDS * many
    parts.watcher.start(Order(OBSERVER, case.queue, EVERY_SECONDS, seconds, accounts=False))
    return len(parts.watcher.finish())


def _memory(admin: redis.Redis) -> int:
    """Bytes of data and of scripts' memory."""
    info: Any = admin.info("memory")
    return int(info["used_memory"]) + int(info["used_memory_vm_total"])


@dataclass(frozen=True)
class Parts:
    """All of them running."""

    admin: redis.Redis
    bull: Bull
    url: str
    watcher: Watcher


@contextlib.contextmanager
def bench() -> Iterator[Parts]:
    """A Redis, the real BullMQ, and the observer in a process of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bullmq-large-")))
        server = RedisServer.start(folder, password="")
        stack.callback(server.close)
        bull = stack.enter_context(Bull.start(folder))
        admin = stack.enter_context(server.client(timeout=60))
        watcher = Watcher(server.url())
        stack.callback(watcher.close)
        yield Parts(admin, bull, server.url(), watcher)


def report(result: Result, found: list[Measured]) -> None:
    slowest = max(found, key=lambda one: one.slowest)
    result.bar(
        "the slowest command of the observer, whatever events and jobs hold",
        f"< {BAR_COMMAND_MILLISECONDS:g} ms",
        f"{slowest.slowest:.1f} ms ({slowest.case.name})",
        slowest.slowest < BAR_COMMAND_MILLISECONDS,
    )
    grown = max(found, key=lambda one: one.grown)
    result.bar(
        "Redis' memory meanwhile",
        f"≤ {BAR_MEMORY_PERCENT:g} % more",
        f"{grown.grown:+.2f} % ({grown.case.name})",
        grown.grown <= BAR_MEMORY_PERCENT,
    )
    rows = [
        [
            one.case.name,
            *spread(one.spent, "ms"),
            f"{one.cpu:.1f} ms",
            f"{one.megabytes:,.0f} MB",
            f"{one.grown:+.2f} %",
        ]
        for one in found
    ]
    columns = ("queue", "command: p50", "p99", "max", "CPU per pass", "memory", "more meanwhile")
    result.tables.append(Table("Each queue", columns, rows))
    result.notes.append(HOW.replace("\n", " "))
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        result.notes.append(
            "Run at real-time priority (chrt -r 1): other processes used the machine's cores, and"
            " this page is about the cost of a command and not about its wait for a core."
        )


HOW: Final = """\
Times are those of the slow log, from 50 µs on, of the observer's connection only. They are wall
time: if a command waits for a core, the wait is included. The CPU is the kernel's account of Redis
per pass, without such waits. Memory is used_memory and the memory of scripts, after the passes
compared with before, when every script had run. The observer reads four times a second, and what it
does by the clock (the sample of names, the list of clients) runs as much more often. Before the
observer read sizes first, 500 events of 200 kB took 1.4 to 1.7 s per pass and 95 MB."""


def main() -> int:
    """One Redis, one case after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bullmq_large", description=__doc__)
    parser.add_argument("--passes", type=int, default=20)
    chosen = parser.parse_args()
    result = Result("bullmq_large", "BullMQ jobs and events of any size")
    found = []
    with bench() as parts:
        for case in CASES:
            found.append(measure(case, parts, chosen.passes))
            say(f"{case.name}: slowest command {found[-1].slowest:.1f} ms")
    report(result, found)
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
