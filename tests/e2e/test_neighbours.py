"""Five policies, one of them broken in the worst way: the others' passes go on as if it was not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from tests.e2e.place import Place
from tests.e2e.together import own_server
from tests.e2e.world import INTERVAL, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PASSES = 8


@pytest.fixture
def broken(place: Place) -> Iterator[World]:
    """On a server of its own."""
    with own_server(place, 20) as server, contextlib.closing(World.create(place, server)) as world:
        world.deploy()
        world.apply_breaker(database=world.roomy())
        world.until_ready()
        yield world
        server.thaw()


def freeze(world: World) -> None:
    world.store.server.freeze()


def drop_the_table(world: World) -> None:
    world.store.run("DROP TABLE queue_jobs")


def delete_the_target(world: World) -> None:
    world.api.delete(f"/apis/apps/v1/namespaces/{world.namespace}/deployments/etl-worker")


@pytest.mark.parametrize("spoil", [freeze, drop_the_table, delete_the_target])
def test_one_of_five_is_broken(world: World, broken: World, spoil: Callable[[World], None]) -> None:
    names = ["one", "two", "three", "four"]
    for name in names:
        world.deploy(name)
        world.apply(name, target={"name": name})
    for name in names:
        world.until_ready(name)
    spoil(broken)
    broken.until(lambda: broken.condition("Ready")["status"] == "False", "the broken one says so")

    begin = {name: len(world.passes(name)) for name in names}
    world.until_passes(PASSES, "one")
    for name in names:
        fresh = world.passes(name)[begin[name] :]
        assert len(fresh) >= PASSES - 1, name
        times = [datetime.fromisoformat(line["timestamp"]) for line in fresh]
        # One interval may be skipped where a wake-up falls in it, and the machine may be busy.
        gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
        assert max(gaps) < timedelta(seconds=2 * INTERVAL + 1), name

    world.store.enqueue(TRIPS)
    world.until(lambda: all(world.replicas(name) > 1 for name in names), "their steps")
