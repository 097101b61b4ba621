"""Guardrail mode with the real HorizontalPodAutoscaler controller (P1, P2, P4, P6, P9).

The controller has no metrics here: it keeps its bounds, down to its maximum and up to its minimum,
and nothing else. How an autoscaler follows a load is not its bounds' business.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from tests.e2e.autoscaling import (
    CONNECTIONS,
    GUARDED,
    GUARDED_BY_KEDA,
    HPA,
    OWNERS,
    POOL,
    database,
    delete_hpa,
    hpa,
    lowered,
    make_hpa,
    make_kedas_hpa,
    make_scaled_object,
    marks,
    maximum,
    the_scaled_object,
    write_hpa,
)
from tests.e2e.test_pauses import recover, trip
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import SPEC, TARGET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# The controller reads every 15 s.
CONTROLLER_WITHIN: Final = 300.0


def budget(world: World) -> int:
    return int(world.status()["budget"]["replicas"])


def lowered_at_once_and_the_controller_follows(world: World) -> None:
    """More pods than the database serves: the maximum goes down, and the controller with it."""
    found = lowered(world, replicas=9)
    said = world.until_condition("Scaling", "Guarded")
    assert said["status"] == "True", "nobody asks for more"
    assert found == world.status()["scaling"]["guard"]["maximum"]
    assert found < 9
    world.until(lambda: world.replicas() == found, "the controller's step", CONTROLLER_WITHIN)
    # Pods that are about to end count until they are gone, and lower no maximum.
    world.until(lambda: budget(world) == found, "the budget without terminating pods")
    world.store.enqueue(TRIPS)
    world.until_passes(3)
    assert world.scale_writes() == [], "replicas are not ours"
    guard = world.status()["scaling"]["guard"]
    assert (guard["previousMaximum"], guard["name"]) == (OWNERS, HPA)
    kept = marks(hpa(world))
    assert kept["backlog.starforge.dev/guard-previous-maximum"] == str(OWNERS)
    assert kept["backlog.starforge.dev/guard-token"] == guard["token"]
    world.until_reported("MaximumLowered")
    named = f"maximum of HorizontalPodAutoscaler {HPA}"
    world.until(lambda: named in world.status()["summary"], "the summary says so")
    assert world.place.metric("actions_total", namespace=world.namespace, action="MaximumLowered")


def raised_by_steps_and_restored_exactly(world: World) -> None:
    """Never above its owner's: then the mark goes, and the object is as it was. A step is observed
    for longer than a busy machine stalls."""
    world.deploy(env=POOL)
    make_hpa(world, maximum=6)
    before = hpa(world)
    slow = {**SPEC["scaling"], "observeFor": "10s"}
    world.apply(target=GUARDED, database=database(headroom=65), scaling=slow)
    world.until(lambda: maximum(world) <= 2, "a low maximum")
    seen = [maximum(world)]
    world.apply(database=database(headroom=2))

    def back() -> bool:
        now = hpa(world)
        seen.append(now["spec"]["maxReplicas"])
        return now["spec"]["maxReplicas"] == 6 and not marks(now)

    world.until(back, "its own maximum")
    steps = sorted(set(seen))
    assert all(b - a == 1 for a, b in pairwise(steps)), "by stepUp"
    assert hpa(world)["spec"] == before["spec"]
    assert marks(hpa(world)) == {}
    world.until_reported("MaximumRaised", "MaximumRestored")
    assert "previousMaximum" not in world.status()["scaling"]["guard"]


def what_others_may_count_on(world: World) -> None:
    """The autoscaler may go to its maximum at any moment: so much is kept for it (P1)."""
    found = lowered(world, headroom=60)
    world.deploy("another", env=POOL)
    world.apply("another", target={"name": "another"}, database=database(60))
    world.until_ready("another")
    world.until(
        lambda: world.status("another")["budget"]["otherPolicies"] == (found + 1) * 10,
        "its maximum and a pod of surge, of ten connections each",
    )


def an_unknown_budget_moves_nothing(world: World) -> None:
    found = lowered(world, headroom=60)
    world.store.server.freeze()
    world.until_not_known("Scaling")
    world.apply(database=database(2))
    world.until_passes(3)
    assert maximum(world) == found
    world.store.server.thaw()
    world.until(lambda: maximum(world) > found, "a step up, once it is known")


def a_new_maximum_of_its_owner(world: World) -> None:
    """Theirs is the one to restore; lowered again, because the database is as small as before. A
    pipeline that always writes it back is respected."""
    found = lowered(world)
    # Longer than a busy machine needs between the two: coming back later is a first time again.
    world.apply(interval="5m", scaling={**SPEC["scaling"], "yieldFor": "60s"})
    generation = world.policy()["metadata"]["generation"]
    world.until(lambda: world.status()["observedGeneration"] == generation, "the pass of the edit")
    write_hpa(world, maxReplicas=15)
    world.until(lambda: maximum(world) == found, "lowered once more, long before the interval ends")
    world.until(
        lambda: world.status()["scaling"]["guard"].get("previousMaximum") == 15, "theirs is kept"
    )
    world.apply(interval="2s")
    write_hpa(world, maxReplicas=15)
    said = world.until_condition("Scaling", "ReplicaConflict")
    assert "set the maximum of HorizontalPodAutoscaler hpa back to 15" in said["message"]
    assert maximum(world) == 15
    world.until(lambda: maximum(world) == found, "after the time of respect")
    world.delete()
    world.until_gone()
    assert (maximum(world), marks(hpa(world))) == (15, {})


def released_by_observe_and_taken_again(world: World) -> None:
    lowered(world)
    world.apply(mode="Observe")
    world.until(lambda: maximum(world) == OWNERS and not marks(hpa(world)), "its own maximum")
    world.until_passes(2)
    assert maximum(world) == OWNERS
    world.until(lambda: "set the maximum" in world.status()["summary"], "what it would do")
    world.apply(mode="Enforce")
    world.until(lambda: maximum(world) < OWNERS, "lowered again")


def released_when_the_guard_is_taken_away(world: World) -> None:
    """The autoscaler is still there, so its replicas are still its own."""
    lowered(world)
    world.apply(target={"guard": None})
    world.until(lambda: maximum(world) == OWNERS and not marks(hpa(world)), "its own maximum")
    world.until_condition("Scaling", "ReplicaConflict")
    assert world.scale_writes() == []


def deleted_while_it_is_lowered(world: World) -> None:
    lowered(world)
    world.delete()
    world.until_gone()
    assert (maximum(world), marks(hpa(world))) == (OWNERS, {})


def below_its_minimum_it_cannot_go(world: World) -> None:
    world.deploy(replicas=5, env=POOL)
    make_hpa(world, minimum=5, maximum=OWNERS)
    world.apply(target=GUARDED, database=database(60))
    said = world.until_condition("Scaling", "MinimumAboveBudget")
    assert maximum(world) == 5
    assert "lower its minimum" in said["message"]


def a_guard_of_something_else(world: World) -> None:
    world.deploy()
    world.deploy("another")
    make_hpa(world)
    world.apply(target={**GUARDED, "name": "another"})
    said = world.until_condition("Ready", "GuardMismatch")
    assert f"scales Deployment {TARGET} and not Deployment another" in said["message"]
    world.apply("missing", target={"name": TARGET, "guard": {"horizontalPodAutoscaler": "no"}})
    said = world.until_condition("Ready", "AutoscalerNotFound", name="missing")
    assert "does not exist" in said["message"]
    assert maximum(world) == OWNERS
    assert world.scale_writes() == []


def breakers_go_on(world: World) -> None:
    world.deploy(env=POOL)
    make_hpa(world, maximum=OWNERS)
    world.apply_breaker(target=GUARDED, database=database(20))
    world.until(lambda: maximum(world) < OWNERS, "a lower maximum")
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause of ours")
    recover(world)


def a_deleted_autoscaler(world: World) -> None:
    """Made again, it is another one: nothing of the old one is written there."""
    lowered(world)
    delete_hpa(world)
    world.until_condition("Ready", "AutoscalerNotFound")
    make_hpa(world, maximum=3)
    world.until_ready()
    world.until_passes(2)
    assert (maximum(world), marks(hpa(world))) == (3, {})
    world.delete()
    world.until_gone()


def the_memory_is_cleared_beside_a_lowered_maximum(world: World) -> None:
    """The autoscaler keeps its owner's maximum itself: it stays lowered, and is restored."""
    before = lowered(world, headroom=65)
    world.forget_memory()
    world.until_passes(3)
    assert maximum(world) == before
    assert world.status()["scaling"]["guard"]["previousMaximum"] == OWNERS
    world.apply(mode="Observe")
    world.until(lambda: maximum(world) == OWNERS and not marks(hpa(world)), "its own maximum")


