"""100,000 arrivals a minute in BullMQ: how near to the truth is what the operator reads?

python -m tests.bench.bullmq_arrivals [--seconds 180]

Real producers add at a steady pace, or in bursts; real workers drain a part of it and keep none of
what they finished. The truth is what the producers know they have added, and each run that the
workers noted.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.bench.bullmq_source import INTERVAL_SECONDS, eye
from tests.bench.result import Result, Table
from tests.bench.stage import say
from tests.node.bull import Bull
from tests.node.handles import Behaviour, BullQueue, BullWorker

from local.redis import RedisServer
from starforge_backlog.snapshot import Known, Reading

PER_MINUTE: Final = 100_000
BAR_PERCENT: Final = 2.0
# Four passes of 15 s; a policy's default is 90 s, with more jobs in it and thus easier.
WINDOW_SECONDS: Final = 60.0
BATCH: Final = 200  # jobs per addBulk; 0.2 % of a window
BURST: Final = 50_000
# Workers that finish about half of what arrives.
CONCURRENCY: Final = 20
JOB_MILLISECONDS: Final = 20


@dataclass(frozen=True)
class Case:
    """A queue, how jobs come, and whether its workers keep metrics."""

    queue: str
    name: str
    bursts: bool
    metrics: bool


# Two side by side, then the bursts: all at once would be more than two cores can do.
STEADY: Final = (
    Case("plain", "steady, without metrics", bursts=False, metrics=False),
    Case("counted", "steady, with metrics", bursts=False, metrics=True),
)
BURSTS: Final = (Case("bursts", f"bursts of {BURST:,}, without metrics", True, metrics=False),)


@dataclass
class Truth:
    """How many by when (unix time)."""

    at: list[float] = field(default_factory=list)
    total: list[int] = field(default_factory=list)

    def note(self, at: float, total: int) -> None:
        self.at.append(at)
        self.total.append(total)

    def by(self, moment: float) -> float:
        """Evenly between two notes."""
        after = bisect.bisect_right(self.at, moment)
        if after == 0:
            return 0.0
        if after == len(self.at):
            return self.total[-1]
        since, until = self.at[after - 1], self.at[after]
        part = (moment - since) / (until - since)
        return self.total[after - 1] + part * (self.total[after] - self.total[after - 1])

    def rate(self, since: float, until: float) -> float:
        """Per second."""
        return (self.by(until) - self.by(since)) / (until - since)


@dataclass(frozen=True)
class Window:
    """One reading, and what was true in the window that it stands for."""

    until: float
    added: float
    arrivals: float
    ended: float
    throughput: float

    @property
    def off_arrivals(self) -> float:
        return (self.arrivals / self.added - 1) * 100

    @property
    def off_throughput(self) -> float:
        return (self.throughput / self.ended - 1) * 100


@dataclass(frozen=True)
class Seen:
    """What a pass read, and when by Redis' clock."""

    at: float
    arrivals: Reading[float]
    throughput: Reading[float]


class Producer:
    """Adds in a thread of its own."""

    def __init__(self, queue: BullQueue, case: Case) -> None:
        self.truth = Truth()
        self._queue, self._case = queue, case
        self._over = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=case.queue, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Raises what went wrong."""
        self._over.set()
        self._thread.join()
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            self._add()
        except Exception as fault:  # noqa: BLE001 - reported by `stop`
            self._fault = fault

    def _add(self) -> None:
        each = BURST if self._case.bursts else BATCH
        began, added = time.time(), 0
        self.truth.note(began, 0)
        while not self._over.is_set():
            for _ in range(each // BATCH):
                self._queue.add_bulk(BATCH)
                added += BATCH
                self.truth.note(time.time(), added)
            due = began + added / PER_MINUTE * 60
            if self._over.wait(max(0.0, due - time.time())):
                return
            self.truth.note(time.time(), added)


def ended(workers: Sequence[BullWorker]) -> Truth:
    """When jobs were done, from each worker's own notes."""
    ends = sorted(
        float(run["end"]) / 1000
        for worker in workers
        for run in worker.bull.call("ran", within=120, worker=worker.handle)
        if run["end"] is not None
    )
    truth = Truth()
    for number, at in enumerate(ends, 1):
        truth.note(at, number)
    return truth


async def watch(url: str, cases: Sequence[Case], seconds: float) -> dict[str, list[Seen]]:
    """Passes every 15 s, as a policy has them."""
    found: dict[str, list[Seen]] = {case.queue: [] for case in cases}
    window = timedelta(seconds=WINDOW_SECONDS)
    async with eye(url) as watching:
        watching.timer.every(INTERVAL_SECONDS)
        start = time.monotonic()
        passes = round(seconds / INTERVAL_SECONDS) + 1
        for number in range(passes):
            await asyncio.sleep(max(0.0, start + number * INTERVAL_SECONDS - time.monotonic()))
            for case in cases:
                reading = await watching.read(case.queue, window=window)
                assert isinstance(reading.waiting, Known), reading.waiting
                at = reading.waiting.at.timestamp()
                arrivals, throughput = reading.arrivals_per_second, reading.throughput_per_second
                found[case.queue].append(Seen(at, arrivals, throughput))
            say(f"pass {number + 1} of {passes}")
    return found


