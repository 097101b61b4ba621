"""A policy that goes away or stops acting: what is ours is released, in every state, no more."""

from __future__ import annotations

from typing import Final

import pytest
from tests.e2e.store import RUNBOOKS_PAUSE, RUNNING
from tests.e2e.test_pauses import begin, paused_by_us, recover, trip
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import BREAKERS, PRODUCERS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def deleted(world: World) -> None:
    world.delete()
    world.until_gone()


def closed(world: World) -> None:
    begin(world)
    deleted(world)
    assert world.store.flag() == RUNNING


def opened(world: World) -> None:
    paused_by_us(world)
    deleted(world)
    assert world.store.flag() == RUNNING


def half_open(world: World) -> None:
    slow = [{**BREAKERS[0], "recover": {**BREAKERS[0]["recover"], "probeFor": "1h"}}]
    world.deploy()
    world.apply(producers=PRODUCERS, breakers=slow)
    trip(world)
    world.store.clear()
    world.until(lambda: world.breaker() == "HalfOpen" and not world.store.paused, "a probe")
    deleted(world)
    assert world.store.flag() == RUNNING


def pause_intended(world: World) -> None:
    begin(world)
    with world.store.connect() as person, person.transaction():
        person.execute("SELECT 1 FROM feature_flags FOR UPDATE")
        trip(world)
        world.until(lambda: world.pause()["state"] == "Intended", "an intent without a pause")
        world.delete()
        found = world.until_condition("Ready", "ReleaseFailed")
        assert "holds a lock" in found["message"]
    world.until_gone()
    assert world.store.flag() == RUNNING


def paused_by_a_person(world: World) -> None:
    begin(world)
    world.store.run(RUNBOOKS_PAUSE)
    theirs = world.store.flag()
    trip(world)
    world.until_condition("ProducersRunning", "PausedByOthers")
    deleted(world)
    assert world.store.flag() == theirs


def changed_by_a_person(world: World) -> None:
    paused_by_us(world)
    world.store.run(RUNBOOKS_PAUSE)
    world.until_condition("ProducersRunning", "ChangedByOthers")
    deleted(world)
    assert world.store.paused


def switched_to_observe(world: World) -> None:
    paused_by_us(world)
    world.apply(mode="Observe")
    world.until(lambda: not world.store.paused, "the release")
    assert world.store.flag() == RUNNING
    replicas, writes = world.replicas(), len(world.scale_writes())
    begin_of_watching = world.place.audit.mark()
    world.until(lambda: "would pause ingestion" in world.status()["summary"], "what it would do")
    world.until_passes(3)
    assert not world.store.paused
    assert (world.replicas(), len(world.scale_writes())) == (replicas, writes)
    asked = world.place.audit.since(begin_of_watching, namespace=world.namespace)
    written = {request.resource for request in asked if request.writes}
    assert written <= {"queuebacklogpolicies/status", "events"}

    world.apply(mode="Enforce")
    world.until(lambda: world.store.paused, "the pause, in earnest again")


def observes_from_the_start(world: World) -> None:
    world.deploy()
    world.apply_breaker(mode="Observe")
    trip(world)
    world.until(lambda: "scale 1 -> 2" in world.status()["summary"], "what it would do")
    world.until_passes(2)
    assert not world.store.paused
    assert world.replicas() == 1
    assert world.scale_writes() == []


def suspended(world: World) -> None:
    paused_by_us(world)
    world.apply(suspend=True)
    world.until_condition("Scaling", "Suspended")
    writes = len(world.scale_writes())
    world.store.clear()
    world.until_passes(4)
    assert world.store.paused, "what we paused stays as it is"
    assert len(world.scale_writes()) == writes
    world.apply(suspend=False)
    recover(world)
    assert world.store.flag() == RUNNING


def held_by_annotation(world: World) -> None:
    paused_by_us(world)
    world.annotate(hold="Ana looks at it")
    found = world.until_condition("Scaling", "Held")
    assert "Ana looks at it" in found["message"]
    writes = len(world.scale_writes())
    world.store.clear()
    world.until_passes(4)
    assert world.store.paused
    assert len(world.scale_writes()) == writes
    world.annotate(hold=None)
    recover(world)
    assert world.store.flag() == RUNNING


def deleted_while_held_by_annotation(world: World) -> None:
    paused_by_us(world)
    world.annotate(hold="forgotten")
    world.until_condition("Scaling", "Held")
    deleted(world)
    assert world.store.flag() == RUNNING


STORIES: Final[tuple[Story, ...]] = (
    closed,
    opened,
    half_open,
    pause_intended,
    paused_by_a_person,
    changed_by_a_person,
    switched_to_observe,
    observes_from_the_start,
    suspended,
    held_by_annotation,
    deleted_while_held_by_annotation,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_what_is_ours_is_released(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
