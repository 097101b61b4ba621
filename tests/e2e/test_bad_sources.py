"""Queues outside of the database that are named wrongly, or misbehave: one policy for each, all in
one namespace and on few servers, beside a healthy one.

Each has its own reason and fix and takes no step; the healthy one goes on stepping, over the same
Redis; and what is fixed recovers with the next pass or the one after it, without a restart.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

import pytest
from tests.e2e.api import Json, Refused
from tests.e2e.place import Place
from tests.e2e.sources import (
    OBJECTIVES,
    fleet,
    folder,
    in_bullmq,
    in_prometheus,
    own_bull,
    own_prometheus,
    own_redis,
)
from tests.e2e.world import World
from tests.node.bull import Bull, Connection
from tests.node.handles import Behaviour
from tests.prometheus.exporter import Exporter

from local.certificates import Authority, ServerTls
from local.redis import ALL_SLOTS, RedisServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.node,
    pytest.mark.redis,
    pytest.mark.prometheus,
    pytest.mark.timeout(1800),
]

QUEUE: Final = "etl-snapshots"
BACKLOG: Final = 100
HEALTHY: Final = "healthy"
WAITING: Final = "starforge_queue_jobs_waiting_total"
# Passes from the fix to the recovery: the one under way, two intervals, and two on a busy machine.
SOON: Final = 5
# A server that could not be connected to is tried every 2 to 20 s: as often as a policy with the
# default interval searches, and here that is ten passes (twice that before somebody reads).
NEXT_ATTEMPT: Final = 20


def bullmq(secret: str, name: str = QUEUE, *, prefix: str = "bull", ca: str = "") -> Json:
    """`spec.queues` with a URL of its own."""
    read: Json = {
        "url": {"secretKeyRef": {"name": secret, "key": "url"}},
        "name": name,
        "prefix": prefix,
    }
    if ca:
        read["tls"] = {"ca": {"secretKeyRef": {"name": ca, "key": "ca.crt"}}}
    return {"queues": [{"name": "jobs", "bullmq": read, "objectives": OBJECTIVES}]}


class WebPage(BaseHTTPRequestHandler):
    """What answers where another client thinks that a Prometheus is."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        page = b"<!doctype html><title>Grafana</title>"
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def web_page() -> Iterator[str]:
    """Its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), WebPage) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def expired(world: World) -> Iterator[tuple[RedisServer, Authority]]:
    """A Redis whose certificate ran out; its authority is trusted and goes on."""
    authority = Authority(folder(world.place, "ca"))
    hosts = ("127.0.0.1", "localhost")
    worn = authority.issue("redis", hosts=hosts, lifetime=timedelta(seconds=-1))
    tls = ServerTls(worn, authority.certificate_file)
    world.write_secret({"ca.crt": authority.certificate_file.read_text()}, "ca")
    with own_redis(world, secret="expired", tls=tls) as redis:
        yield redis, authority


@dataclass(frozen=True)
class Sources:
    """Everything that policies point at."""

    world: World
    redis: RedisServer
    bull: Bull
    cluster: RedisServer
    expired: RedisServer
    authority: Authority
    prometheus: str
    page: str


@contextlib.contextmanager
def sources(world: World) -> Iterator[Sources]:
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(own_redis(world))
        bull = stack.enter_context(own_bull(world))
        cluster = stack.enter_context(own_redis(world, secret="cluster", slots=ALL_SLOTS))
        worn, authority = stack.enter_context(expired(world))
        exporter = stack.enter_context(Exporter(**{WAITING: float(BACKLOG)}))
        prometheus = stack.enter_context(own_prometheus(world, {"etl": [exporter.address]}))
        prometheus.wait_for(WAITING)
        queue = bull.queue(redis.url(), QUEUE, version=5)
        queue.add_bulk(BACKLOG, "process_snapshot")
        queue.worker(Behaviour(hang=["process_snapshot"]))  # a queue at work is known at once
        old = bull.old_queue(redis.url(), "old", package="bull3")
        for options in ({}, {"delay": 60_000}, {"priority": 2}):
            old.add("x", **options)
        tagged = Connection(cluster=True)
        for prefix in ("{bull}", "{other}"):
            bull.queue(cluster.url(), QUEUE, prefix=prefix, connection=tagged).add("x")
        wrong = redis.url().replace(redis.password, "planted-wrong")
        world.write_secret({"url": wrong}, "wrong-password")
        page = stack.enter_context(web_page())
        yield Sources(world, redis, bull, cluster, worn, authority, prometheus.url, page)


def fix_with(**spec: object) -> Callable[[Sources, str], None]:
    """By another spec."""
    return lambda sources, name: sources.world.apply(name, **spec)


def right_password(sources: Sources, _name: str) -> None:
    sources.world.write_secret({"url": sources.redis.url()}, "wrong-password")


def renewed_certificate(sources: Sources, _name: str) -> None:
    """In the files of the server, which reads them when it starts."""
    sources.authority.server_tls("redis")
    sources.expired.restart()


@dataclass(frozen=True)
class Fault:
    """What is wrong, and how it is reported and fixed."""

    name: str
    spec: Callable[[Sources], Json]
    reason: str
    says: tuple[str, ...]  # words of the message: what is wrong and what to do
    fix: Callable[[Sources, str], None] | None = None
    becomes: str = "AllReadable"  # reason after the fix
    recovers_in: int = SOON  # passes

    def __str__(self) -> str:
        return self.name


FAULTS: Final = (
    Fault(
        "wrong-prefix",
        lambda _: bullmq("redis", prefix="app"),
        "QueueNotFound",
        (f"no BullMQ queue {QUEUE} under prefix app", ".prefix", f"bull:{QUEUE}"),
        fix_with(**bullmq("redis")),
    ),
    Fault(
        "wrong-name",
        lambda _: bullmq("redis", "etl-snapshot"),
        "QueueNotFound",
        ("no BullMQ queue etl-snapshot under prefix bull", ".name", f"bull:{QUEUE}"),
        fix_with(**bullmq("redis")),
    ),
    Fault(
        "bull-3",
        lambda _: bullmq("redis", "old"),
        "NotBullMQ",
        ("bull:old:* has the keys of Bull 3", "move the application to BullMQ"),
    ),
    Fault(
        "no-hash-tag",
        lambda _: bullmq("cluster"),
        "HashTagMissing",
        ("is a cluster", "give prefix or name a hash tag"),
        fix_with(**bullmq("cluster", prefix="{bull}")),
    ),
    Fault(
        "wrong-password",
        lambda _: bullmq("wrong-password"),
        "WrongPassword",
        ("refused the password of user default", "put the current password into the Secret"),
        right_password,
    ),
    Fault(
        "expired-certificate",
        lambda _: bullmq("expired", ca="ca"),
        "TLSFailed",
        ("certificate of Redis at 127.0.0.1", "has expired; renew it"),
        renewed_certificate,
        becomes="QueueNotFound",  # nobody has put a queue there
        recovers_in=NEXT_ATTEMPT,
    ),
    Fault(
        "web-page",
        lambda sources: {"queues": [in_prometheus(sources.page)]},
        "NotPrometheus",
        ("is not a Prometheus", "web page", "correct url"),
    ),
    Fault(
        "wrong-expression",
        lambda sources: {"queues": [in_prometheus(sources.prometheus, waiting="sum(jobs[")]},
        "QueryError",
        ("queues[jobs].prometheus.waiting (sum(jobs[)", "parse error"),
    ),
)


@dataclass(frozen=True)
class Seen:
    """What was reported of each fault while all were in force, and what was done meanwhile."""

    reported: dict[str, Json]
    scaling: dict[str, str]
    scaled: set[str]  # targets whose replicas were written
    passes_to_recover: dict[str, int]
    published: str
    tracebacks: list[Json]


def course(world: World, sources: Sources) -> Seen:
    healthy = sources.bull.queue(sources.redis.url(), HEALTHY, version=6)
    healthy.add_bulk(5000, "export")
    for name in (HEALTHY, *(fault.name for fault in FAULTS)):
        world.deploy(name)
    for fault in FAULTS:
        world.apply(fault.name, target={"name": fault.name}, **fault.spec(sources))
    with fleet(world, healthy, ms=100, target=HEALTHY):
        world.apply(HEALTHY, target={"name": HEALTHY}, queues=[in_bullmq(HEALTHY)])
        for fault in FAULTS:
            world.until_condition("Ready", fault.reason, name=fault.name)
        steps = len(world.scale_writes())
        world.until(lambda: len(world.scale_writes()) >= steps + 2, "two steps of the healthy one")
        reported = {
            fault.name: world.until_condition("Ready", fault.reason, name=fault.name)
            for fault in FAULTS
        }
        scaling = {
            fault.name: str(world.condition("Scaling", fault.name)["status"]) for fault in FAULTS
        }
        scaled = {write.name for write in world.scale_writes()}
        published = "".join(str(world.status(fault.name)) for fault in FAULTS)
        passes = {fault.name: fixed_after(world, sources, fault) for fault in FAULTS if fault.fix}
        world.until_ready(HEALTHY)
    return Seen(reported, scaling, scaled, passes, published, world.tracebacks())


def fixed_after(world: World, sources: Sources, fault: Fault) -> int:
    """Passes of the policy from its fix to its recovery."""
    assert fault.fix is not None
    before = len(world.passes(fault.name))
    fault.fix(sources, fault.name)
    found = world.until_condition("Ready", fault.becomes, name=fault.name)
    passes = world.passes(fault.name)[before:]
    if found["status"] == "True":  # those after the recovery that nobody had read yet
        recovered = datetime.fromisoformat(found["lastTransitionTime"])
        passes = [p for p in passes if datetime.fromisoformat(p["timestamp"]) < recovered]
    return len(passes)


@pytest.fixture(scope="module")
def seen(place: Place) -> Iterator[Seen]:
    with (
        contextlib.closing(World.create(place, place.cluster.postgres)) as world,
        sources(world) as found,
    ):
        yield course(world, found)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_reported_with_its_fix_and_no_step(seen: Seen, fault: Fault) -> None:
    reported = seen.reported[fault.name]
    assert (reported["reason"], reported["status"]) == (fault.reason, "False")
    for words in fault.says:
        assert words in reported["message"]
    assert seen.scaling[fault.name] == "Unknown"
    assert fault.name not in seen.scaled
    assert "planted" not in seen.published


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.fix], ids=str)
def test_recovers_soon(seen: Seen, fault: Fault) -> None:
    assert seen.passes_to_recover[fault.name] <= fault.recovers_in


def test_the_healthy_one_went_on(seen: Seen) -> None:
    assert seen.scaled == {HEALTHY}
    assert seen.tracebacks == []


def test_a_colon_in_a_name_is_refused_at_apply(world: World) -> None:
    world.deploy()
    with pytest.raises(Refused, match="no ':'") as refused:
        world.apply(**bullmq("redis", "etl:snapshots"))
    assert refused.value.status == 422
    assert "etl-snapshots" in str(refused.value)
