"""The operator is killed again and again while it steps and pauses (P1, P3, P4, P6).

Most kills come at any moment, the start included. The others come while a new policy takes its
first step: when its intent is on record, or when the write of replicas reaches the API server.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Final

import pytest
from tests.e2e.audit import Request, observed
from tests.e2e.place import STARTS_WITHIN, Place
from tests.e2e.store import RUNBOOKS_PAUSE, RUNNING
from tests.e2e.test_pauses import calm, recover, trip
from tests.e2e.together import own_server
from tests.e2e.trouble import waiting_for_locks
from tests.e2e.world import SPEC, TRIPS, World
from tests.thorough import THOROUGH

from local.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SEED: Final = 20_240
KILLS: Final = 20 if THOROUGH else 8
STEP_EVERY: Final = 4  # of these kills
# A start takes about two seconds: some of these kills come before the first pass.
LONGEST_LIFE: Final = 4.0
POOL: Final = 2
OBSERVED: Final = 6  # seconds; see `observed`


@dataclass(frozen=True)
class Ordeal:
    """Kills begin when every story has; stories end when the kills are over."""

    begun: threading.Barrier
    over: threading.Event

    def begin(self) -> None:
        self.begun.wait(STARTS_WITHIN)


def steps(world: World, ordeal: Ordeal) -> Callable[[], None]:
    """More and more policies on one database, each of which wants more replicas."""
    world.store.enqueue(20_000)
    ordeal.begin()
    ordeal.over.wait()

    def check() -> None:
        written = [write for write in world.scale_writes() if write.code == 200]
        by_target: dict[str, list[Request]] = {}
        for write in written:
            by_target.setdefault(write.name, []).append(write)
        assert len(by_target) >= KILLS // STEP_EVERY - 1, "they stepped, killed or not"
        opened = 0
        for writes in by_target.values():
            replicas = [1, *(write.replicas or 0 for write in writes)]
            assert max(b - a for a, b in pairwise(replicas)) <= 1, "one at a time (P3)"
            ups = [w for w, (a, b) in zip(writes, pairwise(replicas), strict=True) if b > a]
            assert observed(ups, OBSERVED), "each before the next (P3)"
            opened += (max(replicas) + 1) * POOL
        # With no reading of the operator's in it: superusers' slots, its own session, headroom.
        assert opened <= 100 - 3 - 1 - 20, "all policies of the database together (P1)"

    return check


def pauses(world: World, ordeal: Ordeal) -> Callable[[], None]:
    """Trips and recovers again and again; what is paused stays so until it is calm."""
    world.deploy()
    world.apply_breaker(target={"name": "etl-worker", "maxReplicas": 1})
    world.until_ready()
    ordeal.begin()
    rounds = 0
    while not ordeal.over.is_set():
        trip(world)
        world.until(lambda: world.pause()["state"] == "Held", "a pause of ours")
        hold_until = time.monotonic() + 3
        while time.monotonic() < hold_until:
            assert world.store.paused, "an open breaker stays open"
            ordeal.over.wait(0.1)
        world.store.clear()
        world.until(lambda: not world.store.paused, "the release")
        world.until(lambda: world.breaker() == "Closed", "the breaker closes")
        assert world.store.flag() == RUNNING
        rounds += 1

    def check() -> None:
        assert rounds >= (2 if THOROUGH else 1)
        assert world.status()["paused"] == []

    return check


def stays_open(world: World, ordeal: Ordeal) -> Callable[[], None]:
    """Tripped before the first kill, and the backlog stays: paused at every sample."""
    world.deploy()
    world.apply_breaker(target={"name": "etl-worker", "maxReplicas": 1})
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause of ours")
    entry = world.pause()
    ordeal.begin()
    while not ordeal.over.wait(0.1):
        assert world.store.paused

    def check() -> None:
        assert world.breaker() == "Open"
        assert world.pause() == entry, "the same pause, not another one"
        assert world.reasons().count("Paused") == 1
        recover(world)
        assert world.store.flag() == RUNNING

    return check


def theirs(world: World, ordeal: Ordeal) -> Callable[[], None]:
    """A person paused first: nobody touches it, whatever the breaker does meanwhile."""
    world.deploy()
    world.store.run(RUNBOOKS_PAUSE)
    flag = world.store.flag()
    world.apply_breaker(target={"name": "etl-worker", "maxReplicas": 1})
    trip(world)
    ordeal.begin()
    while not ordeal.over.wait(0.1):
        assert world.store.flag() == flag

    def check() -> None:
        calm(world)
        world.delete()
        world.until_gone()
        assert world.store.flag() == flag

    return check


def held_down(world: World, ordeal: Ordeal) -> Callable[[], None]:
    """A step failed before the first kill: none before the time that was set then."""
    world.deploy(env={"PG_POOL_MAX": "1"})
    world.apply(
        scaling={**SPEC["scaling"], "observeFor": "20s"},
        database={**SPEC["database"], "pressure": {"lockWaiters": 2}},
    )
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(world.scale_writes, "a step")
    with waiting_for_locks(world, 2):
        world.until(lambda: len(world.scale_writes()) == 2, "the revert")
    hold = world.until(lambda: world.status()["scaling"].get("holdDownUntil"), "a hold-down")
    ordeal.begin()
    ordeal.over.wait()

    def check() -> None:
        until = datetime.fromisoformat(hold)
        later = world.until(lambda: world.scale_writes()[2:], "a step after all")
        assert later[0].time >= until
        failed = world.status()["scaling"]["failedSteps"]
        assert failed == 1 or len(later) > 1

    return check


STORIES: Final = (steps, pauses, stays_open, theirs, held_down)


def kill(place: Place) -> None:
    """The process that runs now, or the next one that does."""
    pid = eventually(
        lambda: _pid(place), within=STARTS_WITHIN, what="a process to kill", every=0.02
    )
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pid(place: Place) -> int | None:
    """LookupError is "not yet"; so is a pid that is dead, which the pod's status may still name."""
    pid = place.pid()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return pid


