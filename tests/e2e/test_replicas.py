"""Replicas: within the budget, one step at a time, never against another writer (P1, P3, P9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from tests.e2e.audit import observed
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.trouble import waiting_for_locks, workers
from tests.e2e.world import SPEC, TARGET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

QUIET: Final = 4.0  # seconds; `yieldFor` of the policies
# Where steps are to be judged by their throughput: rates need five seconds at least.
OBSERVED: Final = 6.0
JUDGED: Final = {**SPEC["scaling"], "observeFor": "6s"}
STORM: Final = 8000  # jobs; more than the workers of a story can do


def up_to_the_budget_and_not_beyond(world: World) -> None:
    """The sum is in status, and an admin can check it by hand."""
    world.deploy(env={"PG_POOL_MAX": "15"})
    world.apply(scaling=JUDGED)
    world.until_ready()
    world.store.enqueue(STORM)
    with workers(world):
        found = world.until_condition("Scaling", "BudgetExhausted")
        world.until_passes(2)
    terms = world.until(lambda: world.status().get("budget"), "a budget")
    cap = min(terms["usable"] - terms["others"] - terms["otherPolicies"] - 20, terms["pressureCap"])
    assert terms["workerCap"] == cap
    assert terms["slots"] == cap // 15
    assert terms["replicas"] == min(terms["slots"] - 1, terms["seedCap"]), "one is for the surge"
    assert "the budget is" in found["message"]
    steps = [write.replicas for write in world.scale_writes()]
    assert steps == list(range(2, terms["replicas"] + 1)), "one at a time, and then no more"
    assert observed(world.scale_writes(), OBSERVED), "each before the next"
    world.until(lambda: world.reasons().count("StepPassed") == len(steps), "the last verdict")


def two_policies_share_one_budget(world: World) -> None:
    """P1 counts all policies of a database together, whatever their targets are."""
    names = ("one", "two")
    world.store.enqueue(STORM)
    for name in names:
        world.deploy(name, env={"PG_POOL_MAX": "12"})
        world.apply(name, target={"name": name}, scaling=JUDGED)
    with workers(world, *names):
        for name in names:
            world.until_condition("Scaling", "BudgetExhausted", name=name)
    together = sum(world.replicas(name) for name in names)
    terms = world.until(lambda: world.status("one").get("budget"), "a budget")
    most = terms["usable"] - terms["others"] - 20
    assert together > len(names)
    assert (together + 2) * 12 <= most, "and a pod of surge for each of them"
    world.until(
        lambda: world.status("one")["budget"]["otherPolicies"] == (world.replicas("two") + 1) * 12,
        "what the other holds",
    )


def a_minimum_above_the_budget(world: World) -> None:
    """Reported in a condition; nothing is scaled up to it."""
    world.deploy(env={"PG_POOL_MAX": "40"})
    world.apply(target={"name": TARGET, "minReplicas": 5})
    found = world.until_condition("DatabaseHeadroom", "MinimumAboveBudget")
    assert "lower it" in found["message"]
    world.until_passes(2)
    assert world.scale_writes() == []


def a_person_scales(world: World) -> None:
    world.deploy(env={"PG_POOL_MAX": "1"})
    world.apply()
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(world.scale_writes, "a step of ours")

    when = datetime.now(UTC)
    world.scale(7)
    found = world.until_condition("Scaling", "ReplicaConflict")
    assert found["status"] == "False"
    assert "kubectl set replicas to 7" in found["message"]
    assert "ReplicaConflict" in world.status()["summary"]
    ours = len(world.scale_writes())

    after, *_ = world.until(lambda: world.scale_writes()[ours:], "a step after the quiet time")
    assert after.time - when >= timedelta(seconds=QUIET)
    assert after.replicas == 8, "from where the person left it"


def another_controller_insists(world: World) -> None:
    """It writes every other second: as long as it does, we do not write at all."""
    quiet = timedelta(seconds=15)
    world.deploy(env={"PG_POOL_MAX": "1"})
    world.apply(scaling={**SPEC["scaling"], "yieldFor": "15s"})
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(world.scale_writes, "a step of ours")
    ours = len(world.scale_writes())
    theirs: list[datetime] = []
    for number in range(4):
        theirs.append(datetime.now(UTC))
        world.scale(4 + number % 2)
        world.until_condition("Scaling", "ReplicaConflict")
        world.until_passes(1)
    # A busy machine may have been quiet for so long between two of theirs.
    soon = [
        write
        for write in world.scale_writes()[ours:]
        if any(timedelta(0) <= write.time - one < quiet for one in theirs)
    ]
    assert len(soon) <= 1, "at most the one that was under way"


def scaled_down_when_the_work_is_done(world: World) -> None:
    world.deploy(replicas=3)
    world.apply(scaling={**SPEC["scaling"], "scaleDownAfter": "4s", "observeFor": "6s"})
    world.until(lambda: world.replicas() == 1, "the minimum")
    world.until_passes(2)
    assert [write.replicas for write in world.scale_writes()] == [2, 1]
    assert observed(world.scale_writes(), OBSERVED), "the first before the second"


def a_step_that_brings_pressure_is_taken_back(world: World) -> None:
    """And held down: longer than the observation, although work still waits."""
    world.deploy(env={"PG_POOL_MAX": "1"})
    pressure = {**SPEC["database"], "pressure": {"lockWaiters": 2}}
    # Held down for twice that: long enough to be read on a busy machine.
    world.apply(scaling={**SPEC["scaling"], "observeFor": "20s"}, database=pressure)
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(world.scale_writes, "a step")
    with waiting_for_locks(world, 2):
        world.until(lambda: len(world.scale_writes()) == 2, "the revert")
        # Now: after the next step it may be that of another failure.
        held = world.until(lambda: world.status()["scaling"].get("holdDownUntil"), "the hold-down")
    assert [write.replicas for write in world.scale_writes()] == [2, 1]
    step = world.status()["scaling"]["lastStep"]
    assert (step["verdict"], step["reverted"]) == ("Failed", True)
    assert "sessions wait for a lock" in step["verdictMessage"]
    world.until_reported("StepFailed", "ScaledRevert")

    world.until_condition("Scaling", "HoldDown")
    world.until(lambda: len(world.scale_writes()) == 3, "the next step")
    assert world.scale_writes()[2].time >= datetime.fromisoformat(held)


def the_target_is_created_again(world: World) -> None:
    """Under the same name: nothing that is remembered of the old one is held against it."""
    world.deploy(env={"PG_POOL_MAX": "1"})
    world.apply()
    world.until_ready()
    path = f"/apis/apps/v1/namespaces/{world.namespace}/deployments/{TARGET}"
    world.api.delete(path)
    world.until_condition("Ready", "TargetNotFound")
    world.deploy(replicas=2, env={"PG_POOL_MAX": "1"})
    world.until_ready()
    before = len(world.scale_writes())
    world.store.enqueue(TRIPS)
    first, *_ = world.until(lambda: world.scale_writes()[before:], "a step")
    assert first.replicas == 3, "from where the new one is"


OWN_SERVER: Final = 100  # max_connections; what a story takes is not another's budget
STORIES: Final[tuple[Story, ...]] = (
    up_to_the_budget_and_not_beyond,
    two_policies_share_one_budget,
    a_minimum_above_the_budget,
    a_person_scales,
    another_controller_insists,
    scaled_down_when_the_work_is_done,
    a_step_that_brings_pressure_is_taken_back,
    the_target_is_created_again,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_replicas(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
