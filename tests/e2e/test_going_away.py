"""The CRD is deleted, with the operator well or restarting: pauses are released, nothing hangs.

A cluster of its own: these stories take the CRD away from everybody.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from tests.e2e.api import Refused
from tests.e2e.place import ROOT, STARTS_WITHIN, Place, installed
from tests.e2e.store import RUNNING
from tests.e2e.test_pauses import paused_by_us
from tests.e2e.world import World

from local.errors import LocalError
from local.paths import new_run_dir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CRD: Final = "crd/queuebacklogpolicies.backlog.starforge.dev"
CRD_PATH: Final = (
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
    "queuebacklogpolicies.backlog.starforge.dev"
)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(installed(new_run_dir("going")))
        except LocalError as error:
            pytest.fail(f"the cluster did not start: {error}", pytrace=False)
        yield place


@pytest.fixture
def worlds(place: Place) -> Iterator[tuple[World, World]]:
    """Two, so that no operator frees only the first."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(contextlib.closing(World.create(place, place.cluster.postgres)))
            for _ in range(2)
        ]
        yield made[0], made[1]
        apply_crd(place)


def apply_crd(place: Place) -> None:
    """As somebody who installs again: over one that is terminating this is refused."""

    def applied() -> bool:
        place.cluster.apply_crds(ROOT / "crds")
        return True

    place.cluster.eventually(applied, what="the CRD", within=60)


def is_there(place: Place) -> bool:
    try:
        place.api.get(CRD_PATH)
    except Refused as refused:
        if refused.status != 404:
            raise
        return False
    return True


def until_gone(world: World) -> None:
    world.until(lambda: not is_there(world.place), "the CRD is gone", STARTS_WITHIN)


def paused_in(worlds: tuple[World, World]) -> None:
    with ThreadPoolExecutor(len(worlds)) as together:
        for done in [together.submit(paused_by_us, world) for world in worlds]:
            done.result()


def test_the_crd_is_deleted_while_pauses_are_held(worlds: tuple[World, World]) -> None:
    one, two = worlds
    place = one.place
    paused_in(worlds)
    place.cluster.kubectl("delete", CRD, "--wait=false")
    until_gone(one)
    assert [world.store.flag() for world in worlds] == [RUNNING, RUNNING]

    # Installed again, its policies are followed again, by the same installation.
    apply_crd(place)
    two.apply("again")
    two.until_ready("again")
    assert one.tracebacks() + two.tracebacks() == []


def test_the_operator_restarts_while_the_crd_is_terminating(worlds: tuple[World, World]) -> None:
    """One pause cannot be released for a while, so that the CRD outlives the operator's process."""
    stuck, free = worlds
    place = stuck.place
    paused_in(worlds)
    with stuck.store.connect() as person, person.transaction():
        person.execute("SELECT 1 FROM feature_flags FOR UPDATE")
        place.cluster.kubectl("delete", CRD, "--wait=false")
        free.until_gone()
        found = stuck.until_condition("Ready", "ReleaseFailed")
        assert "release=abandon" in found["message"]
        mark = place.log_mark()
        os.kill(place.pid(), signal.SIGKILL)
        place.cluster.eventually(
            lambda: "its CRD is being deleted" in place.log_text(mark),
            what="the new process says what it waits for",
            within=STARTS_WITHIN,
        )
        assert place.probe("readyz")[0] != 200
        assert place.probe("healthz")[0] == 200
    until_gone(stuck)
    assert [world.store.flag() for world in worlds] == [RUNNING, RUNNING]
    apply_crd(place)
    place.cluster.eventually(
        lambda: place.probe("readyz")[0] == 200, what="ready again", within=STARTS_WITHIN
    )
    free.apply("again")
    free.until_ready("again")
