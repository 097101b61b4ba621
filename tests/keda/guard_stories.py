"""Guardrail mode beside a real KEDA: its operator, its metrics adapter, its admission webhooks.

`make test-keda` runs all stories, `make test-keda STORIES=short` those of `SHORT`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest
from tests.e2e.api import Refused
from tests.e2e.autoscaling import HPAS, SCALED_OBJECT, database
from tests.e2e.place import Place
from tests.e2e.together import OnServer, Outcomes, Story, side_by_side, title
from tests.e2e.world import TARGET, World
from tests.keda.scene import (
    CONNECTIONS,
    JOBS,
    OWN_HPA,
    OWNERS,
    SOON,
    Watcher,
    bounded,
    budget,
    deploy,
    full,
    get,
    guard,
    hpa_maximum,
    make,
    note,
    pause,
    scaled_by_keda,
    scaled_object,
    so_maximum,
    so_path,
    unmarked,
    write_maximum,
)

from local.keda import admit

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# Of one interval is nothing left when the watch works; a busy machine needs seconds for a pass.
AT_ONCE: Final = 10.0


def lowered_followed_and_restored(world: World) -> None:
    """From twenty pods to the budget; back to its owner's when the policy goes."""
    scaled_by_keda(world)
    began = time.monotonic()
    guard(world)
    allowed = bounded(world)
    lowered = time.monotonic() - began
    assert allowed == budget(world) < OWNERS
    world.until(lambda: world.replicas() == allowed, "the pods", SOON)
    note(
        world,
        "lowered",
        maximum=allowed,
        followed_s=round(lowered, 1),
        pods_s=round(time.monotonic() - began, 1),
    )
    # There is work for a hundred pods, and the controller says that it would have more.
    world.until_condition("Scaling", "BudgetExhausted", within=SOON)
    world.store.clear()
    said = world.until_condition("Scaling", "Guarded", within=SOON)
    assert said["status"] == "True"
    world.delete()
    world.until_gone()
    assert (so_maximum(world), unmarked(world)) == (OWNERS, True)
    world.until(lambda: hpa_maximum(world) == OWNERS, "KEDA's own", SOON)


def a_server_that_fills_up(world: World) -> None:
    """KEDA is refused by the very server that must be spared, and does not lower its own
    autoscaler: the operator does."""
    scaled_by_keda(world, maximum=6)
    guard(world, headroom=2)
    world.until_ready()
    world.until(lambda: budget(world) >= 6, "room for all six")
    watcher = Watcher(world)
    with watcher.watching(1), full(world) as clients:
        world.until(lambda: so_maximum(world) == 1, "the least", SOON)
        world.until(lambda: hpa_maximum(world) == 1, "KEDA's own autoscaler", SOON)
        world.until(lambda: world.replicas() == 1, "the pods", SOON)
        refused = world.until(lambda: _complaint(world), "KEDA's own word of it", SOON)
        note(
            world,
            "full",
            strangers=len(clients),
            keda=refused[:120],
            seconds={k: round(v, 1) for k, v in watcher.when.items()},
        )


def _complaint(world: World) -> str:
    conditions = get(world).get("status", {}).get("conditions", ())
    ready = next(c for c in conditions if c["type"] == "Ready")
    return str(ready.get("message")) if ready["status"] == "False" else ""


def a_pipeline_that_writes_it_back(world: World) -> None:
    """An interval is five minutes here: what is done at once is done by the watch."""
    scaled_by_keda(world, maximum=6)
    guard(world, headroom=40)
    allowed = bounded(world)
    world.until(lambda: world.replicas() == allowed, "the pods", SOON)
    world.apply(interval="5m")
    generation = world.policy()["metadata"]["generation"]
    world.until(lambda: world.status()["observedGeneration"] == generation, "the pass of the edit")
    watcher = Watcher(world)

    def lowered() -> bool:
        mine = world.status()["scaling"]["guard"].get("previousMaximum") == OWNERS
        return mine and so_maximum(world) == hpa_maximum(world) == allowed

    with watcher.watching(allowed):
        write_maximum(world, OWNERS)
        world.until(lowered, "lowered", AT_ONCE)
        world.until(lambda: world.replicas() == allowed, "the pods", SOON)
    note(
        world,
        "written back",
        most_pods=watcher.most,
        maximum=allowed,
        seconds={k: round(v, 2) for k, v in watcher.when.items()},
    )


def deleted_and_created_again(world: World) -> None:
    """In the first second of its life KEDA writes a ScaledObject again and again."""
    scaled_by_keda(world)
    guard(world)
    bounded(world)
    world.api.delete(so_path(world))
    world.until(partial(_is_gone, world), "KEDA lets go of it", SOON)
    watcher = Watcher(world)
    with watcher.watching(budget(world)):
        began = time.monotonic()
        make(world, scaled_object())
        bounded(world)
        took = time.monotonic() - began
    note(
        world,
        "made again",
        most_pods=watcher.most,
        followed_s=round(took, 1),
        seconds={k: round(v, 2) for k, v in watcher.when.items()},
    )


