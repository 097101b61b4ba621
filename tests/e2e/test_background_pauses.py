"""A storm pauses ingestion, backfills and job types; they come back one by one, to the letter.

Pauses are in the order of mitigation, releases in its reverse (DESIGN: sources first, then what
works in the background).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Any, Final

import pytest
from tests.e2e.api import Json
from tests.e2e.place import Place
from tests.e2e.store import RUNNING
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import BREAKERS, SPEC, TARGET, TRIPS, WITHIN, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# In an order that is nobody's.
PRODUCERS: Final[list[Json]] = [
    {"name": "exports", "jobTypes": {"types": ["export", "backfill_range"]}},
    {"name": "backfills", "backfillJobs": {"auditTable": "audit_logs"}},
    {"name": "ingestion", "featureFlag": {}},
]
MITIGATION: Final = ["ingestion", "exports", "backfills"]
RECOVERY: Final = MITIGATION[::-1]
WINDOW: Final = 6.0  # seconds, `scaling.observeFor`
# How late a read of the database may be that saw a release. One that was not observed would come
# with the next pass, after 2 s.
LATE: Final = 3.0

STORM: Final = "process_snapshot"
# Jobs of the types that are held: due, not due yet, and one that failed long ago.
HELD: Final = """
    INSERT INTO queue_jobs (type, payload, status, run_after)
    SELECT CASE WHEN n % 2 = 0 THEN 'export' ELSE 'backfill_range' END, '{}',
           CASE WHEN n = 7 THEN 'failed' ELSE 'pending' END,
           now() - (n - 4) * interval '7 hours 3 minutes 0.123457 seconds'
      FROM generate_series(1, 15) AS n"""
LATER: Final = """
    INSERT INTO queue_jobs (type, payload, run_after)
    VALUES ('export', '{}', now() - interval '1 minute 0.000001 seconds')"""
FAR: Final = "SELECT count(*) FROM queue_jobs WHERE run_after > now() + interval '90 years'"
DUE: Final = 14  # of them wait or will

Rows = tuple[dict[str, Any], list[Any], list[Any]]


def begin(world: World) -> Rows:
    """Everything there, nothing paused; returns what people see."""
    world.store.make_backfills()
    world.store.let_hold_jobs()
    world.store.run(HELD)
    world.deploy()
    world.apply(
        target={"name": TARGET, "maxReplicas": 1},
        scaling={**SPEC["scaling"], "observeFor": f"{WINDOW:g}s"},
        producers=PRODUCERS,
        breakers=[{**BREAKERS[0], "pause": [producer["name"] for producer in PRODUCERS]}],
    )
    world.until_ready()
    return rows(world)


def rows(world: World) -> Rows:
    """The flag, backfills and jobs of the types that are held, every column of them."""
    store = world.store
    return (
        store.flag(),
        store.rows("SELECT * FROM backfill_jobs ORDER BY job_id"),
        store.rows("SELECT * FROM queue_jobs WHERE type <> 'process_snapshot' ORDER BY id"),
    )


def stopped(world: World) -> dict[str, bool]:
    """What stands still, as the database has it."""
    (backfills,) = world.store.rows("SELECT count(*) FROM backfill_jobs WHERE status = 'running'")
    ((held,),) = world.store.rows(FAR)
    return {
        "ingestion": world.store.paused,
        "exports": held > 0,
        "backfills": backfills == (0,),
    }


def trip(world: World) -> None:
    """Until all are paused."""
    world.store.enqueue(TRIPS, kind=STORM)
    until_all_are_held(world)


def until_all_are_held(world: World, within: float = WITHIN) -> None:
    def held() -> bool:
        found = world.status().get("paused", ())
        states = [(entry["state"], entry["progress"]) for entry in found]
        return states == [("Held", "Complete")] * len(PRODUCERS)

    world.until(held, "all are paused", within)
    assert all(stopped(world).values())


def until_all_run(world: World, before: Rows, within: float = WITHIN) -> None:
    world.until(lambda: world.breaker() == "Closed", "the breaker closes", within)
    assert world.status()["paused"] == []
    assert rows(world) == before


@contextlib.contextmanager
def watching(world: World) -> Iterator[list[tuple[float, str]]]:
    """When each came back, in order."""
    came: list[tuple[float, str]] = []
    over = threading.Event()

    def watch() -> None:
        stands = {name for name, still in stopped(world).items() if still}
        while stands and not over.wait(0.05):
            now = stopped(world)
            back = sorted(name for name in stands if not now[name])
            came.extend((time.monotonic(), name) for name in back)
            stands -= set(back)

    with ThreadPoolExecutor(1) as together:
        seeing = together.submit(watch)
        try:
            yield came
        finally:
            over.set()
            seeing.result()


def producers_of(world: World, reason: str) -> list[str]:
    """The producers of these Events, in the order in which they were reported."""
    notes = [str(event["note"]) for event in world.events_of(reason)]
    return [next(name for name in MITIGATION if name in note) for note in notes]


def in_order_and_back_one_at_a_time(world: World) -> None:
    before = begin(world)
    trip(world)
    world.until(lambda: len(producers_of(world, "Paused")) == len(PRODUCERS), "three Events")
    assert producers_of(world, "Paused") == MITIGATION
    notes = " ".join(str(event["note"]) for event in world.events_of("Paused"))
    assert "2 running backfills" in notes
    assert f"{DUE} waiting jobs held back" in notes
    assert rows(world)[1] != before[1]
    world.until(lambda: "held back" in str(world.status()["queues"][0]["notes"]), "a note of it")
    assert f"{DUE}" in str(world.status()["queues"][0]["notes"])

    with watching(world) as came:
        world.store.clear(kind=STORM)
        until_all_run(world, before)
    assert [name for _, name in came] == RECOVERY
    for (earlier, _), (later, _) in pairwise(came):
        assert later - earlier >= WINDOW - LATE, "one thing per window"
    world.until_reported("BreakerClosed")
    assert producers_of(world, "Resumed") == RECOVERY
    moments = [datetime.fromisoformat(e["eventTime"]) for e in world.events_of("Resumed")]
    assert all((b - a).total_seconds() >= WINDOW - LATE for a, b in pairwise(moments))


def what_arrives_meanwhile_is_held_and_comes_back_as_it_was(world: World) -> None:
    before = begin(world)
    trip(world)
    with world.store.connect() as application:
        found = application.execute(LATER + " RETURNING *").fetchone()
    world.until(lambda: world.store.rows(FAR) == [(DUE + 1,)], "the new job is held as well")
    assert world.status()["paused"] != []
    world.store.clear(kind=STORM)
    world.until(lambda: world.breaker() == "Closed", "the breaker closes")
    flag, backfills, jobs = rows(world)
    assert (flag, backfills) == before[:2]
    assert sorted(jobs) == sorted([*before[2], found])


def a_policy_that_observes_or_is_deleted_releases_all(world: World) -> None:
    before = begin(world)
    trip(world)
    world.apply(mode="Observe")
    world.until(lambda: rows(world) == before, "all is released on the switch")
    world.until(lambda: world.status()["paused"] == [], "nothing is held")
    world.apply(mode="Enforce")
    until_all_are_held(world)
    world.delete()
    world.until_gone()
    assert rows(world) == before
    assert before[0] == RUNNING


STORIES: Final[tuple[Story, ...]] = (
    in_order_and_back_one_at_a_time,
    what_arrives_meanwhile_is_held_and_comes_back_as_it_was,
    a_policy_that_observes_or_is_deleted_releases_all,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_background_pauses(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()


def test_killed_in_the_middle(place: Place, world: World) -> None:
    """While it pauses, while it holds and while it releases; each time all or nothing in the end,
    and then deleted at once (P4, P6)."""
    before = begin(world)
    chance = Random(4)
    for longest in (1.5, 3.0):
        world.store.enqueue(TRIPS, kind=STORM)
        time.sleep(chance.uniform(0, longest))  # any moment: nothing to wait for
        place.kill()
        until_all_are_held(world)
        world.store.clear(kind=STORM)
        time.sleep(chance.uniform(0, 2 * longest))
        place.kill()
        until_all_run(world, before)
    trip(world)
    world.delete()
    place.kill()
    world.until_gone()
    assert rows(world) == before
    assert world.tracebacks() == []