def until_it_steps(world: World, number: int, *, intent: bool) -> None:
    """A new policy with work to do; until its intent to step is written, or its step arrives."""
    name, audit = f"worker-{number}", world.place.audit
    world.deploy(name, env={"PG_POOL_MAX": f"{POOL}"})
    mark = audit.mark()
    scaling = {**SPEC["scaling"], "observeFor": f"{OBSERVED}s"}
    world.apply(name, target={"name": name}, scaling=scaling)

    def stepped() -> bool:
        if intent:
            asked = audit.since(mark, namespace=world.namespace)
            return any(request.name == name and "lastStep" in request.text for request in asked)
        return any(r.name == name for r in audit.arrived(mark, namespace=world.namespace))

    world.until(stepped, f"a step of {name}", every=0.002)


def kill_again_and_again(place: Place, stepping: World) -> None:
    random = Random(SEED)
    for number in range(KILLS):
        if number % STEP_EVERY:
            time.sleep(random.uniform(0.1, LONGEST_LIFE))  # any moment: nothing to wait for
        else:
            until_it_steps(stepping, number, intent=random.random() < 0.5)
        kill(place)


def test_killed_again_and_again(place: Place) -> None:
    begin, restarts = place.log_mark(), place.restarts()
    ordeal = Ordeal(threading.Barrier(len(STORIES) + 1), threading.Event())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(own_server(place, 100))
        worlds = [World.create(place, server) for _ in STORIES]
        for world in worlds:
            stack.callback(world.close)
        with ThreadPoolExecutor(len(STORIES)) as together:
            running = [together.submit(s, w, ordeal) for s, w in zip(STORIES, worlds, strict=True)]
            try:
                ordeal.begin()
                kill_again_and_again(place, worlds[0])
            finally:
                ordeal.begun.abort()
                ordeal.over.set()
                checks = [story.result() for story in running]
        place.back(after=restarts)
        for check in checks:
            check()
        assert place.restarts() - restarts >= KILLS - 1
        assert '"exception"' not in place.log_text(begin)
