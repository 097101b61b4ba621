"""The API server silent: the passes of every policy go on by themselves, whatever its
sources are, nothing is done on what is not known, and nobody has to restart anything (P2, P11)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Final
from urllib.request import urlopen

import pytest
import urllib3
from tests.e2e.api import Json
from tests.e2e.place import STARTS_WITHIN, Place
from tests.e2e.sources import URL, in_bullmq, own_redis
from tests.e2e.world import INTERVAL, SECRET, SPEC, World

from local.processes import Child
from local.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# Longer than every limit of a request, of a pass and of the framework's own requests (30 s).
SILENT_SECONDS: Final = 38.0
# A pass that began while it was silent waits for its requests' limits; then its next is due. That
# is 20 s; the rest is for a busy machine, and nobody restarts anything meanwhile.
BACK_WITHIN: Final = 180.0

DATABASE_SOURCE: Final = {"secretKeyRef": {"name": SECRET, "key": "DATABASE_URL"}}
BRAKE: Final = {"name": "brake", "queue": {"url": URL, "name": "other"}}
# One policy of each kind of source and of each kind of producer.
POLICIES: Final[dict[str, Json]] = {
    "table": {
        "producers": [
            {"name": "flag", "featureFlag": {}},
            {"name": "types", "jobTypes": {"types": ["process_snapshot"]}},
            {"name": "backfills", "backfillJobs": {}},
        ]
    },
    "redis": {"database": None, "queues": [in_bullmq("jobs")], "producers": [BRAKE]},
    "both": {"queues": [*SPEC["queues"], in_bullmq("more")], "producers": [BRAKE]},
    "objects": {
        "producers": [
            {"name": "map", "configMap": {"name": "crawl"}},
            {"name": "importer", "workload": {"kind": "CronJob", "name": "import"}},
        ]
    },
    "series": {
        "database": None,
        "queues": [
            {
                "name": "jobs",
                "prometheus": {
                    "url": "http://127.0.0.1:9",
                    "waiting": "jobs",
                    "auth": {"bearerToken": DATABASE_SOURCE},
                },
            }
        ],
    },
}


@pytest.fixture
def crowd(world: World) -> Iterator[World]:
    """All of them, each with a target of its own; each has had passes."""
    with own_redis(world):
        for name, parts in POLICIES.items():
            world.deploy(name)
            world.apply(name, target={"name": name, "maxReplicas": 1}, **parts)
        for name in POLICIES:
            world.until_passes(2, name)
        yield world


def api_server(place: Place) -> Child:
    assert place.cluster.control_plane is not None
    (child,) = (c for c in place.cluster.control_plane.children if c.name == "kube-apiserver")
    return child


def passes_of_all(world: World) -> dict[str, int]:
    return {name: len(world.passes(name)) for name in POLICIES}


def all_pass_again(world: World, what: str) -> None:
    """Once the API server answers, each policy has two more passes whose status it has."""
    eventually(lambda: answers(world), within=STARTS_WITHIN, what=f"the API server {what}")
    before = stored_of_all(world)

    def poll() -> bool:
        now = stored_of_all(world)
        return all(now[name] >= before[name] + 2 for name in POLICIES)

    world.until(poll, f"two passes of each after the API server {what}", BACK_WITHIN + 2 * INTERVAL)


def answers(world: World) -> bool:
    try:
        return bool(world.api.get("/version"))
    except urllib3.exceptions.HTTPError:
        return False


def stored_of_all(world: World) -> dict[str, int]:
    """Passes whose status is on the API server."""
    return {
        name: sum(line["status"] in {"Written", "Unchanged"} for line in world.passes(name))
        for name in POLICIES
    }


def test_passes_go_on_beside_a_silent_api_server(place: Place, crowd: World) -> None:
    restarts, before, address = place.restarts(), passes_of_all(crowd), place.address()
    server = api_server(place)
    with silent(server):
        time.sleep(SILENT_SECONDS)
        meanwhile = passes_of_all(crowd)
        probes = [probe(f"{address}/{path}") for path in ("healthz", "readyz")]
    assert all(meanwhile[name] > before[name] for name in POLICIES), (before, meanwhile)
    assert probes == [200, 200], "a restart would fix nothing"
    all_pass_again(crowd, "answers again")

    assert place.restarts() == restarts
    assert crowd.scale_writes() == []
    assert crowd.tracebacks() == []
    assert [line for line in crowd.log() if "has a bug" in str(line.get("event"))] == []


def probe(url: str) -> int:
    """Without the API server, which `Place.probe` asks for the address."""
    with urlopen(url, timeout=30) as answer:
        return int(answer.status)


@contextlib.contextmanager
def silent(server: Child) -> Iterator[None]:
    """Its connections stay open, new ones are accepted by the kernel, nothing is answered."""
    server.signal_group(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal_group(signal.SIGCONT)
