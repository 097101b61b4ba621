"""A breaker of a scope: one failing type, or one queue, pauses what is its own and nothing else.

It says whom it concerns (runbook: pause that type and notify its owners).
"""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
from tests.e2e.api import Json
from tests.e2e.sources import URL, in_bullmq, own_bull, own_redis
from tests.e2e.store import RUNNING
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import SPEC, TARGET, World
from tests.node.handles import Behaviour

from local.redis import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.node, pytest.mark.redis, pytest.mark.timeout(1800)]

FAILING: Final = "export"
HEALTHY: Final = "process_snapshot"
ENDED: Final = 40  # jobs of each type; a rule of failures wants 20 at least
TEAM_EXPORTS: Final = "#team-exports"
TEAM_SNAPSHOTS: Final = "#team-snapshots"
EVERYBODY_ELSE: Final = "oncall@example.org"

STILL: Final[Json] = {"name": TARGET, "maxReplicas": 1}
RECOVER: Final[Json] = {"belowPercent": 50, "for": "1s", "probeFor": "4s"}
FAR: Final = """
    SELECT type, count(*) FILTER (WHERE run_after > now() + interval '90 years')
      FROM queue_jobs WHERE status = 'pending' GROUP BY type ORDER BY type"""


def breaker(name: str, scope: Json, rule: Json, *pause: str) -> Json:
    trip = [{"for": "1s", **rule}]
    return {"name": name, "scope": scope, "pause": list(pause), "trip": trip, "recover": RECOVER}


def of_type(kind: str) -> Json:
    name = kind.replace("_", "-")
    return breaker(name, {"type": kind}, {"failedPercent": 50}, f"hold-{name}")


def states(world: World) -> dict[str, str]:
    """Of breakers, by their names."""
    return {found["name"]: found["state"] for found in world.status().get("breakers", ())}


def owners(world: World) -> dict[str, list[str]]:
    return {found["name"]: found["owners"] for found in world.status()["breakers"]}


def opened(world: World) -> str:
    """What people read about the only breaker that opened."""
    world.until_reported("BreakerOpen")
    (event,) = world.events_of("BreakerOpen")
    assert event["type"] == "Warning"
    return str(event["note"])


def waiting(world: World, kind: str) -> list[Any]:
    """Every column of these jobs."""
    found = world.store.rows(
        "SELECT type, job.* FROM queue_jobs AS job WHERE status = 'pending' ORDER BY id"
    )
    return [row for row in found if row[0] == kind]


def end_some(world: World, *, failed: str, number: int = ENDED) -> None:
    """Workers finish jobs of both types; those of one fail."""
    for kind in (FAILING, HEALTHY):
        world.store.execute(
            "INSERT INTO queue_jobs (type, status) SELECT %s, %s FROM generate_series(1, %s)",
            (kind, "failed" if kind == failed else "done", number),
        )


def one_failing_type_of_a_table(world: World) -> None:
    """Its jobs are held back, those of the other go on; then it is well again."""
    world.store.let_hold_jobs()
    world.store.enqueue(5, kind=FAILING)
    world.store.enqueue(5, kind=HEALTHY)
    before = {kind: waiting(world, kind) for kind in (FAILING, HEALTHY)}
    world.deploy()
    world.apply(
        target=STILL,
        producers=[
            {"name": "hold-export", "jobTypes": {"types": [FAILING]}},
            {"name": "hold-process-snapshot", "jobTypes": {"types": [HEALTHY]}},
        ],
        breakers=[of_type(FAILING), of_type(HEALTHY)],
        owners=[
            {"name": "exports", "contact": TEAM_EXPORTS, "types": [FAILING]},
            {"name": "snapshots", "contact": TEAM_SNAPSHOTS, "types": [HEALTHY]},
            {"name": "rest", "contact": EVERYBODY_ELSE},
        ],
    )
    world.until_ready()
    end_some(world, failed=FAILING)
    world.until(lambda: states(world)["export"] == "Open", "its breaker opens")
    world.until(lambda: world.pause()["state"] == "Held", "its jobs are held")
    world.until_passes(3)
    assert states(world) == {"export": "Open", "process-snapshot": "Closed"}
    assert world.pause()["producer"] == "hold-export", "the only one"
    assert world.store.rows(FAR) == [(FAILING, 5), (HEALTHY, 0)]
    assert waiting(world, HEALTHY) == before[HEALTHY]

    note = opened(world)
    assert f"{FAILING} jobs failed" in note
    assert f"owner {TEAM_EXPORTS}" in note
    assert TEAM_SNAPSHOTS not in note
    assert owners(world) == {"export": [TEAM_EXPORTS], "process-snapshot": []}
    named = f"owner {TEAM_EXPORTS}"
    world.until(lambda: named in world.condition("ProducersRunning")["message"], "its owner")

    # What workers had in hand ends well: below half of the trip value again.
    end_some(world, failed="", number=5 * ENDED)
    world.until(lambda: states(world)["export"] == "Closed", "recovery")
    assert waiting(world, FAILING) == before[FAILING]
    assert owners(world) == {"export": [], "process-snapshot": []}
    assert len(world.events_of("BreakerOpen")) == 1


