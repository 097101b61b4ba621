"""A source that hangs: are the policies that do not name it still on time?

python -m tests.bench.hanging [--policies 60] [--seconds 20]

Of two Redis servers, two PostgreSQL servers and two of Prometheus one of each is stopped in turn
(SIGSTOP): its connections stay open, new ones are accepted by the kernel, nothing is answered.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final, Protocol

from tests.bench import mixed_sources, stage
from tests.bench.database import JobDatabase
from tests.bench.machine import waited_seconds_of
from tests.bench.result import Result, Table, percentile
from tests.bench.stage import say
from tests.e2e.api import Json
from tests.e2e.place import Place
from tests.node.bull import Bull

from local.postgres import PostgresServer
from local.waiting import eventually

NAMESPACE: Final = "hanging"
# The shorter, the more passes there are to be late; the deadline of a pass is 80 % of it.
INTERVAL_SECONDS: Final = 3.0
BAR_SECONDS: Final = 0.1
# Rates are known half of scaling.observeFor (90 s) after the first pass, and each status is written
# once more then; that is not to be taken for what a server that hangs does.
SETTLE_SECONDS: Final = 50.0
RECOVERED_WITHIN: Final = 60.0
# Between one that is back and the next that goes.
BREATHER_SECONDS: Final = 2 * INTERVAL_SECONDS
QUEUES: Final = 4  # on each Redis
MAX_CONNECTIONS: Final = 100
KINDS: Final = ("redis", "postgres", "prometheus")
GROUPS: Final = tuple(f"{kind}-{one}" for kind in KINDS for one in "ab")
FROZEN: Final = ("redis-a", "postgres-b", "prometheus-a")


class Server(Protocol):
    """What can hang."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


@dataclass(frozen=True)
class World:
    """The servers by group, and each group's policies."""

    place: Place
    servers: Mapping[str, Server]
    names: Mapping[str, Sequence[str]]

    def others(self, group: str) -> frozenset[str]:
        """Policies that do not name the group's server."""
        return frozenset(name for g, names in self.names.items() if g != group for name in names)

    def ends(self, since: float, until: float) -> dict[str, list[float]]:
        """When each policy's passes ended (unix time), by the operator's log."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for line in self.place.log():
            if "status" in line and "policy" in line:
                at = datetime.fromisoformat(line["timestamp"]).timestamp()
                if since <= at < until:
                    found[line["policy"].partition("/")[2]].append(at)
        return found

    def all_ready(self) -> bool:
        many = sum(map(len, self.names.values()))
        found = stage.policies(self.place, NAMESPACE)
        return sum(map(stage.is_ready, found)) == many


@dataclass(frozen=True)
class Phase:
    """How late passes ended, in seconds: against the same policy's median in the calm."""

    name: str
    delays: list[float]
    missing: int  # passes that should have ended in this time and did not
    worst_gap: float  # seconds between two ends of one policy, beyond the interval
    waited: float  # share of the time in which the operator waited for a core

    def at(self, percent: float) -> float:
        return percentile(self.delays, percent)


def offset(moment: float, reference: float) -> float:
    """Seconds after the nearest moment that is whole intervals from the reference."""
    half = INTERVAL_SECONDS / 2
    return (moment - reference + half) % INTERVAL_SECONDS - half


