"""`minReplicas: 0`: asleep without work, awake with the first due job; whose 0 it is (P4, P6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from tests.e2e.place import Place
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import INTERVAL, SPEC, TARGET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

MAY_SLEEP: Final = {"name": TARGET, "minReplicas": 0}
SLEEPS_AFTER: Final = 4.0  # seconds
SCALING: Final = {**SPEC["scaling"], "scaleDownAfter": "4s"}


def fall_asleep(world: World, replicas: int = 2) -> None:
    world.deploy(replicas=replicas)
    world.apply(target=MAY_SLEEP, scaling=SCALING)
    world.until_condition("Scaling", "Asleep")


def woken_at(world: World, writes: int) -> datetime:
    """The moment of the write that woke it; `writes` were there before."""
    (woken,) = world.until(lambda: world.scale_writes()[writes:][:1], "the wake-up")
    assert woken.replicas == 1
    return datetime.fromisoformat(woken.at)


def within_an_interval(world: World, since: datetime, until: datetime) -> bool:
    """The first pass that began after a moment did it. One that was under way may have ended in
    between. Not in seconds, which are a busy machine's."""
    ended = [datetime.fromisoformat(line["timestamp"]) for line in world.passes()]
    return len([moment for moment in ended if since < moment < until]) <= 1


def a_night(world: World) -> None:
    fall_asleep(world)
    assert [write.replicas for write in world.scale_writes()] == [1, 0], "one step at a time"
    world.until_condition("ConsumersHealthy", "Asleep")
    assert world.status()["cause"] == ""
    world.until_passes(2)

    began = datetime.now(UTC)
    world.store.enqueue(1)
    assert within_an_interval(world, began, woken_at(world, 2))
    world.until(lambda: "ScaledWake" in world.reasons(), "an Event")
    assert "ConsumerOutage" not in str(world.events())

    world.store.clear()
    world.until_condition("Scaling", "Asleep")
    assert world.replicas() == 0


def a_job_in_progress_keeps_it_awake(world: World) -> None:
    world.deploy()
    world.store.enqueue(1)
    world.store.run("UPDATE queue_jobs SET status = 'running'")
    world.apply(target=MAY_SLEEP, scaling=SCALING)
    world.until_ready()
    world.until_passes(round(3 * SLEEPS_AFTER / INTERVAL))
    assert world.scale_writes() == []
    world.store.clear()
    world.until_condition("Scaling", "Asleep")


def a_scheduled_job_wakes_it_when_it_is_due(world: World) -> None:
    fall_asleep(world, replicas=1)
    due = datetime.now(UTC) + timedelta(seconds=8)
    world.store.execute(
        "INSERT INTO queue_jobs (type, payload, run_after) VALUES ('process_snapshot', '{}', %s)",
        (due,),
    )
    woken = woken_at(world, 1)
    assert woken >= due
    assert within_an_interval(world, due, woken)


def a_person_scales_it_to_zero(world: World) -> None:
    """Whatever waits, and whoever is started again; until another client hands it back."""
    world.deploy(replicas=1)
    world.store.enqueue(5)
    world.apply(target=MAY_SLEEP, scaling=SCALING)
    world.until_ready()
    world.scale(0)
    found = world.until_condition("Scaling", "ScaledToZero")
    assert "it stays so. Scale it to 1 or more" in found["message"]
    ours = len(world.scale_writes())
    world.store.enqueue(TRIPS)
    world.until_passes(3)
    assert world.replicas() == 0
    assert len(world.scale_writes()) == ours
    # Due jobs, and nobody of ours asleep.
    world.until(lambda: world.status()["cause"] == "ConsumerOutage", "the cause")

    world.scale(1)
    world.until(lambda: world.replicas() > 1, "our next step")


def an_unreadable_queue_sends_nobody_to_sleep(world: World) -> None:
    world.deploy(replicas=1)
    world.apply(target=MAY_SLEEP, scaling=SCALING)
    world.until_ready()
    world.store.run("ALTER TABLE queue_jobs RENAME TO away")
    ours = len(world.scale_writes())
    world.until_passes(round(3 * SLEEPS_AFTER / INTERVAL))
    assert len(world.scale_writes()) == ours
    assert world.replicas() == 1
    world.store.run("ALTER TABLE away RENAME TO queue_jobs")
    world.until_condition("Scaling", "Asleep")


STORIES: Final[tuple[Story, ...]] = (
    a_night,
    a_job_in_progress_keeps_it_awake,
    a_scheduled_job_wakes_it_when_it_is_due,
    a_person_scales_it_to_zero,
    an_unreadable_queue_sends_nobody_to_sleep,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_sleep(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()


def test_a_restart_knows_who_sent_it_to_sleep(place: Place, world: World) -> None:
    """Our 0 wakes after it, and a person's does not."""
    fall_asleep(world, replicas=1)
    world.deploy("another", replicas=1)
    world.apply("another", target={"name": "another", "minReplicas": 0}, scaling=SPEC["scaling"])
    world.until_ready("another")
    world.scale(0, "another")
    world.until_condition("Scaling", "ScaledToZero", name="another")
    place.kill()
    world.until_passes(1)
    world.store.enqueue(1)
    world.until(lambda: world.replicas() == 1, "it wakes")
    world.until_passes(3, "another")
    assert world.replicas("another") == 0
