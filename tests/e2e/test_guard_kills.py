"""A guarded autoscaler while the operator is killed (P4, P6)."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from tests.e2e.autoscaling import CONNECTIONS, OWNERS, database, hpa, lowered, marks, maximum
from tests.e2e.place import Place
from tests.e2e.together import own_server
from tests.e2e.world import World
from tests.thorough import THOROUGH

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SEED: Final = 4_711
KILLS: Final = 8 if THOROUGH else 4


def test_killed_at_any_moment_the_owners_maximum_is_never_lost(place: Place) -> None:
    """Lowered and raised again and again while the operator is killed: at every sample the object
    says what its owner's maximum is, and at the end it has it back."""
    dice = random.Random(SEED)
    with (
        own_server(place, CONNECTIONS) as server,
        contextlib.closing(World.create(place, server)) as world,
    ):
        lowered(world)
        over = threading.Event()

        def watch() -> int:
            samples = 0
            while not over.wait(0.05):
                found = hpa(world)
                now, kept = found["spec"]["maxReplicas"], marks(found)
                if kept:
                    assert kept["backlog.starforge.dev/guard-previous-maximum"] == str(OWNERS)
                    assert kept["backlog.starforge.dev/guard-maximum"] == str(now)
                else:
                    assert now == OWNERS, "lowered without a mark"
                samples += 1
            return samples

        with ThreadPoolExecutor(1) as together:
            watching = together.submit(watch)
            try:
                for number in range(KILLS):
                    world.apply(database=database((2, 60)[number % 2]))
                    time.sleep(dice.uniform(0.0, 2.5))
                    place.kill()
            finally:
                over.set()
            assert watching.result() > KILLS
        world.until_condition("Ready", "AllReadable")
        world.delete()
        world.until_gone()
        assert (maximum(world), marks(hpa(world))) == (OWNERS, {})
        assert world.scale_writes() == []
