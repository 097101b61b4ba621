"""Nothing is written to the API server when nothing changed (P7): by its own log, none at all.

But the time of the last pass, every 8 to 10 minutes: `unit/test_cluster_status.py` turns the clock.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Final

import pytest
from tests.e2e.place import Place
from tests.e2e.store import RUNBOOKS_PAUSE
from tests.e2e.world import SECRET, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

INTERVALS: Final = 10
WINDOWS: Final = 6


@pytest.fixture
def worlds(place: Place) -> Iterator[list[World]]:
    """A healthy policy, one that only observes, one with another client's pause, one that is
    broken, one that is suspended."""
    with contextlib.ExitStack() as stack:

        def make() -> World:
            world = World.create(place, place.cluster.postgres)
            stack.callback(world.close)
            world.deploy()
            return world

        healthy, observing, paused, broken, suspended = (make() for _ in range(5))
        healthy.apply_breaker()
        observing.apply_breaker(mode="Observe")
        paused.store.run(RUNBOOKS_PAUSE)
        paused.apply_breaker()
        broken.api.delete(f"/api/v1/namespaces/{broken.namespace}/secrets/{SECRET}")
        broken.apply_breaker()
        suspended.apply_breaker(suspend=True)
        for world in (healthy, observing, paused, suspended):
            world.until_ready()
        paused.until_condition("ProducersRunning", "PausedByOthers")
        broken.until_condition("Ready", "SecretNotFound")
        # Rates need a while until they are known; after that nothing moves any more.
        for world in (healthy, observing, paused):
            world.until(partial(rates_are_known, world), "rates")
        yield [healthy, observing, paused, broken, suspended]


def test_no_write_while_nothing_changes(place: Place, worlds: list[World]) -> None:
    for _ in range(WINDOWS):
        for world in worlds:
            world.until(partial(still, world), "a pass that writes nothing")
        begin = {world.namespace: len(world.passes()) for world in worlds}
        mark = place.audit.mark()
        before = place.metrics()
        passes = worlds[0].until_passes(INTERVALS)
        asked = place.audit.since(mark)
        # A reading that is late on a busy machine is a change, and written.
        said = [{line["event"] for line in w.passes()[begin[w.namespace] :]} for w in worlds]
        if all(len(sentences) <= 1 for sentences in said):
            break
    else:
        pytest.fail(f"no {INTERVALS} passes in which every policy said the same: {said}")
    assert [request for request in asked if request.writes] == []

    # It did read, all the time.
    assert {line["status"] for line in passes} == {"Unchanged"}
    verbs = Counter(request.verb for request in asked)
    assert verbs["get"] >= INTERVALS * (len(worlds) - 1)

    # And says the same of itself.
    after = place.metrics()
    written = [
        key
        for key in after
        if key[0] == "kubernetes_requests_total"
        and dict(key[1])["verb"] not in {"get", "list", "watch"}
        and after[key] != before.get(key)
    ]
    assert written == []


def rates_are_known(world: World) -> bool:
    return bool(world.status()["queues"][0]["throughputPerSecond"] != "unknown")


def still(world: World) -> bool:
    """The last two passes wrote nothing."""
    return [line["status"] for line in world.passes()[-2:]] == ["Unchanged"] * 2
