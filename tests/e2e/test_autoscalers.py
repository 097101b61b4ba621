"""A target that has an autoscaler: named, and nothing written (P9)."""

from __future__ import annotations

from typing import Final

import pytest
from tests.e2e.autoscaling import (
    HPA,
    SCALED_OBJECT,
    SCALED_OBJECTS_OF,
    SEEN_WITHIN,
    delete_hpa,
    make_hpa,
    make_scaled_object,
    write_hpa,
)
from tests.e2e.test_pauses import recover, trip
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def left_to_the_horizontal_pod_autoscaler(world: World) -> None:
    """From the first pass on, although work waits; the real controller scales, and nobody fights.
    Once it is deleted the replicas are ours."""
    world.deploy()
    make_hpa(world)
    world.store.enqueue(TRIPS)
    world.apply()
    found = world.until_condition("Scaling", "ReplicaConflict")
    assert f"HorizontalPodAutoscaler {HPA} scales it between 1 and 20" in found["message"]
    assert "Delete it, or name it in spec.target.guard" in found["message"]
    world.until_ready()  # it is a choice and no fault

    write_hpa(world, minReplicas=3)
    world.until(lambda: world.replicas() == 3, "the controller's own step")
    world.until_passes(3)
    assert world.scale_writes() == []
    world.until_condition("Scaling", "ReplicaConflict")

    delete_hpa(world)
    world.until(world.scale_writes, "a step of ours")
    assert world.scale_writes()[0].replicas == 4, "from where it left them"


def left_to_a_scaled_object(world: World) -> None:
    """Until it is paused: then nobody else scales."""
    world.deploy()
    make_scaled_object(world)
    world.store.enqueue(TRIPS)
    # Where the CRD was installed a moment ago, the operator may not have read it yet.
    world.apply(mode="Observe")
    world.until_condition("Scaling", "ReplicaConflict", within=SEEN_WITHIN)
    world.apply(mode="Enforce")
    world.until_passes(3)
    named = f"ScaledObject {SCALED_OBJECT}"
    world.until(lambda: named in world.condition("Scaling")["message"], "its name")
    assert world.scale_writes() == []
    path = f"{SCALED_OBJECTS_OF.format(world.namespace)}/{SCALED_OBJECT}"
    world.api.patch(path, {"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}})
    world.until(world.scale_writes, "a step of ours")
    world.until(lambda: "is paused" in world.condition("Scaling")["message"], "a word of it")


def breakers_go_on(world: World) -> None:
    world.deploy()
    make_hpa(world)
    world.apply_breaker()
    world.until_condition("Scaling", "ReplicaConflict")
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause of ours")
    recover(world)
    assert world.scale_writes() == []


STORIES: Final[tuple[Story, ...]] = (
    left_to_the_horizontal_pod_autoscaler,
    left_to_a_scaled_object,
    breakers_go_on,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_autoscalers(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