def windows(seen: Sequence[Seen], added: Truth, done: Truth) -> list[Window]:
    """Of the readings whose window is a whole one."""
    found = []
    first = seen[0].at
    for one in seen:
        since = one.at - WINDOW_SECONDS
        if since < first - 1:
            continue
        # A window begins with the sample that is nearest.
        since = min((other.at for other in seen), key=lambda at: abs(at - since))
        assert isinstance(one.arrivals, Known), one.arrivals
        assert isinstance(one.throughput, Known), one.throughput
        found.append(
            Window(
                one.at - first,
                added.rate(since, one.at),
                one.arrivals.value,
                done.rate(since, one.at),
                one.throughput.value,
            )
        )
    return found


def run(folder: Path, cases: Sequence[Case], seconds: float) -> dict[str, list[Window]]:
    """Some queues side by side on a Redis of their own."""
    with contextlib.ExitStack() as stack:
        server = RedisServer.start(folder, name=f"redis-{cases[0].queue}", password="")
        stack.callback(server.close)
        # Producers and workers apart: a process that is busy with jobs would add late.
        adding = stack.enter_context(Bull.start(folder, name="producers"))
        working = stack.enter_context(Bull.start(folder, name="workers"))
        workers: dict[str, list[BullWorker]] = {}
        producers: dict[str, Producer] = {}
        for case in cases:
            queue = working.queue(server.url(), case.queue, version=5)
            options = {"metrics": {"maxDataPoints": 60}} if case.metrics else {}
            workers[case.queue] = [
                queue.worker(
                    Behaviour(ms=JOB_MILLISECONDS),
                    concurrency=CONCURRENCY,
                    removeOnComplete={"count": 0},
                    **options,
                )
            ]
        for case in cases:
            queue = adding.queue(server.url(), case.queue, version=5)
            producers[case.queue] = Producer(queue, case)
        time.sleep(2)
        say(f"{', '.join(case.name for case in cases)}: {seconds:g} s")
        seen = asyncio.run(watch(server.url(), cases, seconds))
        for producer in producers.values():
            producer.stop()
        return {
            case.name: windows(
                seen[case.queue], producers[case.queue].truth, ended(workers[case.queue])
            )
            for case in cases
        }


def rows(name: str, found: Sequence[Window]) -> Iterator[list[str]]:
    for window in found:
        yield [
            name,
            f"{window.until:.0f} s",
            f"{window.added * 60:,.0f}",
            f"{window.arrivals * 60:,.0f}",
            f"{window.off_arrivals:+.2f} %",
            f"{window.ended * 60:,.0f}",
            f"{window.throughput * 60:,.0f}",
            f"{window.off_throughput:+.2f} %",
        ]


COLUMNS: Final = (
    "case",
    "window ends at",
    "added per minute",
    "read",
    "off",
    "finished per minute",
    "read",
    "off",
)
HOW: Final = f"""\
Producers (BullMQ 5, addBulk of {BATCH}) add {PER_MINUTE:,} jobs a minute to each queue, steadily or
{BURST:,} at once. A worker of {CONCURRENCY} jobs at once ({JOB_MILLISECONDS} ms each) finishes a
part of them, and removeOnComplete keeps none. The operator's own way from a policy's queue to its
reading passes every {INTERVAL_SECONDS:g} s, with observeFor {WINDOW_SECONDS:g}s. Added: the number
that the producers have added by then, spread evenly within a batch. Finished: the time at which
each job's function ended, some milliseconds before Redis gets the result. Windows overlap; all
complete windows are listed."""


def judge(result: Result, name: str, found: Sequence[Window]) -> None:
    """The bars of one case."""
    for what, offs in (
        ("arrivals", [window.off_arrivals for window in found]),
        ("finished", [window.off_throughput for window in found]),
    ):
        worst = max(offs, key=abs)
        result.bar(
            f"{name}: {what} per window, worst of {len(found)}",
            f"± {BAR_PERCENT:g} %",
            f"{worst:+.2f} % (median {statistics.median(offs):+.2f} %)",
            abs(worst) <= BAR_PERCENT,
        )


def main() -> int:
    """Steady ones side by side, then the bursts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bullmq_arrivals")
    parser.add_argument("--seconds", type=float, default=180, help="of watching (%(default)s)")
    chosen = parser.parse_args()
    result = Result("bullmq_arrivals", "Counting 100,000 arrivals a minute")
    table: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="bullmq-arrivals-") as name:
        for cases, share in ((STEADY, 1.0), (BURSTS, 0.5)):
            # Two windows at least.
            seconds = max(chosen.seconds * share, WINDOW_SECONDS + INTERVAL_SECONDS)
            for case, found in run(Path(name), cases, seconds).items():
                say(f"{case}: {[round(window.off_arrivals, 2) for window in found]} % off")
                table += rows(case, found)
                judge(result, case, found)
    say("everything is stopped")
    result.tables.append(Table("Windows", COLUMNS, table))
    result.notes.append(HOW.replace("\n", " "))
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