def a_scaled_object(world: World) -> None:
    """One that names no maximum has none again at the end. KEDA does not run here: what it would
    have made is here, and nobody makes it follow but the operator."""
    world.deploy(env=POOL)
    make_scaled_object(world)
    make_kedas_hpa(world)
    before = the_scaled_object(world)["spec"]
    world.apply(target=GUARDED_BY_KEDA, database=database(20))
    world.until(lambda: "maxReplicaCount" in the_scaled_object(world)["spec"], "a lower maximum")
    world.until(
        lambda: the_scaled_object(world)["spec"]["maxReplicaCount"] == budget(world), "the budget"
    )
    world.until(lambda: maximum(world) == budget(world), "KEDA's own autoscaler is lowered, too")
    write_hpa(world, maxReplicas=30)
    world.until(lambda: maximum(world) == budget(world), "lowered once more")
    world.until_reported("MaximumLowered")
    world.delete()
    world.until_gone()
    assert the_scaled_object(world)["spec"] == before
    assert marks(the_scaled_object(world)) == {}


OWN_SERVER: Final = CONNECTIONS  # max_connections; what a story takes is not another's budget
STORIES: Final[tuple[Story, ...]] = (
    lowered_at_once_and_the_controller_follows,
    raised_by_steps_and_restored_exactly,
    what_others_may_count_on,
    an_unknown_budget_moves_nothing,
    a_new_maximum_of_its_owner,
    released_by_observe_and_taken_again,
    released_when_the_guard_is_taken_away,
    deleted_while_it_is_lowered,
    below_its_minimum_it_cannot_go,
    a_guard_of_something_else,
    breakers_go_on,
    a_deleted_autoscaler,
    the_memory_is_cleared_beside_a_lowered_maximum,
    a_scaled_object,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_guard(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
