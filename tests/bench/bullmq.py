"""What observing a million BullMQ jobs costs Redis, and its other clients.

python -m tests.bench.bullmq [--jobs 1000000] [--rounds 6]

Slices beside the observer and beside a peer that walks the queue alternate with slices without a
watcher, in one run; each is compared with those just before and after it.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis
from tests.bench import bullmq_jobs
from tests.bench.bullmq_jobs import MIXED, QUEUE
from tests.bench.bullmq_others import Others
from tests.bench.bullmq_redis import NODE, SlowLog, Spent, cpu_milliseconds
from tests.bench.bullmq_source import OPERATOR
from tests.bench.bullmq_watchers import CHUNK, OBSERVER, WALK, Observation, Order, Watcher
from tests.bench.result import Result, Table, percentile, spread
from tests.bench.stage import say
from tests.node.bull import Bull
from tests.node.handles import Behaviour, BullQueue

from local.redis import RedisServer

BAR_REDIS_MILLISECONDS: Final = 20.0
BAR_OTHERS_MILLISECONDS: Final = 1.0
ALONE_SECONDS: Final = 3.0  # a slice without a watcher
# Calls of a pass that does not sample: counts, events, names of what ended, clients.
PLAIN_CALLS: Final = 4
MANY_PASSES: Final = 40
MANY_SECONDS: Final = 0.25  # between passes where only their number counts
# Page of `queue.getJobs`, which answers with whole jobs.
PAGE: Final = 5_000
PAGES: Final = 3
WORKER_ROUNDS: Final = 3
WORKERS: Final = 2
CONCURRENCY: Final = 25
JOB_MILLISECONDS: Final = 10


@dataclass(frozen=True)
class Case:
    """Which client watches in a slice."""

    name: str
    who: str
    every: float
    seconds: float


USUAL: Final = Case("this observer every second", OBSERVER, 1.0, 10.0)
# 150 times as often as in production: what it costs other clients at that moment. No bar.
OFTEN: Final = Case("this observer ten times a second", OBSERVER, 0.1, 4.0)
PEER: Final = Case("a walk through the queue", WALK, 0.0, 4.0)
CASES: Final = (USUAL, OFTEN, PEER)


@dataclass(frozen=True)
class Slice:
    """Other clients' milliseconds beside a watcher, and without one before and after."""

    case: Case
    before: list[float]
    beside: list[float]
    after: list[float]
    seen: list[Observation]

    def worse(self, percent: float) -> float:
        """Milliseconds by which the percentile is worse than without a watcher."""
        alone = percentile(self.before, percent), percentile(self.after, percent)
        return percentile(self.beside, percent) - statistics.mean(alone)


@dataclass
class Measured:
    """Everything."""

    slices: list[Slice] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)  # of Redis, ms per observation
    slowest: dict[str, int] = field(default_factory=dict)  # of the observer, µs, by case
    mixed: list[Observation] = field(default_factory=list)
    mixed_jobs: int = 0
    pages: list[Observation] = field(default_factory=list)
    workers: list[Slice] = field(default_factory=list)
    workers_redis: list[float] = field(default_factory=list)  # ms per pass
    workers_rates: dict[str, list[float]] = field(default_factory=dict)  # jobs/s
    megabytes: int = 0
    load_seconds: float = 0.0

    def of(self, case: Case) -> list[Slice]:
        return [piece for piece in self.slices if piece.case == case]

    def seen(self, case: Case) -> list[Observation]:
        return [one for piece in self.of(case) for one in piece.seen]


@dataclass(frozen=True)
class Bench:
    """The parts, all of them running."""

    folder: Path
    admin: redis.Redis
    bull: Bull
    url: str
    queue: BullQueue
    watcher: Watcher
    others: Others

    def alone(self, seconds: float = ALONE_SECONDS) -> list[float]:
        self.others.start(seconds)
        return self.others.finish()

    def beside(self, case: Case, queue: str = QUEUE) -> tuple[list[float], list[Observation]]:
        self.watcher.start(Order(case.who, queue, case.every, case.seconds))
        self.others.start(case.seconds)
        return self.others.finish(), self.watcher.finish()


def measure(bench: Bench, jobs: int, rounds: int, found: Measured) -> None:
    """The rounds on a queue without workers."""
    log = SlowLog(bench.admin, from_microseconds=100)
    bench.watcher.start(Order(OBSERVER, QUEUE, 0.5, 2.0))  # scripts are loaded, versions known
    assert all(one.jobs == jobs for one in bench.watcher.finish())
    bench.alone()
    shuffle = random.Random(20_260_101).shuffle
    for number in range(1, rounds + 1):
        cases = list(CASES)
        shuffle(cases)
        before = bench.alone()
        for case in cases:
            log.take(OPERATOR)
            beside, seen = bench.beside(case)
            slow = log.take(OPERATOR)
            found.slowest[case.name] = max(found.slowest.get(case.name, 0), *slow, 0)
            after = bench.alone()
            piece = Slice(case, before, beside, after, seen)
            found.slices.append(piece)
            before = after
            say(f"round {number} of {rounds}, {case.name}: others' p99 {piece.worse(99):+.2f} ms")


