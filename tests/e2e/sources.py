"""Queues outside of the database: a Redis, a BullMQ and a Prometheus of a story's own."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.e2e.api import Json
from tests.e2e.place import Place
from tests.e2e.world import SPEC, TARGET, World
from tests.node.bull import Bull
from tests.node.handles import Behaviour, BullQueue, BullWorker

from local.prometheus import PrometheusServer, Targets
from local.redis import RedisServer

REDIS: Final = "redis"  # the Secret
URL: Final[Json] = {"secretKeyRef": {"name": REDIS, "key": "url"}}
# How soon a worker follows the replicas of its target.
TICK: Final = 0.2

# As `queues[].objectives` of the shared spec.
OBJECTIVES: Final[Json] = SPEC["queues"][0]["objectives"]


def folder(place: Place, prefix: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=place.run_dir))


@contextlib.contextmanager
def own_redis(world: World, *, secret: str = REDIS, **options: Any) -> Iterator[RedisServer]:
    """To freeze and kill; its URL is in a Secret."""
    run_dir = folder(world.place, "redis")
    server = RedisServer.start(run_dir, run=world.place.cluster.run, **options)
    with contextlib.closing(server):
        world.write_secret({"url": server.url()}, secret)
        yield server


@contextlib.contextmanager
def own_bull(world: World) -> Iterator[Bull]:
    """A Node.js process with the real BullMQ."""
    with Bull.start(folder(world.place, "bull"), run=world.place.cluster.run) as bull:
        yield bull


@contextlib.contextmanager
def own_prometheus(
    world: World, targets: Targets, *, interval: float = 1.0
) -> Iterator[PrometheusServer]:
    server = PrometheusServer.start(
        folder(world.place, "prometheus"),
        targets=targets,
        interval=interval,
        run=world.place.cluster.run,
    )
    with contextlib.closing(server):
        yield server


def in_bullmq(name: str, **more: object) -> Json:
    """An entry of `spec.queues`; its name in the policy is that in Redis."""
    return {"name": name, "bullmq": {"url": URL, "name": name}, "objectives": OBJECTIVES, **more}


def in_prometheus(url: str, name: str = "jobs", **expressions: str) -> Json:
    """An entry of `spec.queues`. Samples count as old as soon as the API allows."""
    prometheus = {"url": url, "staleAfter": "5s", **expressions}
    return {"name": name, "prometheus": prometheus, "objectives": OBJECTIVES}


@contextlib.contextmanager
def fleet(
    world: World, *queues: BullQueue, ms: int, target: str = TARGET
) -> Iterator[list[BullWorker]]:
    """Pods without a process do no work: a real worker of each queue for each replica does."""
    over = threading.Event()
    workers: list[BullWorker] = []

    def follow() -> None:
        while not over.wait(TICK):
            while len(workers) < world.replicas(target) * len(queues):
                queue = queues[len(workers) % len(queues)]
                workers.append(queue.worker(Behaviour(ms=ms)))

    with ThreadPoolExecutor(1) as together:
        following = together.submit(follow)
        try:
            yield workers
        finally:
            over.set()
            following.result()
