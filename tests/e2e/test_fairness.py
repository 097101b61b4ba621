"""Several policies on one database: the important one gets its share, and who holds it says so."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final

import pytest
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.trouble import TICK, WORKER_SPEED
from tests.e2e.world import SPEC, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# Of a server of its own: room for six pods of five connections, both policies together.
CONNECTIONS: Final = 36
POOL: Final = 5
HEADROOM: Final = 2
STORM: Final = 20_000  # jobs; more than the workers of a story can do
WITHIN: Final = 300.0


def make(world: World, name: str, priority: str) -> None:
    """A target with a queue of its own: jobs of its type."""
    world.deploy(name, env={"PG_POOL_MAX": str(POOL)}, strategy={"type": "Recreate"})
    queue = {**SPEC["queues"][0], "priority": priority, "postgres": {"types": [name]}}
    world.apply(
        name,
        target={"name": name},
        queues=[queue],
        database={
            **SPEC["database"],
            "headroom": HEADROOM,
            "pressure": {"utilizationPercent": 100},
        },
        # Rates need five seconds, and a step must be judged by them.
        scaling={**SPEC["scaling"], "observeFor": "5s"},
    )


def storm(world: World, *names: str) -> None:
    for name in names:
        world.store.enqueue(STORM, kind=name)


@contextlib.contextmanager
def working(world: World, *names: str) -> Iterator[None]:
    """Pods without a process do no work: this does it for them, so much for each replica."""
    over = threading.Event()

    def work() -> None:
        # By the time that passed: on a busy machine a tick comes late, and the work is no less.
        owed, before = dict.fromkeys(names, 0.0), time.monotonic()
        while not over.wait(TICK):
            now = time.monotonic()
            for name in names:
                owed[name] += world.replicas(name) * WORKER_SPEED * (now - before)
                finish(world, name, int(owed[name]))
                owed[name] %= 1
            before = now

    with ThreadPoolExecutor(1) as together:
        running = together.submit(work)
        try:
            yield
        finally:
            over.set()
            running.result()


def finish(world: World, kind: str, number: int) -> None:
    world.store.execute(
        "UPDATE queue_jobs SET status = 'done', updated_at = now() WHERE id IN"
        " (SELECT id FROM queue_jobs WHERE type = %s AND status = 'pending' LIMIT %s)",
        (kind, number),
    )


def budget(world: World, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = world.status(name)["budget"]
    return found


def the_important_one_gets_it_step_by_step(world: World) -> None:
    """Background has filled the server; then a critical policy is made, with work for more."""
    make(world, "backfill", "Background")
    make(world, "orders", "Critical")
    world.until_ready("orders")
    storm(world, "backfill")
    with working(world, "backfill", "orders"):
        held = world.until_condition("Scaling", "BudgetExhausted", name="backfill", within=WITHIN)
        most = world.replicas("backfill")
        assert most >= 4, held
        storm(world, "orders")
        reported = world.until(lambda: held_back(world, "orders"), "the holder is named", WITHIN)
        assert f"{world.namespace}/backfill holds {most * POOL} connections" in reported["message"]
        world.until(lambda: world.replicas("orders") >= most - 1, "its share", WITHIN)
        assert world.replicas("backfill") <= 2
    writes = [write for write in world.scale_writes() if write.name == "backfill"]
    steps = [write.replicas for write in writes if write.replicas is not None]
    after = steps[steps.index(most) :]
    # What the other does not use for a moment may come back, and is given back once more.
    assert all(a - b <= 1 for a, b in pairwise(after)), f"given back one at a time: {after}"
    assert min(after) <= 2
    assert "ScaledOverShare" in world.reasons("backfill")
    assert world.tracebacks() == []


def held_back(world: World, name: str) -> Mapping[str, Any] | None:
    """The condition that says what holds it, once that is the share of another one."""
    found = world.condition("Scaling", name)
    return found if "holds" in found["message"] else None


def released_by_suspension_and_deletion(world: World) -> None:
    """What a sleeping policy asked for is the other's; what a deleted one's pods hold as well, once
    they are gone."""
    for name in ("backfill", "orders"):
        make(world, name, "Background" if name == "backfill" else "Critical")
    for name in ("backfill", "orders"):
        world.until_ready(name)
    storm(world, "orders", "backfill")
    with working(world, "backfill", "orders"):
        world.until(lambda: world.replicas("orders") >= 2, "a step of the important one", WITHIN)
        world.apply("orders", suspend=True)
        world.until_condition("Scaling", "Suspended", name="orders")
        kept = world.replicas("orders")
        world.until(lambda: world.replicas("backfill") >= 3, "what it asked for", WITHIN)
        assert world.replicas("orders") == kept
        share = world.until(lambda: budget(world, "backfill").get("share"), "its share")
        world.delete("orders")
        world.until_gone("orders")
        world.scale(0, "orders")
        world.until(lambda: world.replicas("backfill") > share, "what its pods held", WITHIN)
        world.until(lambda: "share" not in budget(world, "backfill"), "it is alone")


OWN_SERVER: Final = CONNECTIONS  # max_connections; what a story takes is not another's budget
STORIES: Final[tuple[Story, ...]] = (
    the_important_one_gets_it_step_by_step,
    released_by_suspension_and_deletion,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_the_database_is_shared(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