def references(ends: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """When in its interval each policy's passes end, in the calm."""
    return {
        name: times[0] + statistics.median(offset(at, times[0]) for at in times)
        for name, times in ends.items()
    }


def phase(
    name: str,
    ends: Mapping[str, Sequence[float]],
    policies: frozenset[str],
    reference: Mapping[str, float],
    seconds: float,
    waited: float,
) -> Phase:
    """Of some policies."""
    delays = [offset(at, reference[p]) for p in policies for at in ends.get(p, ())]
    expected = len(policies) * int(seconds / INTERVAL_SECONDS)
    gaps = [b - a for p in policies for a, b in pairwise(ends.get(p, ()))]
    missing, longest = max(0, expected - len(delays)), max(gaps, default=0.0)
    return Phase(name, delays, missing, longest - INTERVAL_SECONDS, waited / seconds)


def spec(group: str, number: int, target: str, url: str) -> Json:
    """A policy with the group's server as its only source; `url`: of a Prometheus."""
    shared = {"interval": f"{INTERVAL_SECONDS:g}s", "target": {"name": target}}
    if group.startswith("redis"):
        queue = mixed_sources.in_redis(group, f"etl-{number % QUEUES}")
        paused = {"url": mixed_sources.secret(group), "name": f"etl-{(number + 1) % QUEUES}"}
        return {**shared, "queues": [queue], **mixed_sources.paused_by({"queue": paused})}
    if group.startswith("prometheus"):
        return {**shared, "queues": [mixed_sources.in_prometheus(url, number)]}
    return {
        **shared,
        "database": {"url": mixed_sources.secret(group)},
        "queues": [mixed_sources.in_table(QUEUES, number)],
        **mixed_sources.paused_by({"featureFlag": {}}),
    }


@contextlib.contextmanager
def world(place: Place, many: int) -> Iterator[World]:
    """The servers and the policies, all Ready."""
    with contextlib.ExitStack() as stack:
        bull = stack.enter_context(Bull.start(place.run_dir, run=place.cluster.run))
        queues = [f"etl-{number}" for number in range(QUEUES)]
        stage.make_namespace(place, NAMESPACE)
        servers: dict[str, Server] = {}
        for group in ("redis-a", "redis-b"):
            server = mixed_sources.start_redis(stack, place, bull, queues, group)
            stage.make_secret(place, NAMESPACE, group, server.url())
            servers[group] = server
        urls = dict.fromkeys(GROUPS, "")
        for group in ("prometheus-a", "prometheus-b"):
            prometheus = mixed_sources.start_prometheus(stack, place, group)
            servers[group], urls[group] = prometheus, prometheus.url
        folder = place.run_dir / "other"
        folder.mkdir()
        other = PostgresServer.start(folder, max_connections=MAX_CONNECTIONS, run=place.cluster.run)
        stack.callback(other.close)
        for group, postgres in (("postgres-a", place.cluster.postgres), ("postgres-b", other)):
            database = JobDatabase.create(postgres, group, ("queue_jobs",))
            stage.make_secret(place, NAMESPACE, group, database.url)
            servers[group] = postgres
        names = {g: [f"{g}-{n:02}" for n in range(many // len(GROUPS))] for g in GROUPS}
        everybody = [name for group in GROUPS for name in names[group]]
        say(f"making {len(everybody)} targets and policies")
        stage.make_deployments(place, NAMESPACE, everybody)
        specs = {
            name: spec(group, number, name, urls[group])
            for group in GROUPS
            for number, name in enumerate(names[group])
        }
        stage.make_policies(place, NAMESPACE, specs)
        stage.until_ready(place, NAMESPACE, len(everybody))
        yield World(place, servers, names)


@dataclass(frozen=True)
class Freeze:
    """One server that hung, and the others in the calm before and meanwhile."""

    group: str
    before: Phase
    during: Phase
    reported: int  # policies of the server that say that it does not answer


def freeze(found: World, group: str, seconds: float) -> Freeze:
    """Calm, then the same time with the server stopped."""
    say(f"{group}: {seconds:g} s of calm")
    pid = found.place.pid()
    calm, waited = time.time(), waited_seconds_of(pid)
    time.sleep(seconds)
    frozen, waited_calm = time.time(), waited_seconds_of(pid) - waited
    found.servers[group].freeze()
    try:
        say(f"{group}: stopped for {seconds:g} s")
        time.sleep(seconds)
        until, waited_frozen = time.time(), waited_seconds_of(pid) - waited - waited_calm
        policies = stage.policies(found.place, NAMESPACE)
        reported = sum(
            p["metadata"]["name"] in found.names[group] and not stage.is_ready(p) for p in policies
        )
    finally:
        found.servers[group].thaw()
    others = found.others(group)
    before, during = found.ends(calm, frozen), found.ends(frozen, until)
    reference = references(before)
    result = Freeze(
        group,
        phase("before", before, others, reference, frozen - calm, waited_calm),
        phase("during", during, others, reference, until - frozen, waited_frozen),
        reported,
    )
    say(f"{group}: others' p99 {result.before.at(99):.3f} s before, {result.during.at(99):.3f} s")
    eventually(found.all_ready, within=RECOVERED_WITHIN, what=f"{group} is back", every=1)
    time.sleep(BREATHER_SECONDS)
    return result


def judge(result: Result, found: Freeze, policies: int) -> None:
    for percent, name in ((99, "p99"), (100, "the latest")):
        before, during = found.before.at(percent), found.during.at(percent)
        result.bar(
            f"{found.group} hangs: passes of the others end later, {name} of"
            f" {len(found.during.delays)}",
            f"≤ {BAR_SECONDS * 1000:g} ms",
            f"{(during - before) * 1000:+.0f} ms",
            during - before <= BAR_SECONDS,
        )
    missing = found.during.missing
    result.bar(
        f"{found.group} hangs: passes of the others left out", "0", str(missing), not missing
    )
    result.bar(
        f"{found.group} hangs: its own policies say so",
        str(policies),
        str(found.reported),
        found.reported == policies,
    )


def rows(found: Freeze) -> Iterator[list[str]]:
    for one in (found.before, found.during):
        yield [
            found.group,
            one.name,
            str(len(one.delays)),
            *(f"{one.at(percent) * 1000:+.0f} ms" for percent in (50, 99, 100)),
            f"{one.worst_gap * 1000:+.0f} ms",
            f"{one.waited:.1%}",
        ]


COLUMNS: Final = (
    "source",
    "when",
    "passes of the others",
    "end later: p50",
    "p99",
    "max",
    f"longest gap − {INTERVAL_SECONDS:g} s",
    "operator waited for a core",
)
HOW: Final = f"""\
Each policy has a target and one source (a queue to read and a queue to pause on one of two Redis
servers, a table and a flag on one of two PostgreSQL servers, or series of one of two Prometheus
servers), with an interval of {INTERVAL_SECONDS:g} s. A server is stopped with SIGSTOP, all its
processes at once. The end of a pass is read from the operator's log. It is compared with the median
position within the interval at which the same policy's passes ended in the calm phase just before.
So the delay includes late starts and long passes alike."""


def main() -> int:
    """One cluster, one server after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hanging", description=__doc__)
    parser.add_argument("--policies", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=18, help="of each phase (%(default)s)")
    chosen = parser.parse_args()
    result = Result("hanging", "A source that hangs")
    table: list[list[str]] = []
    with (
        stage.stage("hanging", max_connections=MAX_CONNECTIONS) as place,
        world(place, chosen.policies) as found,
    ):
        say(f"all Ready; settling for {SETTLE_SECONDS:g} s")
        time.sleep(SETTLE_SECONDS)
        for group in FROZEN:
            frozen = freeze(found, group, chosen.seconds)
            judge(result, frozen, len(found.names[group]))
            table += rows(frozen)
            result.raw[group] = {
                one.name: sorted(round(delay, 4) for delay in one.delays)
                for one in (frozen.before, frozen.during)
            }
    result.tables.append(Table("The policies that do not name it", COLUMNS, table))
    result.notes.append(HOW.replace("\n", " "))
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
