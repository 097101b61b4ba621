"""The whole loop on each published form of `queue_jobs`: counts, steps, pauses, drains, releases;
and what a table does not contain is said, not guessed."""

from __future__ import annotations

from typing import Final, LiteralString

import pytest
from tests.e2e.store import RUNNING
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import SPEC, TRIPS, World
from tests.queues.schemas import ENUM, FIRST_MIGRATION, MODEL, SCHEMA_SQL

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

FAILED, CLAIMED = 7, 4


def loop(
    world: World, table: tuple[LiteralString, ...], *, claimed: LiteralString, done: LiteralString
) -> None:
    """A storm from its begin to its end; `claimed` and `done` are this table's words."""
    world.store.replace_jobs(table)
    add = "INSERT INTO queue_jobs (type, status) SELECT 'archive', {} FROM generate_series(1, {})"
    with world.store.connect() as connection:
        for word, number in (("failed", FAILED), (claimed, CLAIMED)):
            connection.execute(add.format(f"'{word}'", number).encode())
    world.deploy()
    world.apply_breaker()
    world.until_ready()
    assert world.scale_writes() == []
    assert not world.store.paused

    world.store.enqueue(TRIPS)
    labels = {"namespace": world.namespace, "policy": "etl", "queue": "jobs"}
    read = world.place.metric
    kinds = {"waiting": TRIPS, "in_progress": CLAIMED, "failed": FAILED}

    def counted() -> bool:
        return {kind: read(f"queue_{kind}_jobs", **labels) for kind in kinds} == kinds

    world.until(counted, "all jobs")
    world.until(lambda: world.store.paused, "the pause")
    world.until(lambda: world.replicas() > 1, "a step")
    world.until(lambda: world.condition("BacklogHealthy")["status"] == "False", "it is reported")

    assert world.store.finish(TRIPS, word=done) == TRIPS
    world.until(lambda: world.breaker() == "Closed" and not world.store.paused, "the release")
    assert world.store.flag() == RUNNING
    world.until_condition("BacklogHealthy", "WithinObjectives")


def unknown(world: World) -> set[tuple[str, str]]:
    """Readings that the last pass did not get: of what, and why."""
    return {
        (labels["source"], labels["reason"])
        for (name, pairs) in world.place.metrics()
        if name == "unknown_readings" and (labels := dict(pairs))["namespace"] == world.namespace
    }


def runbook_and_model(world: World) -> None:
    loop(world, MODEL, claimed="running", done="done")


def schema_sql(world: World) -> None:
    loop(world, SCHEMA_SQL, claimed="running", done="done")


def first_migration(world: World) -> None:
    loop(world, FIRST_MIGRATION, claimed="processing", done="completed")
    # It has no run_after.
    world.until(lambda: "NotInTable" in {why for _, why in unknown(world)}, "what it lacks")


def enum_status(world: World) -> None:
    loop(world, ENUM, claimed="running", done="done")


def words_that_are_not_known(world: World) -> None:
    """Said with the field to set; once it is set, the loop is as good as on any other."""
    words = "CHECK (status IN ('q', 'w', 'f'))"
    world.store.replace_jobs([part.replace("DEFAULT 'pending'", words) for part in SCHEMA_SQL])
    world.store.run(
        """INSERT INTO queue_jobs (type, status)
           SELECT 'x', (ARRAY['q', 'w', 'f'])[i % 3 + 1] FROM generate_series(1, 90) i"""
    )
    world.deploy()
    world.apply()
    found = world.until_condition("Ready", "StatusNotMapped")
    assert "statuses.waiting" in found["message"]
    assert world.scale_writes() == []

    mapped = {"waiting": ["q"], "inProgress": ["w"], "finished": ["f"]}
    world.apply(queues=[{**SPEC["queues"][0], "postgres": {"statuses": mapped}}])
    labels = {"namespace": world.namespace, "queue": "jobs"}
    world.until(lambda: world.place.metric("queue_waiting_jobs", **labels) == 30, "its jobs")
    world.until(lambda: world.replicas() > 1, "a step")


def one_table_two_queues_by_type(world: World) -> None:
    """`postgres.types`: only the real-time jobs count against the real-time objective."""
    queue = SPEC["queues"][0]
    world.deploy()
    world.store.enqueue(200, kind="backfill_range")
    world.store.enqueue(5, kind="process_snapshot")
    world.apply(
        queues=[
            {**queue, "name": "live", "postgres": {"types": ["process_snapshot"]}},
            {
                **queue,
                "name": "backfill",
                "postgres": {"types": ["backfill_range"]},
                "priority": "Background",
                "objectives": {"waiting": 1000},
            },
        ]
    )
    world.until_ready()
    read, here = world.place.metric, {"namespace": world.namespace}
    world.until(lambda: read("queue_waiting_jobs", queue="live", **here) == 5, "its jobs")
    world.until(lambda: read("queue_waiting_jobs", queue="backfill", **here) == 200, "the others")
    world.until_passes(2)
    world.until_condition("BacklogHealthy", "WithinObjectives")
    assert world.scale_writes() == []


STORIES: Final[tuple[Story, ...]] = (
    runbook_and_model,
    schema_sql,
    first_migration,
    enum_status,
    words_that_are_not_known,
    one_table_two_queues_by_type,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_variants(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
