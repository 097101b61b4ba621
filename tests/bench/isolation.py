"""Two policies whose servers never answer, and an API server that is silent: what of the others?

python -m tests.bench.isolation [--starts 3]
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final

import urllib3
from tests.bench import stage
from tests.bench.database import JobDatabase
from tests.bench.machine import started_at
from tests.bench.policies import spec
from tests.bench.result import Result, Table
from tests.bench.stage import say
from tests.bench.start import next_process
from tests.e2e.place import Place

from local.postgres import PostgresServer
from local.processes import Child
from local.waiting import eventually

NAMESPACE: Final = "isolation"
POLICIES: Final = 50
INTERVAL_SECONDS: Final = 15.0
SILENT_SECONDS: Final = 60.0
# Between two reads of /metrics: it is part of the error.
POLL_SECONDS: Final = 0.2
WITHIN_SECONDS: Final = 180.0
NEVER, LATER = "never-read", "hangs-later"


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A URL behind which connections are accepted, by the kernel, and nothing is ever answered."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        host, port = listening.getsockname()
        yield f"postgresql://nobody:none@{host}:{port}/none"


def conditions(place: Place, kind: str) -> dict[str, tuple[str, float]]:
    """By policy: a condition's status as its last pass of this process saw it, and when that pass
    ended (Unix time). Empty while nothing listens."""
    with contextlib.suppress(LookupError, urllib3.exceptions.HTTPError):
        samples = place.metrics()
        found: dict[str, str] = {}
        ended: dict[str, float] = {}
        for (name, labels), value in samples.items():
            of = dict(labels)
            if name == "condition" and of["type"] == kind:
                found[of["policy"]] = of["status"]
            elif name == "last_pass_timestamp_seconds":
                ended[of["policy"]] = value
        return {policy: (status, ended.get(policy, 0.0)) for policy, status in found.items()}
    return {}


def until_all(place: Place, kind: str, names: frozenset[str], since: float) -> float:
    """Unix time at which each of them has a pass that ended after `since` and has the condition
    True."""

    def found() -> float | None:
        found = conditions(place, kind)
        good = {n for n, (status, ended) in found.items() if status == "True" and ended > since}
        return time.time() if names <= good else None

    what = f"{kind} of {len(names)} policies"
    return eventually(found, within=WITHIN_SECONDS, what=what, every=POLL_SECONDS)


def api_server(place: Place) -> Child:
    assert place.cluster.control_plane is not None
    return next(c for c in place.cluster.control_plane.children if c.name == "kube-apiserver")


def silence(place: Place, names: frozenset[str]) -> tuple[float, float]:
    """Seconds after an API server that was silent answers again: until each has passed, and until
    each can read everything again."""
    server = api_server(place)
    server.signal_group(signal.SIGSTOP)
    try:
        say(f"the API server is silent for {SILENT_SECONDS:g} s")
        time.sleep(SILENT_SECONDS)
    finally:
        back = time.time()
        server.signal_group(signal.SIGCONT)
    all_names = frozenset({*names, NEVER, LATER})

    def passed() -> float | None:
        found = conditions(place, "Ready")
        again = {name for name, (_, ended) in found.items() if ended > back}
        return time.time() if all_names <= again else None

    what = f"a pass of all {POLICIES} policies"
    first = eventually(passed, within=WITHIN_SECONDS, what=what, every=POLL_SECONDS)
    return first - back, until_all(place, "Ready", names, back) - back


@contextlib.contextmanager
def crowd(place: Place) -> Iterator[frozenset[str]]:
    """All policies; the names of those whose servers are well. One names a server that never
    answered, one a server that was read and then hangs."""
    with contextlib.ExitStack() as stack:
        names = [f"worker-{n}" for n in range(POLICIES - 2)]
        folder = place.run_dir / "other"
        folder.mkdir()
        other = PostgresServer.start(folder, max_connections=50, run=place.cluster.run)
        stack.callback(other.close)
        well = JobDatabase.create(place.cluster.postgres, "jobs", ("queue_jobs",))
        hangs = JobDatabase.create(other, "jobs", ("queue_jobs",))
        urls: Mapping[str, str] = {
            "well": well.url,
            NEVER: stack.enter_context(black_hole()),
            LATER: hangs.url,
        }
        stage.make_namespace(place, NAMESPACE)
        for secret, url in urls.items():
            stage.make_secret(place, NAMESPACE, secret, url)
        stage.make_deployments(place, NAMESPACE, [*names, NEVER, LATER])
        specs = {name: spec(name, "well", n) for n, name in enumerate(names)}
        specs |= {name: spec(name, name, 0) for name in (NEVER, LATER)}
        stage.make_policies(place, NAMESPACE, specs)
        until_all(place, "DatabaseHeadroom", frozenset({*names, LATER}), 0.0)
        other.freeze()
        stack.callback(other.thaw)
        yield frozenset(names)


HOW: Final = f"""\
{POLICIES} policies with an interval of {INTERVAL_SECONDS:g} s: {POLICIES - 2} on one PostgreSQL
server, one whose URL leads to a port that accepts and never answers, one whose server was read
before and is stopped (SIGSTOP). First the operator is killed and started again. Time counts from
the kernel's start of the process until each of the {POLICIES - 2} has a budget again (condition
DatabaseHeadroom, from /metrics, which has only passes of this process). Then the API server is
stopped for {SILENT_SECONDS:g} s and continued. Time counts until each policy's first pass after
that has ended, and until each of the {POLICIES - 2} has read everything again."""


def main() -> int:
    """Starts, then a silence."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.isolation", description=__doc__)
    parser.add_argument("--starts", type=int, default=3)
    chosen = parser.parse_args()
    result = Result("isolation", "Policies whose sources never answer, among others")
    with (
        stage.stage("isolation", max_connections=200) as place,
        crowd(place) as names,
    ):
        starts = []
        for number in range(chosen.starts):
            began = started_at(next_process(place))
            starts.append(until_all(place, "DatabaseHeadroom", names, began) - began)
            say(f"start {number + 1} of {chosen.starts}: {starts[-1]:.1f} s")
        passed, ready = silence(place, names)
        restarts = place.restarts()
    result.bar(
        f"start → each of {len(names)} others has decided with a budget, max of {chosen.starts}",
        f"≤ {2 * INTERVAL_SECONDS:g} s",
        f"{max(starts):.1f} s",
        max(starts) <= 2 * INTERVAL_SECONDS,
    )
    result.bar(
        f"API server silent for {SILENT_SECONDS:g} s: all {POLICIES} policies have passed again",
        f"≤ {INTERVAL_SECONDS:g} s",
        f"{passed:.1f} s",
        passed <= INTERVAL_SECONDS,
    )
    rows = [["start", f"{seconds:.1f} s"] for seconds in starts]
    rows += [["API server back: all have passed", f"{passed:.1f} s"]]
    rows += [["API server back: the others read everything", f"{ready:.1f} s"]]
    result.tables.append(Table("Seconds until all are back", ("after", "took"), rows))
    result.notes.append(HOW.replace("\n", " "))
    result.raw = {"starts": starts, "passed": passed, "ready": ready, "restarts": restarts}
    return result.save()


if __name__ == "__main__":
    sys.exit(main())
