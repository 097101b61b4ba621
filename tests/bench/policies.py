"""Many policies on one operator: are passes on time, and what do they cost when nothing happens?

python -m tests.bench.policies [--seconds 180] [--only NAME]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.bench import stage
from tests.bench.database import JobDatabase
from tests.bench.pages import NO_REST
from tests.bench.result import Result, Table
from tests.bench.stage import say
from tests.bench.watching import Cost, Watching
from tests.e2e.api import CORE, Json
from tests.e2e.place import Place

from local.errors import LocalError
from local.waiting import eventually

INTERVAL_SECONDS: Final = 15.0
# After the last policy is Ready: first status writes, and the peaks of the first minute.
SETTLE_SECONDS: Final = 60.0
LATEST_SECONDS: Final = 1.0
# Room in the budget for 200 targets of one connection each, their surge and the headroom.
MAX_CONNECTIONS: Final = 500
CLEAR_SECONDS: Final = 300.0
# Types of jobs that share the table among the policies.
TYPES: Final = 20


@dataclass(frozen=True)
class Case:
    """So many policies, spread over so many databases."""

    name: str
    policies: int
    databases: int
    seconds_share: float  # of --seconds
    bars: bool  # or for information only


CASES: Final = (
    Case("200 policies, one database", 200, 1, 1.0, bars=True),
    Case("200 policies, 10 databases", 200, 10, 0.5, bars=True),
    Case("1,000 policies, one database", 1000, 1, 0.35, bars=False),
)


def spec(target: str, secret: str, number: int) -> Json:
    """The policy of the README with a breaker: everything that a pass can read is read."""
    return {
        "interval": f"{INTERVAL_SECONDS:g}s",
        "target": {"name": target},
        "database": {"url": {"secretKeyRef": {"name": secret, "key": stage.KEY}}},
        "queues": [{"name": "jobs", "postgres": {"types": [f"type-{number % TYPES}"]}}],
        "producers": [{"name": "ingestion", "featureFlag": {}}],
        "breakers": [
            {"name": "ingestion", "pause": ["ingestion"], "trip": [{"waiting": 5000, "for": "10m"}]}
        ],
    }


def run(place: Place, case: Case, seconds: float) -> Cost:
    """One case in a namespace of its own, cleared away at the end."""
    number = CASES.index(case)
    namespace = f"policies-{number}"
    databases = [
        JobDatabase.create(place.cluster.postgres, f"{namespace}-{n}", ("queue_jobs",))
        for n in range(case.databases)
    ]
    stage.make_namespace(place, namespace)
    for n, database in enumerate(databases):
        stage.make_secret(place, namespace, f"{stage.SECRET}-{n}", database.url)
    names = [f"worker-{n:04}" for n in range(case.policies)]
    say(f"{case.name}: making as many targets")
    stage.make_deployments(place, namespace, names)
    say(f"{case.name}: making the policies")
    watching = Watching(place, databases, INTERVAL_SECONDS)
    stage.make_policies(
        place,
        namespace,
        {
            name: spec(name, f"{stage.SECRET}-{n % case.databases}", n)
            for n, name in enumerate(names)
        },
    )
    stage.until_ready(place, namespace, case.policies, within=300)
    say(f"{case.name}: all Ready; settling for {SETTLE_SECONDS:g} s")
    time.sleep(SETTLE_SECONDS)
    say(f"{case.name}: watching for {seconds:g} s")
    before = stage.policies(place, namespace)
    watching.start()
    time.sleep(seconds)
    cost = watching.stop()
    if cost.writes:
        say(f"written: {counts(changed(before, stage.policies(place, namespace)))}")
    say(f"{case.name}: {cost.passes} passes, {cost.lateness.above(LATEST_SECONDS)} late")
    _clear(place, namespace)
    return cost


def _clear(place: Place, namespace: str) -> None:
    """Policies first: their finalizers need the operator. kubectl would wait for one by one."""
    place.cluster.kubectl(
        *("delete", "qbp", "--all", "-n", namespace, "--wait=false"), timeout=CLEAR_SECONDS
    )
    eventually(
        lambda: not stage.policies(place, namespace),
        within=CLEAR_SECONDS,
        what="policies are gone",
        every=1,
    )
    place.api.delete(f"{CORE}/namespaces/{namespace}")


def changed(before: Sequence[Json], after: Sequence[Json]) -> Counter[str]:
    """What is another value now than before, in how many policies: why a status was written."""
    old = {policy["metadata"]["name"]: policy.get("status") or {} for policy in before}
    found: Counter[str] = Counter()
    for policy in after:
        earlier = old[policy["metadata"]["name"]]
        now = policy.get("status") or {}
        found.update(_differences("status", earlier, now))
    return found


def _differences(path: str, before: object, now: object) -> list[str]:
    """Leaves that differ, each in a line that fits a page."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [d for k in keys for d in _differences(f"{path}.{k}", before.get(k), now.get(k))]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [d for n, (a, b) in pairs for d in _differences(f"{path}[{n}]", a, b)]
    return [] if before == now else [f"{path}: {str(before)[:60]} → {str(now)[:60]}"]


