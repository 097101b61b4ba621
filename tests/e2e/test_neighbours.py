"""Five policies, one of them broken: the passes of the others go on as if it was not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest
from tests.e2e.place import Place
from tests.e2e.together import OnServer, Outcomes, Story, own_server, side_by_side, title
from tests.e2e.world import TRIPS, World

from local.postgres import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

PASSES: Final = 8
OTHERS: Final = ("one", "two", "three", "four")


def beside(world: World, spoil: Callable[[World], None]) -> None:
    """The fifth policy has a server of its own, so that it can be broken in any way."""
    with own_server(world.place, 20) as server, broken_world(world.place, server) as broken:
        for name in OTHERS:
            world.deploy(name)
            world.apply(name, target={"name": name})
        for name in OTHERS:
            world.until_ready(name)
        before = gaps(world)
        spoil(broken)
        broken.until(lambda: broken.condition("Ready")["status"] == "False", "it says so")
        go_on(world, before)
        assert broken.condition("Ready")["status"] == "False"


@contextlib.contextmanager
def broken_world(place: Place, server: PostgresServer) -> Iterator[World]:
    with contextlib.closing(World.create(place, server)) as world:
        world.deploy()
        world.apply_breaker(database=world.roomy())
        world.until_ready()
        try:
            yield world
        finally:
            server.restart()  # whatever was done to it: the world is taken down by its help


def gaps(world: World) -> dict[str, timedelta]:
    """Between the passes of each from now on: the median, as a single gap is the machine's."""
    begin = {name: len(world.passes(name)) for name in OTHERS}
    found: dict[str, timedelta] = {}
    for name in OTHERS:
        world.until_passes(max(1, PASSES - len(world.passes(name)[begin[name] :])), name)
        fresh = world.passes(name)[begin[name] :]
        times = [datetime.fromisoformat(line["timestamp"]) for line in fresh]
        found[name] = sorted(after - before for before, after in pairwise(times))[len(fresh) // 2]
    return found


def go_on(world: World, before: dict[str, timedelta]) -> None:
    """A neighbour that is waited for costs five seconds in every pass."""
    for name, gap in gaps(world).items():
        assert gap < before[name] + timedelta(seconds=3), (name, gap, before[name])
    world.store.enqueue(TRIPS)
    world.until(lambda: all(world.replicas(name) > 1 for name in OTHERS), "their steps")


def a_frozen_database(world: World) -> None:
    beside(world, lambda broken: broken.store.server.freeze())


def a_stopped_database(world: World) -> None:
    beside(world, lambda broken: broken.store.server.stop("immediate"))


def a_dropped_table(world: World) -> None:
    beside(world, lambda broken: broken.store.run("DROP TABLE queue_jobs"))


def a_deleted_target(world: World) -> None:
    path = "/apis/apps/v1/namespaces/{}/deployments/etl-worker"
    beside(world, lambda broken: broken.api.delete(path.format(broken.namespace)))


STORIES: Final[tuple[Story, ...]] = (
    a_frozen_database,
    a_stopped_database,
    a_dropped_table,
    a_deleted_target,
)


@pytest.fixture(scope="module")
def alone(place: Place) -> Iterator[Outcomes]:
    """Not beside the stories of other files: what is late here is late because of its neighbour."""
    with side_by_side(place, map(OnServer, STORIES)) as outcomes:
        yield outcomes


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_the_others_go_on(alone: Outcomes, story: Story) -> None:
    alone[story].result()
