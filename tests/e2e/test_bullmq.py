"""BullMQ through the whole operator: real queues and workers of Node.js, a real Redis.

What is seen is what is there; steps stay within the database's budget; a background queue is braked
and let go; and a Redis that is frozen, dead or empty moves nothing.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Final

import pytest
from tests.e2e.api import Json
from tests.e2e.sources import URL, fleet, in_bullmq, own_bull, own_redis
from tests.e2e.store import RUNNING
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import BREAKERS, PRODUCERS, SPEC, TARGET, TRIPS, World
from tests.node.handles import Behaviour

from local.redis import RedisServer
from starforge_backlog.redis.session import CLIENT_NAME

pytestmark = [pytest.mark.e2e, pytest.mark.node, pytest.mark.redis, pytest.mark.timeout(1800)]

SNAPSHOTS: Final = "etl-snapshots"
EXPORTS: Final = "etl-exports"
BACKFILL: Final = "etl-backfill"
MARK: Final = "starforge-backlog"

# A small database: few pods fit.
CONNECTIONS: Final = 40
POOL: Final = 6
HEADROOM: Final = 2
SUPERUSERS: Final = 3  # connections that PostgreSQL keeps for them
SURGE: Final = 1  # pods more while a rollout is under way

BRAKE: Final[Json] = {"name": "backfill", "queue": {"url": URL, "name": BACKFILL}}


def guard(world: World, *producers: Json) -> None:
    """A policy over `etl-snapshots` whose breaker pauses these. Its target stays at one replica:
    these stories are about something else."""
    world.deploy()
    world.apply(
        target={"name": TARGET, "maxReplicas": 1},
        queues=[in_bullmq(SNAPSHOTS)],
        producers=list(producers),
        breakers=[{**BREAKERS[0], "pause": [producer["name"] for producer in producers]}],
    )


def seen(world: World, metric: str) -> float:
    """A number of `etl-snapshots` as the operator measures it."""
    return world.place.metric(metric, namespace=world.namespace, queue=SNAPSHOTS)


def waiting(world: World) -> list[str]:
    """Of each queue; "unknown" after a pass that was late."""
    return [queue["waiting"] for queue in world.status().get("queues", ())]


def states(world: World) -> dict[str, str]:
    """Of what is paused."""
    return {entry["producer"]: entry["state"] for entry in world.status().get("paused", ())}


def meta(redis: RedisServer) -> dict[str, str]:
    """What BullMQ keeps of the background queue, and we beside it."""
    with redis.client() as client:
        found: dict[str, str] = client.hgetall(f"bull:{BACKFILL}:meta")
        return found


def connections_of_the_operator(redis: RedisServer) -> int:
    with redis.client() as client:
        return sum(one["name"] == CLIENT_NAME for one in client.client_list())


def reported_as_it_is_and_stepped_up_within_the_budget(world: World) -> None:
    """A queue of BullMQ 5 and one of 6. Watched first, so that nothing moves but the jobs."""
    with own_redis(world) as redis, own_bull(world) as bull:
        snapshots = bull.queue(redis.url(), SNAPSHOTS, version=5)
        exports = bull.queue(redis.url(), EXPORTS, version=6)
        began = time.time()
        snapshots.add_bulk(240, {"process_snapshot": 3, "import": 1})
        exports.add_bulk(20, "export")
        world.deploy(env={"PG_POOL_MAX": f"{POOL}"})
        world.apply(
            mode="Observe",
            queues=[in_bullmq(SNAPSHOTS), in_bullmq(EXPORTS)],
            database={**SPEC["database"], "headroom": HEADROOM},
        )
        world.until_ready()
        world.until(lambda: waiting(world) == ["240", "20"], "both queues")
        first = world.status()["queues"][0]
        assert first["types"] == {"process_snapshot": "180", "import": "60"}
        assert world.status()["waiting"] == "260"
        age = world.until(lambda: seen(world, "queue_oldest_due_age_seconds"), "an age")
        # How exact it is, tests/queues prove; here a pass may be some seconds old.
        assert 0 < age <= time.time() - began
        world.until(
            lambda: world.condition("BacklogHealthy")["status"] == "False", "it is reported"
        )

        snapshots.add_bulk(2000, "process_snapshot")
        with fleet(world, snapshots, exports, ms=100) as workers:
            world.until(lambda: len(workers) == 2, "a worker of each")

            def rate_is_right() -> bool:
                """As above: on a busy machine the two windows are not the same."""
                since = time.time()
                world.until_passes(4)  # whole windows of the rate
                measured = seen(world, "queue_throughput_per_second")
                ends = [run["end"] / 1000 for run in workers[0].ran() if run["end"]]
                ended = sum(end > since for end in ends)
                real = max(ended / (time.time() - since), 0.01)
                return bool(0.5 < measured / real < 2)

            world.until(rate_is_right, "the throughput of the worker")
            world.until(lambda: world.status()["queues"][0]["workers"] == "1", "the worker")
            assert world.scale_writes() == [], "it only observes"

            snapshots.add_bulk(2000, "process_snapshot")
            world.apply(mode="Enforce")
            world.until_condition("Scaling", "BudgetExhausted")
        replicas = [1, *(write.replicas or 0 for write in world.scale_writes())]
        assert len(replicas) >= 3
        assert {after - before for before, after in pairwise(replicas)} == {1}, "one at a time"
        opened = (max(replicas) + SURGE) * POOL
        assert opened + 1 <= CONNECTIONS - SUPERUSERS - HEADROOM, "and a session of the operator"
        world.until_reported("StepPassed")  # real workers finished more
        for queue in (snapshots, exports):
            queue.call("drain")
        world.until_condition("BacklogHealthy", "WithinObjectives")


def a_background_queue_is_paused_and_released(world: World) -> None:
    """Workers of BullMQ 6 on it, fed by 5. Let go on recovery, on a switch, on deletion."""
    with own_redis(world) as redis, own_bull(world) as bull:
        snapshots = bull.queue(redis.url(), SNAPSHOTS, version=5)
        backfill = bull.queue(redis.url(), BACKFILL, version=6)
        feeder = bull.queue(redis.url(), BACKFILL, version=5)
        backfill.set_concurrency(4)
        before = meta(redis)
        worker = backfill.worker(Behaviour(ms=100), concurrency=8)
        feeder.add_bulk(2000, "backfill_range")
        snapshots.add("process_snapshot")
        guard(world, BRAKE)

        def works() -> bool:
            ran = len(worker.ran())
            return bool(world.until(lambda: len(worker.ran()) > ran + 10, "jobs that start"))

        def stands() -> bool:
            """Jobs in hand end; no other starts, whatever is added."""
            world.until(lambda: feeder.counts("active")["active"] == 0, "jobs in hand that end")
            ran = len(worker.ran())
            feeder.add_bulk(10, "backfill_range")
            world.until_passes(2)
            return len(worker.ran()) == ran

        assert works()
        snapshots.add_bulk(TRIPS, "process_snapshot")
        world.until(lambda: states(world) == {"backfill": "Held"}, "the brake")
        assert stands()
        braked = meta(redis)
        assert (braked["concurrency"], MARK in braked) == ("00", True)
        assert "paused" not in braked, "never BullMQ's own pause"
        assert "paused backfill" in world.events_of("Paused")[0]["note"]
        snapshots.call("drain")
        world.until(lambda: world.breaker() == "Closed", "recovery")
        assert meta(redis) == before
        assert works()

        snapshots.add_bulk(TRIPS, "process_snapshot")
        world.until(lambda: states(world) == {"backfill": "Held"}, "the brake")
        assert stands()
        world.apply(mode="Observe")
        world.until(lambda: meta(redis) == before, "let go on the switch")
        assert works()
        world.apply(mode="Enforce")
        world.until(lambda: states(world) == {"backfill": "Held"}, "the brake")
        assert stands()
        world.delete()
        world.until_gone()
        assert meta(redis) == before
        assert works()


def what_a_person_paused_stays_paused(world: World) -> None:
    with own_redis(world) as redis, own_bull(world) as bull:
        snapshots = bull.queue(redis.url(), SNAPSHOTS, version=6)
        bull.queue(redis.url(), BACKFILL, version=5).pause()
        before = meta(redis)
        snapshots.add_bulk(TRIPS, "process_snapshot")
        guard(world, BRAKE)
        world.until(lambda: states(world) == {"backfill": "Foreign"}, "another client's pause")
        world.until(lambda: world.breaker() == "Open", "the breaker opens")
        world.until_passes(2)
        assert meta(redis) == before
        snapshots.call("drain")
        world.until(lambda: world.breaker() == "HalfOpen", "a probe")
        world.delete()
        world.until_gone()
        assert meta(redis) == before


# What a person is asked to do meanwhile.
FROZEN: Final = ("SLOWLOG GET", "check that it runs", "opened again with the next pass")
DEAD: Final = ("check that Redis runs", "opened again with the next pass")


def frozen_or_dead_it_moves_nothing(world: World) -> None:
    """One policy that steps up and one whose breaker is open, over one connection."""
    saved = {"appendonly": True, "appendfsync": "always"}
    with own_redis(world, settings=saved) as redis, own_bull(world) as bull:
        snapshots = bull.queue(redis.url(), SNAPSHOTS, version=5)
        exports = bull.queue(redis.url(), EXPORTS, version=6)
        snapshots.add_bulk(TRIPS, "process_snapshot")
        exports.add_bulk(5000, "export")
        guard(world, *PRODUCERS)
        world.deploy("steps", env={"PG_POOL_MAX": "1"})
        roomy = {**SPEC["database"], "headroom": HEADROOM}
        with fleet(world, exports, ms=100, target="steps"):
            world.apply(
                "steps", target={"name": "steps"}, queues=[in_bullmq(EXPORTS)], database=roomy
            )
            world.until(world.scale_writes, "a step")
            world.until(lambda: states(world) == {"ingestion": "Held"}, "the pause")
            world.until(lambda: connections_of_the_operator(redis) == 1, "one connection")
            redis.freeze()
            nothing_moves(world, FROZEN)
            redis.thaw()
            goes_on(world)
            redis.kill()
            nothing_moves(world, DEAD)
            redis.restart()
            goes_on(world)
            world.until(lambda: connections_of_the_operator(redis) == 1, "one connection")
            snapshots.call("drain")
            world.until(lambda: world.breaker() == "Closed", "recovery")
        assert world.store.flag() == RUNNING


def nothing_moves(world: World, fixes: tuple[str, ...]) -> None:
    """While Redis is away: reported with a fix by every pass, no step, nothing resumed."""

    def reported() -> bool:
        found = [world.condition("Ready", name) for name in ("etl", "steps")]
        if any(condition["status"] == "True" for condition in found):
            return False
        for condition in found:
            assert condition["reason"] in {"Timeout", "Unreachable"}, condition
            assert any(fix in condition["message"] for fix in fixes), condition
        return True

    world.until(reported, "both are reported")
    world.until_not_known("Scaling", name="steps")
    steps = len(world.scale_writes())
    passes = len(world.passes())
    while len(world.passes()) < passes + 4:
        assert reported()
        time.sleep(0.1)  # another reading
    assert world.condition("BacklogHealthy", "steps")["status"] != "True"
    assert world.condition("Scaling", "steps")["status"] == "Unknown"
    assert len(world.scale_writes()) == steps
    assert world.breaker() == "Open"
    assert world.store.paused
    assert world.status()["queues"][0]["waiting"] == "unknown"


def goes_on(world: World) -> None:
    steps = len(world.scale_writes())
    for name in ("etl", "steps"):
        world.until_ready(name)
    world.until(lambda: len(world.scale_writes()) > steps, "a further step")
    assert world.breaker() == "Open", "what waited still waits"


def one_that_lost_its_data_is_no_empty_queue(world: World) -> None:
    with own_redis(world) as redis, own_bull(world) as bull:
        bull.queue(redis.url(), SNAPSHOTS, version=5).add_bulk(TRIPS, "process_snapshot")
        guard(world, *PRODUCERS)
        world.until(lambda: states(world) == {"ingestion": "Held"}, "the pause")
        redis.kill()
        redis.restart()
        reported = world.until_condition("Ready", "QueueNotFound")
        assert f"no BullMQ queue {SNAPSHOTS} under prefix bull" in reported["message"]
        world.until_passes(4)
        assert world.breaker() == "Open"
        assert world.store.paused

        with own_bull(world) as again:
            again.queue(redis.url(), SNAPSHOTS, version=5).add("process_snapshot")
            world.until(lambda: world.breaker() == "Closed", "recovery")
        assert world.store.flag() == RUNNING


OWN_SERVER: Final = CONNECTIONS  # max_connections; what a story takes is not another's budget
STORIES: Final[tuple[Story, ...]] = (
    reported_as_it_is_and_stepped_up_within_the_budget,
    a_background_queue_is_paused_and_released,
    what_a_person_paused_stays_paused,
    frozen_or_dead_it_moves_nothing,
    one_that_lost_its_data_is_no_empty_queue,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_bullmq(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