def measure_mixed(bench: Bench, jobs: int, found: Measured) -> None:
    """Passes over priorities, delays that are over, and LIFO."""
    found.mixed_jobs = bullmq_jobs.load_mixed(bench.bull, bench.url, jobs)
    time.sleep(1.5)  # until the delays are over
    say(f"{found.mixed_jobs:,} prioritized, delayed and LIFO jobs")
    bench.watcher.start(Order(OBSERVER, MIXED, MANY_SECONDS, MANY_SECONDS * MANY_PASSES))
    found.mixed = bench.watcher.finish()
    assert all(one.jobs == found.mixed_jobs for one in found.mixed), found.mixed
    found.cpu["mixed"] = _cpu_of_passes(bench, MIXED)


def measure_cpu(bench: Bench, jobs: int, found: Measured) -> None:
    """What Redis spends by the kernel's account, without other clients."""
    found.cpu["pass"] = _cpu_of_passes(bench, QUEUE)
    began = cpu_milliseconds(bench.admin)
    bench.watcher.start(Order(WALK, QUEUE, 0, PEER.seconds))
    (walked,) = bench.watcher.finish()
    found.cpu["walk"] = (cpu_milliseconds(bench.admin) - began) / walked.jobs * jobs
    began = cpu_milliseconds(bench.admin)
    for number in range(PAGES):
        found.pages.append(_page(bench, number * (jobs - PAGE) // (PAGES - 1)))
    listed = sum(page.jobs for page in found.pages)
    found.cpu["pages"] = (cpu_milliseconds(bench.admin) - began) / listed * jobs


def _cpu_of_passes(bench: Bench, queue: str) -> float:
    """Milliseconds per pass, beyond what Redis spends on its own."""
    seconds = MANY_SECONDS * MANY_PASSES
    began = cpu_milliseconds(bench.admin)
    time.sleep(seconds / 2)
    idle = (cpu_milliseconds(bench.admin) - began) * 2
    began = cpu_milliseconds(bench.admin)
    bench.watcher.start(Order(OBSERVER, queue, MANY_SECONDS, seconds, accounts=False))
    passes = len(bench.watcher.finish())
    return (cpu_milliseconds(bench.admin) - began - idle) / passes


def _page(bench: Bench, first: int) -> Observation:
    """BullMQ's own way to list jobs."""
    before, began = Spent.now(bench.admin), time.monotonic()
    got = bench.queue.call("getJobs", ["waiting"], first, first + PAGE - 1)
    wall = time.monotonic() - began
    calls, microseconds = Spent.now(bench.admin).since(before, NODE)
    return Observation(wall, microseconds, calls, len(got))


def measure_workers(bench: Bench, found: Measured) -> None:
    """With workers: only the slow log distinguishes the commands of the observer then."""
    wait = f"bull:{QUEUE}:wait"

    def left() -> int:
        return int(bench.admin.llen(wait))

    with Bull.start(bench.folder, name="workers") as bull:
        queue = bull.queue(bench.url, QUEUE, version=5)
        for _ in range(WORKERS):
            queue.worker(
                Behaviour(ms=JOB_MILLISECONDS),
                concurrency=CONCURRENCY,
                removeOnComplete={"count": 1000},
            )
        time.sleep(2)
        log = SlowLog(bench.admin, from_microseconds=0)
        rates: dict[str, list[float]] = {"alone": [], "beside": []}

        def rated(what: str, began: float, jobs: int) -> None:
            rates[what].append((jobs - left()) / (time.monotonic() - began))

        began, jobs = time.monotonic(), left()
        before = bench.alone()
        rated("alone", began, jobs)
        for _ in range(WORKER_ROUNDS):
            log.take(OPERATOR)
            began, jobs = time.monotonic(), left()
            beside, seen = bench.beside(USUAL)
            rated("beside", began, jobs)
            spent = log.take(OPERATOR)
            found.workers_redis.append(sum(spent) / 1000 / max(1, len(seen)))
            found.slowest["with workers"] = max(found.slowest.get("with workers", 0), *spent)
            began, jobs = time.monotonic(), left()
            after = bench.alone()
            rated("alone", began, jobs)
            found.workers.append(Slice(USUAL, before, beside, after, seen))
            before = after
        found.workers_rates = rates
        say(f"with workers: {statistics.median(rates['beside']):,.0f} jobs/s beside the observer")


@contextlib.contextmanager
def bench(jobs: int, found: Measured) -> Iterator[Bench]:
    """Redis, the jobs, and the two processes that watch them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bullmq-bench-")))
        server = RedisServer.start(folder, password="")
        stack.callback(server.close)
        bull = stack.enter_context(Bull.start(folder))
        admin = stack.enter_context(server.client(timeout=60))
        began = time.monotonic()
        queue = bullmq_jobs.load(bull, server.url(), jobs)
        found.load_seconds = time.monotonic() - began
        found.megabytes = bullmq_jobs.megabytes(admin)
        watcher = Watcher(server.url())
        stack.callback(watcher.close)
        others = Others(server.port, f"bull:{QUEUE}:", jobs)
        stack.callback(others.close)
        yield Bench(folder, admin, bull, server.url(), queue, watcher, others)


def report(result: Result, found: Measured, jobs: int) -> None:
    """Bars and tables."""
    passes = found.seen(USUAL)
    costs = [one.redis / 1000 for one in passes]
    sampling = [one for one in passes if one.calls > PLAIN_CALLS]
    p50, p99, most = spread(costs, "ms", 1)
    result.bar(
        f"Redis time of one pass over {jobs:,} waiting jobs, most of {len(passes)}"
        f" ({len(sampling)} of them sampling)",
        f"≤ {BAR_REDIS_MILLISECONDS:g} ms",
        f"{most} (p50 {p50}, p99 {p99})",
        max(costs) <= BAR_REDIS_MILLISECONDS,
    )
    worse = statistics.median(piece.worse(99) for piece in found.of(USUAL))
    result.bar(
        f"other clients' p99 beside {USUAL.name}",
        f"≤ {BAR_OTHERS_MILLISECONDS:g} ms worse",
        f"{worse:+.2f} ms",
        worse <= BAR_OTHERS_MILLISECONDS,
    )
    walked = found.seen(PEER)
    plain = [one for one in passes if one.calls <= PLAIN_CALLS]
    cpu = found.cpu
    result.tables.append(
        Table(
            "One observation of all waiting jobs",
            ("who", "Redis time", "Redis' CPU", "times a pass", "commands", "wall time"),
            [
                _pass_row("a pass", passes, cpu["pass"], cpu["pass"]),
                _pass_row("… that does not sample", plain),
                _pass_row("… that samples", sampling),
                _pass_row(
                    f"a pass over {found.mixed_jobs:,} mixed jobs",
                    found.mixed,
                    cpu["mixed"],
                    cpu["pass"],
                ),
                _whole("walk by LRANGE and HMGET", walked, jobs, cpu["walk"], cpu["pass"]),
                _whole("queue.getJobs of BullMQ", found.pages, jobs, cpu["pages"], cpu["pass"]),
            ],
        )
    )
    result.tables.append(_others_table(found))
    result.raw.update(
        {
            "Redis' CPU, ms": {name: round(spent, 2) for name, spent in cpu.items()},
            "pass ms": [round(cost, 2) for cost in costs],
            "worse p99 ms": {
                case.name: [round(piece.worse(99), 3) for piece in found.of(case)] for case in CASES
            },
        }
    )
    _report_workers(result, found)
    slowest = found.slowest[USUAL.name] / 1000, found.slowest[OFTEN.name] / 1000
    result.notes.append(
        f"The slowest single command of the observer, from SLOWLOG: {max(slowest):.1f} ms; with"
        f" workers running {found.slowest['with workers'] / 1000:.1f} ms. Other clients wait"
        " for it no longer than that."
    )
    result.notes.append(
        f"{jobs:,} jobs in {found.megabytes:,} MB, added by the real BullMQ 5 (Node.js) in"
        f" {found.load_seconds:.0f} s."
    )
    result.notes.append(HOW.replace("\n", " "))


def _report_workers(result: Result, found: Measured) -> None:
    worse = statistics.median(piece.worse(99) for piece in found.workers)
    most = max(found.workers_redis)
    result.bar(
        f"the same with workers running: Redis time of a pass, most of {WORKER_ROUNDS} means",
        f"≤ {BAR_REDIS_MILLISECONDS:g} ms",
        f"{most:.1f} ms",
        most <= BAR_REDIS_MILLISECONDS,
    )
    result.bar(
        "the same with workers running: other clients' p99",
        f"≤ {BAR_OTHERS_MILLISECONDS:g} ms worse",
        f"{worse:+.2f} ms",
        worse <= BAR_OTHERS_MILLISECONDS,
    )
    alone, beside = (_jobs_per_second(found.workers_rates[what]) for what in ("alone", "beside"))
    result.notes.append(
        f"With {WORKERS} workers of {CONCURRENCY} jobs at once ({JOB_MILLISECONDS} ms each),"
        f" BullMQ 5, jobs/s per slice: {alone} without a watcher, {beside} beside the observer."
        " All of them, Redis and both clients share the machine's cores."
    )


def _jobs_per_second(rates: Sequence[float]) -> str:
    return f"{min(rates):,.0f} to {max(rates):,.0f}"


def _pass_row(
    name: str, seen: Sequence[Observation], cpu: float = 0.0, ours: float = 0.0
) -> list[str]:
    if not seen:
        return [name, "none seen", "", "", "", ""]
    return [
        f"{name} ({len(seen)})",
        _three([one.redis / 1000 for one in seen]),
        f"{cpu:.1f} ms" if cpu else "",
        f"{cpu / ours:.1f}" if cpu else "",
        f"{statistics.mean(one.calls for one in seen):.1f}",
        _three([one.wall * 1000 for one in seen]),
    ]


def _three(milliseconds: Sequence[float]) -> str:
    return "p50 {} / p99 {} / max {}".format(*spread(milliseconds, "ms", 1))


def _whole(name: str, seen: Sequence[Observation], jobs: int, cpu: float, ours: float) -> list[str]:
    """What all jobs would cost, from those that were walked over."""
    walked = sum(one.jobs for one in seen)
    scale = jobs / walked
    return [
        f"{name} ({min(1.0, 1 / scale):.0%} of the jobs, scaled to all)",
        f"{sum(one.redis for one in seen) * scale / 1000:,.0f} ms",
        f"{cpu:,.0f} ms",
        f"{cpu / ours:,.0f}",
        f"{sum(one.calls for one in seen) * scale:,.0f}",
        f"{sum(one.wall for one in seen) * scale:.1f} s",
    ]


def _others_table(found: Measured) -> Table:
    alone = [took for piece in found.slices for took in (*piece.before, *piece.after)]
    rows = [["no watcher", *spread(alone, "ms"), "", ""]]
    for case in CASES:
        beside = [took for piece in found.of(case) for took in piece.beside]
        worse = [piece.worse(99) for piece in found.of(case)]
        rows.append([case.name, *spread(beside, "ms"), *_differences(worse)])
    alone = [took for piece in found.workers for took in (*piece.before, *piece.after)]
    rows.append(["workers, and no watcher", *spread(alone, "ms"), "", ""])
    beside = [took for piece in found.workers for took in piece.beside]
    worse = [piece.worse(99) for piece in found.workers]
    rows.append([f"workers, and {USUAL.name}", *spread(beside, "ms"), *_differences(worse)])
    columns = ("beside", "p50", "p99", "max", "p99 worse: median", "quartiles")
    return Table("Other clients: PING and HGET", columns, rows)


def _differences(worse: Sequence[float]) -> tuple[str, str]:
    if len(worse) < 2:
        return f"{worse[0]:+.2f} ms", ""
    lower, middle, upper = statistics.quantiles(worse, n=4)
    return f"{middle:+.2f} ms", f"{lower:+.2f} to {upper:+.2f} ms"


HOW: Final = f"""\
Redis time is the time of a client's commands in INFO commandstats, before and after each pass; a
script counts as one command. It is wall time: if a command waits for a core on a busy machine, the
wait is included. Redis' CPU is the kernel's account of the server's process over {MANY_PASSES}
passes without other clients, minus what it spends when idle; it includes reading queries and
writing answers. "times a pass" compares that. A pass is the operator's own way from a policy's
queue to its reading, over its one connection, in a process of its own. Passes come each second or
more often instead of every 15 s, and what the observer does by the clock (the sample of names each
minute, the list of clients) runs as much faster: every fourth pass samples, as in production. Other
clients send PING and HGET in turns, half a millisecond apart. A slice of {USUAL.seconds:g} s
({OFTEN.seconds:g} s where passes come ten times a second, and for the walk) beside a watcher is
compared with the slices of {ALONE_SECONDS:g} s without a watcher just before and after it. The
mixed queue has {bullmq_jobs.PRIORITIES} priorities (60 %), delays that are over (30 %) and LIFO
jobs. The walk reads names and times of {CHUNK} jobs at a time; getJobs reads pages of {PAGE:,}.
With workers, Redis time is the sum of the observer's entries in a SLOWLOG of all commands, per pass
and slice."""


def main() -> int:
    """One Redis, one run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bullmq", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=6)
    chosen = parser.parse_args()
    result, found = Result("bullmq", "Observing a million BullMQ jobs"), Measured()
    with bench(chosen.jobs, found) as parts:
        measure(parts, chosen.jobs, chosen.rounds, found)
        measure_cpu(parts, chosen.jobs, found)
        measure_mixed(parts, chosen.jobs // 10, found)
        measure_workers(parts, found)
    say("everything is stopped")
    report(result, found, chosen.jobs)
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
