"""Policies of every kind on one operator: queues on Redis, in tables and in Prometheus.

python -m tests.bench.mixed [--seconds 120] [--policies 300]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import redis
from tests.bench import mixed_sources, policies, stage
from tests.bench.database import JobDatabase
from tests.bench.policies import INTERVAL_SECONDS, LATEST_SECONDS, MAX_CONNECTIONS
from tests.bench.result import Result, Table
from tests.bench.stage import say
from tests.bench.watching import Cost, Watching
from tests.e2e.api import Json
from tests.e2e.place import Place
from tests.node.bull import Bull

from local.redis import RedisServer

NAMESPACE: Final = "mixed"
QUEUES: Final = 30
DATABASES: Final = 3
TYPES: Final = 20
REDIS: Final = "redis"
# Of five policies two read BullMQ, two a table, one Prometheus.
KINDS: Final = ("bullmq", "postgres", "bullmq", "postgres", "prometheus")
# One per server for all policies: one thread asks it (prometheus/connection.py).
BAR_PROMETHEUS: Final = 1
SETTLE_SECONDS: Final = 60.0
READY_WITHIN: Final = 300.0


@dataclass
class Connections:
    """The most that were seen of the operator's, by the servers' own lists."""

    admin: redis.Redis
    prometheus_port: int
    redis: int = 0
    prometheus: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Each second, meanwhile."""
        thread = threading.Thread(target=self._count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _count(self) -> None:
        while not self._over.wait(1):
            self.redis = max(self.redis, mixed_sources.redis_connections(self.admin))
            at_prometheus = mixed_sources.connections_to(self.prometheus_port)
            self.prometheus = max(self.prometheus, at_prometheus)


def spec(number: int, target: str, prometheus: str) -> Json:
    """One of three kinds; all have a target, a database's budget, a producer and a breaker.

    `prometheus`: its URL.
    """
    kind = KINDS[number % len(KINDS)]
    if kind == "bullmq":
        # Some policies read a queue, others pause it.
        paused = {"url": mixed_sources.secret(REDIS), "name": _queue(number + QUEUES // 2)}
        queue = mixed_sources.in_redis(REDIS, _queue(number))
        more = mixed_sources.paused_by({"queue": paused})
    elif kind == "postgres":
        queue = mixed_sources.in_table(TYPES, number)
        more = mixed_sources.paused_by({"featureFlag": {}})
    else:
        queue = mixed_sources.in_prometheus(prometheus, number)
        more = mixed_sources.paused_by({"featureFlag": {}})
    return {
        "interval": f"{INTERVAL_SECONDS:g}s",
        "target": {"name": target},
        "database": {"url": mixed_sources.secret(_database(number % DATABASES))},
        "queues": [queue],
        **more,
    }


def _queue(number: int) -> str:
    return f"etl-{number % QUEUES:02}"


def _database(number: int) -> str:
    return f"{stage.SECRET}-{number}"


def run(place: Place, many: int, seconds: float) -> tuple[Cost, Connections, list[str]]:
    """What it costs, who was connected, and what was written all the same."""
    with contextlib.ExitStack() as stack:
        bull = stack.enter_context(Bull.start(place.run_dir, run=place.cluster.run))
        queues = [_queue(number) for number in range(QUEUES)]
        server = mixed_sources.start_redis(stack, place, bull, queues)
        prometheus = mixed_sources.start_prometheus(stack, place)
        say(f"{QUEUES} queues and a Prometheus are there; making {many} targets")
        databases = _databases(place, server)
        names = [f"worker-{number:03}" for number in range(many)]
        stage.make_deployments(place, NAMESPACE, names)
        say("making the policies")
        watching = Watching(place, databases, INTERVAL_SECONDS)
        specs = {name: spec(number, name, prometheus.url) for number, name in enumerate(names)}
        stage.make_policies(place, NAMESPACE, specs)
        stage.until_ready(place, NAMESPACE, many, within=READY_WITHIN)
        say(f"all Ready; settling for {SETTLE_SECONDS:g} s")
        time.sleep(SETTLE_SECONDS)
        say(f"watching for {seconds:g} s")
        before = stage.policies(place, NAMESPACE)
        admin = stack.enter_context(server.client())
        connections = Connections(admin, prometheus.port)
        with connections.counted():
            watching.start()
            time.sleep(seconds)
            cost = watching.stop()
        changed = policies.changed(before, stage.policies(place, NAMESPACE)) if cost.writes else {}
        return cost, connections, [f"{n} × {what}" for what, n in list(changed.items())[:10]]


def _databases(place: Place, server: RedisServer) -> list[JobDatabase]:
    stage.make_namespace(place, NAMESPACE)
    stage.make_secret(place, NAMESPACE, REDIS, server.url())
    found = []
    for number in range(DATABASES):
        tables = ("queue_jobs",)
        database = JobDatabase.create(place.cluster.postgres, f"mixed-{number}", tables)
        stage.make_secret(place, NAMESPACE, _database(number), database.url)
        found.append(database)
    return found


def judge(result: Result, many: int, cost: Cost, connections: Connections) -> None:
    expected = many * cost.seconds / INTERVAL_SECONDS
    p50, p99, most = (cost.lateness.up_to(percent) for percent in (50, 99, 100))
    result.bar(
        f"{many} policies at {INTERVAL_SECONDS:g} s: lateness, p99 of {cost.passes} passes",
        f"< {LATEST_SECONDS:g} s",
        f"≤ {p99:g} s (p50 ≤ {p50:g} s, max ≤ {most:g} s)",
        p99 <= LATEST_SECONDS and cost.passes > 0.9 * expected,
    )
    writes = len(cost.writes)
    result.bar(
        f"API writes while nothing changes, {cost.seconds:.0f} s", "0", str(writes), writes == 0
    )
    result.bar("connections to the Redis", "1", str(connections.redis), ok=connections.redis == 1)
    most_of_one = cost.most_connections
    result.bar("connections to each database", "1", str(most_of_one), ok=most_of_one == 1)
    result.bar(
        "connections to the Prometheus",
        str(BAR_PROMETHEUS),
        str(connections.prometheus),
        ok=connections.prometheus == BAR_PROMETHEUS,
    )


HOW: Final = f"""\
Of five policies two read a BullMQ queue (one of {QUEUES} on one Redis, made by the real BullMQ 5,
with {mixed_sources.DELAYED} delayed jobs each) and can pause another queue. Two read a type of a
job table, and one queries Prometheus (the runbook's expressions, one of {mixed_sources.SERIES} for
what waits); these three pause by the flag. Each policy has a target of its own and the budget of
one of {DATABASES} databases. The measurement begins {SETTLE_SECONDS:g} s after all of them are
Ready. No job arrives or ends. Lateness and duration: upper bounds of the buckets of the operator's
own histograms. Connections: the maximum in CLIENT LIST, pg_stat_activity and /proc/net/tcp, read
each second. Requests and writes: the API server's audit log. RSS and cores: /proc."""


def main() -> int:
    """One cluster, one run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mixed", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="of watching (%(default)s)")
    parser.add_argument("--policies", type=int, default=300)
    chosen = parser.parse_args()
    result = Result("mixed", "Policies of every kind on one operator")
    name = f"{chosen.policies} policies, {QUEUES} queues, {DATABASES} databases, a Prometheus"
    case = policies.Case(name, chosen.policies, DATABASES, 1.0, bars=True)
    with stage.stage("mixed", max_connections=MAX_CONNECTIONS) as place:
        cost, connections, changed = run(place, chosen.policies, chosen.seconds)
    judge(result, chosen.policies, cost, connections)
    result.tables.append(Table("What it costs", policies.COLUMNS, [policies.row(case, cost)]))
    result.notes += [f"Requests: {policies.counts(cost.requests)}."]
    result.notes += [f"Write: {write.verb} {write.path}." for write in cost.writes[:5]]
    result.notes += [f"Changed: {text}." for text in changed]
    result.notes.append(HOW.replace("\n", " "))
    result.raw["lateness"] = cost.lateness.buckets
    result.raw["duration"] = cost.duration.buckets
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
