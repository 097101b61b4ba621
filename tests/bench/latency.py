"""From the commit that makes a trip true to the commit that pauses the producer.

python -m tests.bench.latency [--policies 30] [--rounds 2]

Both ends are PostgreSQL's own commit timestamps (`track_commit_timestamp`), of the row that was
inserted and of the flag's row: no polling of the benchmark is in the number.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from tests.bench import stage
from tests.bench.database import JobDatabase
from tests.bench.result import Result, Table, spread
from tests.bench.stage import say
from tests.e2e.api import POLICIES, Json
from tests.e2e.place import Place

from local.waiting import eventually

NAMESPACE: Final = "latency"
# Jobs at which a breaker opens, and jobs that are inserted in one transaction.
TRIPS_AT: Final = 50
INSERTED: Final = 60
# The shortest that the API allows for a rule to hold: a pass has to see the trip twice.
HOLDS_SECONDS: Final = 1.0
BAR_BEYOND_SECONDS: Final = 1.0  # the promise: one interval and a second
# Trips of a round come over this time: at every moment of an interval, and not so many at once that
# the API server of two shared cores is what is measured.
SPREAD_SECONDS: Final = 20.0
# After which a trip without a pause counts as none.
GIVE_UP_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Trip:
    """One trip of one policy."""

    policy: str
    seconds: float


def spec(name: str, interval: float) -> Json:
    """A table and a flag of its own; replicas are not the matter here."""
    return {
        "interval": f"{interval:g}s",
        "target": {"name": name, "maxReplicas": 1},
        "database": {"url": {"secretKeyRef": {"name": stage.SECRET, "key": stage.KEY}}},
        "queues": [{"name": "jobs", "postgres": {"table": _table(name)}}],
        "producers": [{"name": "ingestion", "featureFlag": {"name": _table(name)}}],
        "breakers": [
            {
                "name": "ingestion",
                "pause": ["ingestion"],
                "trip": [{"waiting": TRIPS_AT, "for": f"{HOLDS_SECONDS:g}s"}],
                "recover": {"belowPercent": 50, "for": "1s", "probeFor": "2s"},
            }
        ],
    }


def _table(name: str) -> str:
    return name.replace("-", "_")


def trip_all(database: JobDatabase, names: Sequence[str], over: float) -> list[Trip]:
    """Trip each once, at moments spread evenly and in random order over `over` seconds."""
    order = random.sample(list(names), len(names))
    found: dict[str, Trip] = {}
    with database.connect() as connection:
        began = time.monotonic()
        for number, name in enumerate(order):
            time.sleep(max(0.0, began + over * number / len(order) - time.monotonic()))
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} (type) SELECT 'process_snapshot' FROM generate_series(1, %s)"
                ).format(sql.Identifier(_table(name))),
                (INSERTED,),
            )
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while len(found) < len(names) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            found |= {n: t for n in names if n not in found and (t := _measure(connection, n))}
    return list(found.values())


def _measure(connection: psycopg.Connection[tuple[object, ...]], name: str) -> Trip | None:
    """The time between the two commits, or None while the flag is not set."""
    query = sql.SQL(
        "SELECT extract(epoch FROM pg_xact_commit_timestamp(f.xmin)"
        " - (SELECT pg_xact_commit_timestamp(j.xmin) FROM {} j LIMIT 1))::float8"
        " FROM feature_flags f WHERE f.name = %s AND f.data -> 'ingest_paused' = 'true'"
    ).format(sql.Identifier(_table(name)))
    row = connection.execute(query, (_table(name),)).fetchone()
    return Trip(name, float(str(row[0]))) if row else None


def recover_all(place: Place, database: JobDatabase, names: Sequence[str]) -> None:
    """No job waits any more; wait until all breakers are closed again."""
    with database.connect() as connection:
        for name in names:
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(_table(name))))

    def closed() -> bool:
        found = stage.policies(place, NAMESPACE)
        return all(p["status"]["breakers"][0]["state"] == "Closed" for p in found)

    eventually(closed, within=300, what="all breakers are closed", every=1)


def set_interval(place: Place, names: Sequence[str], interval: float) -> None:
    for name in names:
        path = f"{POLICIES}/namespaces/{NAMESPACE}/queuebacklogpolicies/{name}"
        place.api.patch(path, {"spec": {"interval": f"{interval:g}s"}})
    # So that phases are those of the new interval.
    time.sleep(2 * interval)


def judge(result: Result, interval: float, trips: Sequence[Trip], tried: int) -> list[str]:
    """Bar and row of one interval."""
    name = f"interval {interval:g} s"
    seconds = [trip.seconds for trip in trips]
    result.raw[name] = sorted(round(value, 3) for value in seconds)
    if not seconds:
        result.bar(f"trip → flag, {name}", "all set", f"0 of {tried}", ok=False)
        return [name, f"0 of {tried}", "–", "–", "–", "–"]
    # The rule is true once its signal has held for its time, and not when it was first exceeded.
    since_true = [value - HOLDS_SECONDS for value in seconds]
    p50, p99, most = spread(since_true)
    bar = interval + BAR_BEYOND_SECONDS
    complete = len(trips) == tried
    result.bar(
        f"trip visible → flag set, {name}, p99 of {len(trips)}",
        f"≤ {bar:g} s",
        f"{p99} (p50 {p50}, max {most})" + ("" if complete else f"; {tried - len(trips)} never"),
        ok=complete and max(since_true) <= bar,
    )
    return [name, f"{len(trips)} of {tried}", p50, p99, most, spread(seconds)[2]]


HOW: Final = f"""\
One transaction inserts {INSERTED} jobs; the breaker's rule is {TRIPS_AT} waiting for
{HOLDS_SECONDS:g} s, the shortest the API allows. A rule is true, and the trip visible, once its
signal has held that long, so times count from the insert's commit plus 1 s; the last column counts
from the commit itself.
Trips come in random order over {SPREAD_SECONDS:g} s.
Both ends are commit timestamps of PostgreSQL. Each policy has a table, a flag and a target of its
own; all share one database, so one connection reads all tables."""

COLUMNS: Final = ("case", "trips", "p50", "p99", "max", "max from the first commit")


def main() -> int:
    """Trips at 2 s, then a sample at 15 s."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency", description=__doc__)
    parser.add_argument("--policies", type=int, default=30, help="side by side (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="at 2 s (%(default)s)")
    chosen = parser.parse_args()
    names = [f"jobs-{n:02}" for n in range(chosen.policies)]
    result = Result("latency", "From a trip to the pause in effect")
    rows: list[list[str]] = []
    with stage.stage("latency", settings={"track_commit_timestamp": "on"}) as place:
        tables = tuple(_table(name) for name in names)
        database = JobDatabase.create(place.cluster.postgres, "jobs", tables)
        stage.make_namespace(place, NAMESPACE)
        stage.make_secret(place, NAMESPACE, stage.SECRET, database.url)
        stage.make_deployments(place, NAMESPACE, names)
        interval = 2.0
        stage.make_policies(place, NAMESPACE, {n: spec(n, interval) for n in names})
        stage.until_ready(place, NAMESPACE, len(names))
        for interval, rounds in ((2.0, chosen.rounds), (15.0, 1)):
            set_interval(place, names, interval)
            trips: list[Trip] = []
            for number in range(rounds):
                say(f"interval {interval:g} s, round {number + 1} of {rounds}")
                trips += trip_all(database, names, over=SPREAD_SECONDS)
                if number + 1 < rounds or interval == 2.0:
                    recover_all(place, database, names)
            rows.append(judge(result, interval, trips, len(names) * rounds))
    result.tables.append(Table("Trips", COLUMNS, rows))
    result.notes.append(HOW.replace("\n", " "))
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