def _is_gone(world: World) -> bool:
    try:
        get(world)
    except Refused as refused:
        return refused.status == 404
    return False


def paused_above_the_budget(world: World) -> None:
    """KEDA deletes its autoscaler then: what keeps the pods is said, with both numbers."""
    scaled_by_keda(world)
    guard(world)
    allowed = bounded(world)
    pause(world, paused_replicas="15")
    said = world.until_condition("Scaling", "PausedAboveBudget", within=SOON)
    assert said["status"] == "False"
    assert "autoscaling.keda.sh/paused-replicas keeps 15 replicas" in said["message"]
    world.until(lambda: world.replicas() == 15, "fifteen pods", SOON)
    pause(world, paused_replicas=None, paused="true")
    text = world.until(lambda: _says(world, "autoscaling.keda.sh/paused leaves 15"), "the other")
    assert "or remove the annotation" in text
    pause(world, paused=None)
    assert bounded(world) <= allowed
    world.until(lambda: world.replicas() <= allowed, "the pods", SOON)


def _says(world: World, text: str) -> str:
    message = str(world.condition("Scaling")["message"])
    return message if text in message else ""


def restored_from_a_backup(world: World) -> None:
    """With our marks in it, as it was while it was lowered."""
    scaled_by_keda(world, maximum=5)
    guard(world, headroom=60)
    assert bounded(world) < 5
    backup = get(world)
    meta = backup["metadata"]
    backup = {
        **{key: backup[key] for key in ("apiVersion", "kind", "spec")},
        "metadata": {"name": SCALED_OBJECT, "annotations": meta["annotations"]},
    }
    world.api.delete(so_path(world))
    world.until(partial(_is_gone, world), "KEDA lets go of it", SOON)
    make(world, backup)
    world.until_ready()
    world.apply(database=database(2))
    world.until(lambda: so_maximum(world) == 5 and unmarked(world), "its owner's maximum", SOON)
    world.until(lambda: hpa_maximum(world) == 5, "KEDA's own", SOON)


def applied_to_a_server_that_is_full_already(world: World) -> None:
    """Nobody lets the operator in; KEDA would go on to twenty pods."""
    scaled_by_keda(world, jobs=20)
    with full(world):
        guard(world)
        assert bounded(world) == 4, "what runs"
        world.until_condition("Scaling", "DatabaseFull", within=SOON)
        world.store.enqueue(JOBS)
        world.until_passes(4)
        assert (so_maximum(world), world.replicas()) == (4, 4)
    world.until(lambda: so_maximum(world) > 4, "it counts again", SOON)


def a_webhook_of_keda_refuses(world: World) -> None:
    """Two autoscalers of one workload are refused from then on, our write included."""
    deploy(world)
    make(world, scaled_object())
    world.until(lambda: hpa_maximum(world) == OWNERS, "KEDA's own", SOON)
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": TARGET}
    second = {"metadata": {"name": "second"}, "spec": {"scaleTargetRef": ref, "maxReplicas": 30}}
    world.api.create(HPAS.format(world.namespace), second)
    admit(world.place.cluster, world.namespace)
    guard(world)
    said = world.until_condition("Scaling", "AdmissionRefused", within=SOON)
    assert said["status"] == "False"
    assert "vscaledobject.kb.io" in said["message"]
    assert so_maximum(world) == OWNERS
    world.api.delete(f"{HPAS.format(world.namespace)}/second")
    bounded(world)


def without_a_guard(world: World) -> None:
    """The advice names what its owner wrote, not what KEDA made of it."""
    scaled_by_keda(world, maximum=3)
    world.apply()
    said = world.until_condition("Scaling", "ReplicaConflict", within=SOON)
    assert f"ScaledObject {SCALED_OBJECT}" in said["message"]
    assert "spec.target.guard.scaledObject" in said["message"]
    assert OWN_HPA not in said["message"]
    world.until_passes(3)
    assert world.scale_writes() == []


SHORT: Final[tuple[Story, ...]] = (
    lowered_followed_and_restored,
    a_server_that_fills_up,
    a_pipeline_that_writes_it_back,
)
STORIES: Final[tuple[Story, ...]] = (
    SHORT
    if os.environ.get("STORIES") == "short"
    else (
        *SHORT,
        deleted_and_created_again,
        paused_above_the_budget,
        restored_from_a_backup,
        applied_to_a_server_that_is_full_already,
        a_webhook_of_keda_refuses,
        without_a_guard,
    )
)


@pytest.fixture(scope="module")
def outcomes(with_keda: Place) -> Iterator[Outcomes]:
    stories = [OnServer(story, CONNECTIONS) for story in STORIES]
    with side_by_side(with_keda, stories) as outcomes:
        yield outcomes


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_keda(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
