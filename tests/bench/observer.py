"""What observing ten million jobs costs: the observation itself, and the workers beside it.

    python -m tests.bench.observer [--rows N] [--rounds N] [--write]

Bars: one observation in 50 ms or less; 99 % or more of the workers' throughput left. On a shared
machine throughput drifts by more than that within seconds, so each slice with a watcher is compared
with the slices without one just before and after it; and because 1 % drowns even so, the observer
also runs `MAGNIFIED` times as often, and what that costs is divided again. `--write` renews
`docs/bench/observer.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from tests.bench import machine, observer_data, observer_workers
from tests.bench.observer_watchers import OURS, RUNBOOK, Order, Watcher

from local.postgres import PostgresServer

EVERY = 5.0  # seconds between observations
MAGNIFIED = 20  # times as many observations, to see what a single one costs
IDLE_OBSERVATIONS = 60
BAR_SECONDS = 0.050
BAR_LEFT = 0.99
REPORT = Path(__file__).parents[2] / "docs" / "bench" / "observer.md"

# As a server is run, except for its size; the load itself may skip the log.
SETTINGS: dict[str, str | int | bool] = {
    "shared_buffers": "1GB",
    "fsync": True,
    "synchronous_commit": True,
    "full_page_writes": True,
    "max_wal_size": "4GB",
    "maintenance_work_mem": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": 0,
}


@dataclass(frozen=True)
class Case:
    """Which client watches in a slice, and how often."""

    name: str
    who: str
    every: float


CASES = (
    Case(f"this observer every {EVERY:g} s", OURS, EVERY),
    Case(f"this observer every {EVERY / MAGNIFIED:g} s", OURS, EVERY / MAGNIFIED),
    Case(f"runbook's queries every {EVERY:g} s", RUNBOOK, EVERY),
)
USUAL, OFTEN, _ = CASES


@dataclass(frozen=True)
class Slice:
    """The workers beside one watcher, and without one just before and after."""

    case: str
    before: float  # jobs per second
    beside: float
    after: float
    observations: list[float]  # seconds

    @property
    def left(self) -> float:
        """Share of the throughput that is left."""
        return 2 * self.beside / (self.before + self.after)


@dataclass(frozen=True)
class Result:
    """Everything that was measured, in seconds and jobs per second."""

    rows: int
    rounds: int
    slice_seconds: float
    clients: int
    workers: str
    server: str
    busy: str
    idle: list[float]
    slices: list[Slice]

    def of(self, case: Case) -> list[Slice]:
        """The slices of a case."""
        return [piece for piece in self.slices if piece.case == case.name]

    def left(self, case: Case) -> tuple[float, float, float]:
        """Quartiles of the share of throughput that is left: lower, median, upper."""
        lower, middle, upper = statistics.quantiles([s.left for s in self.of(case)], n=4)
        return lower, middle, upper

    @property
    def left_usually(self) -> float:
        """What one observation per `EVERY` leaves, from the magnified case."""
        return 1 - max(0.0, 1 - self.left(OFTEN)[1]) / MAGNIFIED


def main() -> int:
    arguments = _arguments()
    folder = tempfile.TemporaryDirectory(prefix="observer-bench-")
    with folder as name:
        Path(name).chmod(0o755)  # the server may run under another user
        server = PostgresServer.start(Path(name), max_connections=40, settings=SETTINGS)
        try:
            result = _measure(server, arguments, Path(name))
        finally:
            server.close()
    text = render(result)
    print(json.dumps(asdict(result)))
    print(text)
    if arguments.write:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(text, "utf-8")
    return 0


def _measure(server: PostgresServer, arguments: argparse.Namespace, folder: Path) -> Result:
    url = server.url()
    observer_data.load(url, arguments.rows, _say)
    busy = machine.Busy()
    pgbench = server.programs.bin / "pgbench"
    tool = pgbench if pgbench.exists() else None

    def start_workers() -> observer_workers.Workers:
        return observer_workers.start(
            url, pgbench=tool, clients=arguments.clients, seconds=EVERY, folder=folder
        )

    watcher = Watcher(url)
    slices: list[Slice] = []
    try:
        watcher.start(Order(OURS, every=0.5, seconds=0.5 * IDLE_OBSERVATIONS))
        idle = watcher.finish()
        _say(f"observing idle: median {statistics.median(idle) * 1000:.1f} ms")
        start_workers().jobs_per_second()  # warms up
        shuffle = random.Random(20_260_101).shuffle
        for number in range(1, arguments.rounds + 1):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM queue_jobs")
            cases = list(CASES)
            shuffle(cases)
            before = start_workers().jobs_per_second()
            for case in cases:
                workers = start_workers()
                watcher.start(Order(case.who, case.every, EVERY))
                beside, took = workers.jobs_per_second(), watcher.finish()
                after = start_workers().jobs_per_second()
                piece = Slice(case.name, before, beside, after, took)
                slices.append(piece)
                before = after
                _say(
                    f"round {number} of {arguments.rounds}, {case.name}: {piece.left:.1%} of"
                    f" {(piece.before + piece.after) / 2:,.0f} jobs/s left,"
                    f" {statistics.median(took) * 1000:,.0f} ms"
                )
    finally:
        watcher.close()
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT version()").fetchone()
    return Result(
        rows=arguments.rows,
        rounds=arguments.rounds,
        slice_seconds=EVERY,
        clients=arguments.clients,
        workers="pgbench" if tool else "asyncio loop",
        server=" ".join(str(row[0]).split()[:2]) if row else "",
        busy=busy.text(),
        idle=idle,
        slices=slices,
    )


def render(result: Result) -> str:
    """The result as Markdown."""
    alone = [speed for piece in result.slices for speed in (piece.before, piece.after)]
    rows = [f"| no watcher | {statistics.median(alone):,.0f} | 100 % | | |"]
    for case in CASES:
        took = [1000 * t for piece in result.of(case) for t in piece.observations]
        lower, middle, upper = result.left(case)
        rows.append(
            f"| {case.name} | {statistics.median(s.beside for s in result.of(case)):,.0f}"
            f" | {middle:.1%} ({lower:.0%}–{upper:.0%})"
            f" | {statistics.median(took):,.0f} | {max(took):,.0f} |"
        )
    idle = [1000 * t for t in result.idle]
    fast = "yes" if statistics.median(result.idle) <= BAR_SECONDS else "no"
    light = "yes" if result.left_usually >= BAR_LEFT else "no"
    facts = "\n".join(f"| {name} | {value} |" for name, value in machine.facts().items())
    return f"""# Observing ten million jobs

