"""What other clients do to a database, and workers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg
from tests.e2e.world import TARGET, World

# Jobs per second of one worker, and how often the workers of a test finish some.
WORKER_SPEED: Final = 12
TICK: Final = 0.25


@contextlib.contextmanager
def waiting_for_locks(world: World, number: int) -> Iterator[None]:
    """So many sessions wait for a lock that another one holds, until the block ends."""
    world.store.run("CREATE TABLE IF NOT EXISTS contested (id int)")

    def wait() -> None:
        quietly = contextlib.suppress(psycopg.Error)
        with quietly, world.store.connect() as waiter, waiter.transaction():
            waiter.execute("LOCK TABLE contested IN ACCESS EXCLUSIVE MODE")

    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with (
        ThreadPoolExecutor(number) as together,
        world.store.connect() as holder,
        holder.transaction(),
    ):
        holder.execute("LOCK TABLE contested IN ACCESS EXCLUSIVE MODE")
        for _ in range(number):
            together.submit(wait)
        world.until(lambda: world.store.rows(waiting)[0][0] >= number, "sessions that wait")
        yield


@contextlib.contextmanager
def workers(world: World, *targets: str) -> Iterator[None]:
    """Pods without a process do no work: this does it for them, so much for each replica."""
    over = threading.Event()

    def work() -> None:
        # By the time that passed: on a busy machine a tick comes late, and the work is no less.
        owed, before = 0.0, time.monotonic()
        while not over.wait(TICK):
            replicas = sum(world.replicas(name) for name in targets or (TARGET,))
            now = time.monotonic()
            owed += replicas * WORKER_SPEED * (now - before)
            before = now
            world.store.finish(int(owed))
            owed %= 1

    with ThreadPoolExecutor(1) as together:
        working = together.submit(work)
        try:
            yield
        finally:
            over.set()
            working.result()
