"""Two policies with one target: the older acts, the younger says whom it waits for (P1, P3, P9)."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from itertools import pairwise
from typing import Final

import pytest
from tests.e2e.audit import observed
from tests.e2e.autoscaling import GUARDED, make_hpa
from tests.e2e.place import Place
from tests.e2e.together import Outcomes, Story, own_server, title
from tests.e2e.world import BREAKERS, PRODUCERS, SPEC, TARGET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

OBSERVED: Final = 5  # seconds; see `observed`


def a_second_later() -> None:
    """Creation times are whole seconds; of the same one the uid would decide."""
    time.sleep(1.1)


def two(world: World, least: int = 1) -> None:
    """The younger one's breaker opens with the first waiting job, if it has one to open."""
    world.deploy(env={"PG_POOL_MAX": "2"})
    scaling = {**SPEC["scaling"], "observeFor": f"{OBSERVED}s"}
    world.apply("old", target={"name": TARGET, "minReplicas": least}, scaling=scaling)
    world.until_ready("old")
    a_second_later()
    breaker = {**BREAKERS[0], "trip": [{"waiting": 1, "for": "1s"}]}
    world.apply("young", producers=PRODUCERS, breakers=[breaker])
    found = world.until_condition("Ready", "TargetTaken", name="young")
    assert f"belongs to the older policy {world.namespace}/old" in found["message"]
    assert "delete one of the two, or correct spec.target" in found["message"]


def test_the_older_acts_alone_also_after_a_restart(place: Place, world: World) -> None:
    two(world, least=5)
    world.store.enqueue(1)
    already = len(world.scale_writes())
    place.kill()
    world.until(lambda: world.replicas() == 5, "its minimum")
    assert len(world.scale_writes()) > already, "steps after the restart"
    writes = world.scale_writes()
    replicas = [1, *(write.replicas or 0 for write in writes)]
    assert max(b - a for a, b in pairwise(replicas)) == 1, "one policy's steps"
    assert observed(writes, OBSERVED), "each before the next (P3)"
    assert not world.store.paused, "the younger one's breaker is nobody's"
    assert world.status("young").get("breakers", []) == []
    assert world.condition("Scaling", "young")["reason"] == "TargetTaken"
    assert "TO DO" in world.status("young")["summary"]


def its_pods_count_once(beside: World) -> None:
    """On a server of its own: on another, policies that were just deleted may still count."""
    with (
        own_server(beside.place, 100) as server,
        contextlib.closing(World.create(beside.place, server)) as world,
    ):
        two(world)
        world.deploy("another")
        world.apply("third", target={"name": "another"})
        world.until_ready("third")
        world.until(
            lambda: world.status("third")["budget"]["otherPolicies"] == 2 * (1 + 1),
            "two connections for the pod and two for its surge",
        )
        world.until_passes(2, "third")
        world.until(lambda: world.status("third")["budget"]["otherPolicies"] == 4, "still so")


def deleted_the_younger_takes_over_within_an_interval(world: World) -> None:
    two(world)
    world.delete("old")
    world.until_gone("old")
    before = len(world.passes("young"))
    found = world.until_condition("Ready", "AllReadable", name="young")
    taken = datetime.fromisoformat(found["lastTransitionTime"])
    passes = world.passes("young")[before:]
    earlier = [p for p in passes if datetime.fromisoformat(p["timestamp"]) < taken]
    assert len(earlier) <= 1, "its next pass, or one more was seen"
    world.store.enqueue(TRIPS)
    world.until(world.scale_writes, "its step")


def one_guarded_autoscaler_has_one_policy(world: World) -> None:
    world.deploy()
    world.deploy("another")
    make_hpa(world)
    world.apply("old", target=GUARDED)
    world.until_ready("old")
    a_second_later()
    world.apply("young", target={**GUARDED, "name": "another"})
    found = world.until_condition("Ready", "TargetTaken", name="young")
    assert "HorizontalPodAutoscaler hpa belongs to the older policy" in found["message"]
    # Corrected, it has its own target and needs nothing of the other's.
    world.apply("young", target={"name": "another", "guard": None})
    world.until_ready("young")
    assert world.status("young")["observedGeneration"] == 2


def what_it_had_paused_is_released_when_an_older_one_shows(world: World) -> None:
    """It cannot be refused after the fact in a cluster's order of creation; but a guard that is
    edited can bring the older one onto what the younger has."""
    world.deploy()
    world.deploy("another")
    make_hpa(world)
    world.apply("old", target={"name": "another"})
    world.until_ready("old")
    a_second_later()
    world.apply_breaker("young", target=GUARDED, scaling=SPEC["scaling"])
    world.until_ready("young")
    world.store.enqueue(TRIPS)
    world.until(lambda: world.pause("young")["state"] == "Held", "its pause")
    world.apply("old", target={"name": "another", "guard": {"horizontalPodAutoscaler": "hpa"}})
    world.until_condition("Ready", "TargetTaken", name="young")
    world.until(lambda: not world.store.paused, "its release")
    assert world.status("young")["paused"] == []
    world.until_condition("Ready", "GuardMismatch", name="old")
    assert world.target(TARGET)["spec"]["replicas"] == 1


STORIES: Final[tuple[Story, ...]] = (
    its_pods_count_once,
    deleted_the_younger_takes_over_within_an_interval,
    one_guarded_autoscaler_has_one_policy,
    what_it_had_paused_is_released_when_an_older_one_shows,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_same_target(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