def judge(result: Result, case: Case, cost: Cost) -> None:
    """Bars of one case."""
    late = cost.lateness.above(LATEST_SECONDS)
    expected = case.policies * cost.seconds / INTERVAL_SECONDS
    measured = f"{late} of {cost.passes}, p99 ≤ {cost.lateness.up_to(99):g} s"
    result.bar(
        f"{case.name}: passes late by more than 1 s",
        "none",
        measured,
        late == 0 and cost.passes > 0.9 * expected,
    )
    writes = len(cost.writes)
    result.bar(f"{case.name}: API writes while nothing changes", "0", str(writes), writes == 0)
    most = cost.most_connections
    result.bar(f"{case.name}: connections to each database", "1", str(most), most == 1)


def fail(result: Result, case: Case, why: str) -> None:
    """A case that never came to rest is a result as well."""
    say(f"{case.name}: {why}")
    result.notes.append(f"{case.name}: {NO_REST}: {why[:300]}")
    if case.bars:
        result.bar(f"{case.name}: all Ready", "yes", "no", ok=False)


def row(case: Case, cost: Cost) -> list[str]:
    per_pass = sum(cost.requests.values()) / max(1, cost.passes)
    return [
        case.name,
        f"{cost.passes} in {cost.seconds:.0f} s",
        " / ".join(f"≤ {cost.lateness.up_to(p):g}" for p in (50, 99, 100)) + " s",
        f"≤ {cost.duration.up_to(50):g} / ≤ {cost.duration.up_to(99):g} s",
        f"{cost.worst_gap:+.2f} s",
        f"{per_pass:.2f}",
        str(len(cost.writes)),
        f"{cost.transactions * INTERVAL_SECONDS:.1f}",
        f"{cost.rss_megabytes:.0f} MB",
        f"{cost.cores:.2f}",
        str(cost.restarts),
    ]


HOW: Final = f"""\
Each policy has a target, a queue (one of {TYPES} types in queue_jobs), a flag and a breaker. The
measurement begins {SETTLE_SECONDS:g} s after all of them are Ready. No job arrives or ends.
Lateness and duration: upper bounds of the buckets of the operator's own histograms. Requests and
writes: the API server's audit log. Transactions: pg_stat_database; one statement of the operator is
one transaction. RSS and cores: /proc."""

COLUMNS: Final = (
    "case",
    "passes",
    "late p50 / p99 / max",
    "duration p50 / p99",
    "longest gap − 15 s",
    "API requests per pass",
    "API writes",
    "transactions per database and interval",
    "RSS",
    "cores",
    "restarts",
)


def counts(counter: Counter[str]) -> str:
    """For a line: the ten that are most."""
    return ", ".join(f"{count} × {what}" for what, count in counter.most_common(10))


def main() -> int:
    """Run all cases in one cluster."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.policies", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="of the main case (%(default)s)")
    parser.add_argument("--only", help="cases whose name contains this")
    chosen = parser.parse_args()
    result = Result("policies", "Many policies on one operator")
    rows: list[list[str]] = []
    with stage.stage("policies", max_connections=MAX_CONNECTIONS) as place:
        for case in CASES:
            if chosen.only and chosen.only not in case.name:
                continue
            try:
                cost = run(place, case, chosen.seconds * case.seconds_share)
            except (LocalError, LookupError, OSError) as error:
                fail(result, case, str(error))
                continue
            rows.append(row(case, cost))
            if case.bars:
                judge(result, case, cost)
            result.notes.append(f"{case.name}: requests: {counts(cost.requests)}.")
            for write in cost.writes[:5]:
                result.notes.append(f"{case.name}: write: {write.verb} {write.path}.")
            result.raw[case.name] = {
                "lateness": cost.lateness.buckets,
                "duration": cost.duration.buckets,
                "requests": dict(cost.requests),
            }
    result.tables.append(Table("What it costs", COLUMNS, rows))
    result.notes.append(HOW.replace("\n", " "))
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