`python -m tests.bench.observer --write` made this page: {result.rows:,} rows in a private
{result.server} (fsync on), primary key and claim index `(run_after) WHERE status = 'pending'` only,
{result.clients} workers ({result.workers}) at full speed (claim with SKIP LOCKED, complete,
enqueue). {result.rounds} rounds; each slice of {result.slice_seconds:g} s beside a watcher is
compared with the slices without one just before and after it. Other work ran on the same
machine: {result.busy}.

| watcher | jobs/s | throughput left: median (quartiles) | an observation, ms | most, ms |
|---|---|---|---|---|
{chr(10).join(rows)}

Observing an idle table: median **{statistics.median(idle):.1f} ms**, most {max(idle):.1f} ms of
{len(idle)}.

The effect of one observation in {EVERY:g} s is smaller than the noise of a shared machine. So the
second row has {MAGNIFIED} times as many observations; a {MAGNIFIED}th of their cost leaves
**{result.left_usually:.1%}**.

| bar | reached |
|---|---|
| one observation ≤ 50 ms | {fast} ({statistics.median(idle):.1f} ms) |
| ≥ 99 % of the throughput left | {light} ({result.left_usually:.1%}; measured directly, \
{result.left(USUAL)[1]:.1%} with the noise of the quartiles above) |

| machine | |
|---|---|
{facts}
"""


def _say(text: str) -> None:
    print(f"[observer] {text}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--write", action="store_true", help=f"renew {REPORT.name}")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
