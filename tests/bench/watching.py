"""What an operator costs over a stretch of time: its own metrics, and three accounts it cannot
write: the API server's audit log, PostgreSQL's statistics and the kernel's."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, Self

import psycopg
from tests.bench.database import OPERATOR, JobDatabase
from tests.bench.machine import cpu_seconds_of, resident_bytes
from tests.e2e.audit import Request
from tests.e2e.place import Place, Samples

EVERY_SECONDS: Final = 1.0  # between two reads of the operator's connections


@dataclass(frozen=True)
class Cost:
    """Over `seconds`."""

    seconds: float
    passes: int
    lateness: Quantiles
    duration: Quantiles
    worst_gap: float  # seconds between two log lines of one policy, beyond its interval
    requests: Counter[str]  # by verb and resource
    writes: list[Request]
    most_connections: int  # of the operator to one database
    transactions: float  # of the operator, per second and database
    cores: float
    restarts: int  # of the operator, since before the policies were made
    rss_megabytes: float


@dataclass(frozen=True)
class Quantiles:
    """Of a Prometheus histogram between two scrapes: upper ends of the buckets."""

    buckets: tuple[tuple[float, float], ...]  # upper end → observations up to there

    @classmethod
    def between(cls, before: Samples, after: Samples, name: str) -> Self:
        def counts(samples: Samples) -> dict[float, float]:
            return {
                float(dict(labels)["le"]): value
                for (sample, labels), value in samples.items()
                if sample == f"{name}_bucket"
            }

        old = counts(before)
        new = sorted((end, value - old.get(end, 0.0)) for end, value in counts(after).items())
        return cls(tuple(new))

    @property
    def total(self) -> int:
        return int(self.buckets[-1][1]) if self.buckets else 0

    def up_to(self, percent: float) -> float:
        """The smallest bucket's end that so many percent do not exceed."""
        for end, count in self.buckets:
            if count >= self.total * percent / 100:
                return end
        return float("inf")

    def above(self, end: float) -> int:
        """How many exceeded a bucket's end."""
        return self.total - int(dict(self.buckets)[end])


class Watching:
    """Between `start` and `stop`."""

    def __init__(self, place: Place, databases: Sequence[JobDatabase], interval: float) -> None:
        self._place, self._databases, self._interval = place, databases, interval
        self._restarts = place.restarts()
        # Opened before anything settles, and only one: it is a client that the budget counts.
        self._admin = psycopg.connect(place.cluster.postgres.url(), autocommit=True)
        self._over = threading.Event()
        self._connections: list[int] = []
        self._rss: list[int] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> Self:
        self._pid = self._place.pid()
        self._began = time.monotonic()
        self._before = self._place.metrics()
        self._audit = self._place.audit.mark()
        self._log = self._place.log_mark()
        self._cpu = cpu_seconds_of(self._pid)
        self._commits = self._transactions()
        self._thread.start()
        return self

    def stop(self) -> Cost:
        self._over.set()
        self._thread.join()
        seconds = time.monotonic() - self._began
        after = self._place.metrics()
        asked = self._place.audit.since(self._audit)
        commits = self._transactions() - self._commits
        self._admin.close()
        lateness = Quantiles.between(self._before, after, "pass_lateness_seconds")
        return Cost(
            seconds=seconds,
            passes=lateness.total,
            lateness=lateness,
            duration=Quantiles.between(self._before, after, "pass_duration_seconds"),
            worst_gap=self._worst_gap(),
            requests=Counter(f"{r.verb} {r.resource}" for r in asked),
            writes=[request for request in asked if request.writes],
            most_connections=max(self._connections, default=0),
            transactions=commits / seconds / len(self._databases),
            cores=(cpu_seconds_of(self._pid) - self._cpu) / seconds,
            restarts=self._place.restarts() - self._restarts,
            rss_megabytes=max(self._rss, default=0) / 2**20,
        )

    def _watch(self) -> None:
        names = [database.name for database in self._databases]
        while not self._over.wait(EVERY_SECONDS):
            rows = self._admin.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
                " AND datname = ANY(%s) GROUP BY datname",
                (OPERATOR, names),
            ).fetchall()
            self._connections.append(max((int(n) for (n,) in rows), default=0))
            self._rss.append(resident_bytes(self._pid))

    def _transactions(self) -> int:
        """Only the operator works in these databases meanwhile."""
        names = [database.name for database in self._databases]
        row = self._admin.execute(
            "SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname = ANY(%s)",
            (names,),
        ).fetchone()
        return int(row[0]) if row else 0

    def _worst_gap(self) -> float:
        ends: defaultdict[str, list[float]] = defaultdict(list)
        for line in self._place.log(self._log):
            if "status" in line and "policy" in line:
                ends[line["policy"]].append(datetime.fromisoformat(line["timestamp"]).timestamp())
        gaps = [b - a for times in ends.values() for a, b in pairwise(times)]
        return max(gaps, default=0.0) - self._interval