def long_ago(redis: RedisServer, job: str, world: World) -> None:
    """As if the job had ended before the window of outcomes: how the types of a queue end is
    known once what is kept reaches back that far."""
    completed = "bull:etl-snapshots:completed"
    with redis.client() as client:
        world.until(lambda: client.zscore(completed, job), "the first job")
        client.zadd(completed, {job: (time.time() - 400) * 1000}, xx=True)


def one_failing_type_of_a_bullmq_queue(world: World) -> None:
    """Real workers; the type's own source is paused, the other's goes on."""
    with own_redis(world) as redis, own_bull(world) as bull:
        queue = bull.queue(redis.url(), "etl-snapshots", version=5)
        queue.worker(Behaviour(fail={FAILING: "no space left"}), concurrency=4)
        long_ago(redis, queue.add(HEALTHY), world)
        exports = bull.queue(redis.url(), "etl-exports", version=6)
        exports.set_concurrency(3)
        world.deploy()
        world.apply(
            target=STILL,
            queues=[in_bullmq("etl-snapshots")],
            producers=[
                {"name": "hold-export", "queue": {"url": URL, "name": "etl-exports"}},
                {"name": "hold-process-snapshot", "featureFlag": {}},
            ],
            breakers=[of_type(FAILING), of_type(HEALTHY)],
            owners=[{"name": "exports", "contact": TEAM_EXPORTS, "types": [FAILING]}],
        )
        world.until_ready()
        queue.add_bulk(2 * ENDED, {FAILING: 1, HEALTHY: 1})
        world.until(lambda: states(world)["export"] == "Open", "its breaker opens")
        world.until(lambda: world.pause()["state"] == "Held", "its source is paused")
        world.until_passes(3)
        assert states(world) == {"export": "Open", "process-snapshot": "Closed"}
        assert world.pause()["producer"] == "hold-export", "the only one"
        assert exports.call("getGlobalConcurrency") == 0
        assert world.store.flag() == RUNNING
        assert f"owner {TEAM_EXPORTS}" in opened(world)
        world.delete()
        world.until_gone()
        assert exports.call("getGlobalConcurrency") == 3


def one_queue_of_two(world: World) -> None:
    """`scope.queues`: a backlog of one opens the breaker of that one. Its owner is named; and where
    a queue is nobody's, whoever owns the rest."""
    tables = {HEALTHY: "snapshots", FAILING: "exports"}
    queues = [
        {**SPEC["queues"][0], "name": name, "postgres": {"types": [kind]}}
        for kind, name in tables.items()
    ]
    world.store.let_hold_jobs()
    world.deploy()
    world.apply(
        target=STILL,
        queues=queues,
        producers=[
            {"name": "ingestion", "featureFlag": {}},
            {"name": "hold-export", "jobTypes": {"types": [FAILING]}},
        ],
        breakers=[
            breaker("of-snapshots", {"queues": ["snapshots"]}, {"waiting": 50}, "ingestion"),
            breaker("of-exports", {"queues": ["exports"]}, {"waiting": 50}, "hold-export"),
        ],
        owners=[
            {"name": "exports", "contact": TEAM_EXPORTS, "queues": ["exports"]},
            {"name": "rest", "contact": EVERYBODY_ELSE},
        ],
    )
    world.until_ready()
    world.store.enqueue(40, kind=FAILING)  # together more than either allows
    world.store.enqueue(60, kind=HEALTHY)
    world.until(lambda: states(world)["of-snapshots"] == "Open", "its breaker opens")
    world.until(lambda: world.pause()["state"] == "Held", "its source is paused")
    world.until_passes(3)
    assert states(world) == {"of-snapshots": "Open", "of-exports": "Closed"}
    assert world.pause()["producer"] == "ingestion"
    assert world.store.paused
    assert world.store.rows(FAR) == [(FAILING, 0), (HEALTHY, 0)]
    note = opened(world)
    assert "60 waiting" in note
    assert f"owner {EVERYBODY_ELSE}" in note
    assert owners(world) == {"of-snapshots": [EVERYBODY_ELSE], "of-exports": []}
    world.store.clear(kind=HEALTHY)
    world.until(lambda: states(world)["of-snapshots"] == "Closed", "recovery")
    assert world.store.flag() == RUNNING


STORIES: Final[tuple[Story, ...]] = (
    one_failing_type_of_a_table,
    one_failing_type_of_a_bullmq_queue,
    one_queue_of_two,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_breaker_scopes(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
