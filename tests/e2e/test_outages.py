"""The database full, frozen, restarted, demoted, slow, rotated: nothing is scaled up or resumed on
what is not known, what was decided stays decided, and it goes on by itself afterwards (P2, P6)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from tests.e2e.api import Json
from tests.e2e.store import RUNNING
from tests.e2e.test_pauses import recover
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import KEY, TARGET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

CONNECTIONS: Final = 30  # of each server, 3 of them for superusers
# The target's spec while nothing but an outage is under test.
FIXED: Final = {"name": TARGET, "maxReplicas": 1}


def paused(world: World) -> None:
    """A breaker is open and its pause is ours; replicas are at their maximum."""
    world.deploy()
    world.apply_breaker(target=FIXED, database=world.roomy())
    world.until_ready()
    world.store.enqueue(TRIPS)
    world.until(lambda: world.pause()["state"] == "Held", "a pause of ours")


def unreadable_and_unchanged(world: World, *reasons: str) -> list[Json]:
    """Nothing can be read for several passes; nothing is stepped up, nothing resumed."""
    entry, scaled = world.pause(), len(world.scale_writes())
    world.until(lambda: world.condition("Ready")["reason"] in reasons, f"Ready says {reasons}")
    passes = world.until_passes(4)
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("DatabaseHeadroom")["status"] == "Unknown"
    assert world.condition("BacklogHealthy")["status"] in {"Unknown", "False"}
    assert world.breaker() == "Open"
    assert world.pause() == entry
    assert len(world.scale_writes()) == scaled
    return passes


def released_in_the_end(world: World) -> None:
    world.until_ready()
    assert world.breaker() == "Open"
    assert world.store.paused
    recover(world)
    assert world.store.flag() == RUNNING


def backends(world: World) -> set[int]:
    """Of the operator, on this world's server."""
    with world.store.connect() as admin:
        found = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE usename = %s", (world.store.operator,)
        )
        return {int(pid) for (pid,) in found.fetchall()}


@contextlib.contextmanager
def full(world: World) -> Iterator[int]:
    """Another client takes every slot that is left, those for superusers as well."""
    url = world.store.server.url(database=world.store.database)
    with contextlib.ExitStack() as stack:
        taken = 0
        with contextlib.suppress(psycopg.OperationalError):
            while taken < CONNECTIONS:
                stack.enter_context(contextlib.closing(psycopg.connect(url)))
                taken += 1
        yield taken


def full_it_is_still_read_and_spared(world: World) -> None:
    world.deploy(replicas=4, env={"PG_POOL_MAX": "2"})
    world.apply(database=world.roomy())
    world.until_ready()
    before = backends(world)
    with full(world) as taken:
        assert taken > CONNECTIONS // 2
        world.until_condition("DatabaseHeadroom", "Pressure")
        world.until(
            # A pass in the middle of the taking sees a server nearly full.
            lambda: "connections 100%" in world.condition("DatabaseHeadroom")["message"],
            "a full server",
        )
        world.until(lambda: world.replicas() == 1, "the safe size")
        world.until_passes(3)
        world.until_ready()  # the connection that we have works on
    # In one write; before it a step down for each pass that saw the server nearly full.
    assert [write.replicas for write in world.scale_writes()] in ([1], [3, 1], [3, 2, 1])
    assert backends(world) == before, "never dropped: it could not have come back"


def full_no_step_up_although_work_waits(world: World) -> None:
    world.deploy(env={"PG_POOL_MAX": "2"})
    world.store.enqueue(TRIPS)
    with full(world):
        world.apply(database=world.roomy())
        world.until_condition("Ready", "DatabaseFull")
        world.until_passes(2)
        assert world.scale_writes() == [], "what follows when there is room is another matter"
    world.until_ready()


def restarted(world: World) -> None:
    paused(world)
    world.store.server.stop("fast")
    unreadable_and_unchanged(world, "Unreachable")
    world.store.server.restart()
    released_in_the_end(world)


def crashed(world: World) -> None:
    paused(world)
    world.store.server.restart("immediate")
    released_in_the_end(world)


def frozen(world: World) -> None:
    paused(world)
    world.store.clear()
    world.store.server.freeze()
    try:
        unreadable_and_unchanged(world, "Unreachable", "Timeout")
    finally:
        world.store.server.thaw()
    world.until_ready()
    world.until(lambda: not world.store.paused, "the release, by fresh readings")


def frozen_while_work_waits(world: World) -> None:
    world.deploy(env={"PG_POOL_MAX": "1"})
    world.apply(database=world.roomy())
    world.until_ready()
    world.store.server.freeze()
    try:
        world.until_not_known("Scaling")
        scaled = len(world.scale_writes())
        world.until_passes(4)
        assert len(world.scale_writes()) == scaled
    finally:
        world.store.server.thaw()
    world.store.enqueue(TRIPS)
    world.until(world.scale_writes, "a step, once it can be read again")


def a_session_of_the_operator_hangs(world: World) -> None:
    """As behind a firewall that drops packets: the server is well, our session never answers."""
    paused(world)
    hung = backends(world)
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        world.until(lambda: backends(world) - hung, "another session")
        world.until_ready()
        assert world.store.paused
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
    recover(world)


def the_table_is_locked(world: World) -> None:
    """An ALTER TABLE of another client: we neither wait in its queue nor act on what we cannot
    see.
    """
    paused(world)
    with world.store.connect() as person, person.transaction():
        person.execute("LOCK TABLE queue_jobs IN ACCESS EXCLUSIVE MODE")
        scaled = len(world.scale_writes())
        found = world.until_condition("Ready", "LockBusy")
        assert "lock" in found["message"]
        world.until_passes(3)
        assert world.store.paused
        assert len(world.scale_writes()) == scaled
    released_in_the_end(world)


def demoted_to_a_standby_and_back(world: World) -> None:
    paused(world)
    server = world.store.server
    server.stop("fast")
    standby = Path(server.data) / "standby.signal"
    standby.touch()
    server.restart()
    found = world.until_condition("DatabaseHeadroom", "ReadOnly")
    assert "primary" in found["message"]
    scaled = len(world.scale_writes())
    world.until_passes(3)
    world.until_not_known("Scaling")
    assert len(world.scale_writes()) == scaled
    server.stop("fast")
    standby.unlink()
    server.restart()
    released_in_the_end(world)


def the_password_is_rotated(world: World) -> None:
    paused(world)
    new = "planted-rotated"
    with world.store.connect() as admin:
        admin.execute(f"ALTER ROLE {world.store.operator} PASSWORD '{new}'".encode())
        for pid in backends(world):
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
    world.until_condition("Ready", "WrongPassword")
    assert "planted" not in str(world.status())
    world.write_secret({KEY: world.store.url().replace(world.store.password, new)})
    released_in_the_end(world)


def deleted_while_it_is_down(world: World) -> None:
    paused(world)
    world.store.server.stop("immediate")
    world.delete()
    found = world.until_condition("Ready", "ReleaseFailed")
    assert "release=abandon" in found["message"]
    assert "deletion waits" in world.status()["summary"]
    world.store.server.restart()
    world.until_gone()
    assert world.store.flag() == RUNNING


def deleted_and_abandoned_while_it_is_down(world: World) -> None:
    paused(world)
    world.store.server.stop("immediate")
    world.delete()
    world.until_condition("Ready", "ReleaseFailed")
    world.annotate(release="abandon")
    world.until_gone()
    world.store.server.restart()
    assert world.store.paused, "that is what abandoning means"


OWN_SERVER: Final = CONNECTIONS  # max_connections; what a story takes is not another's budget
STORIES: Final[tuple[Story, ...]] = (
    full_it_is_still_read_and_spared,
    full_no_step_up_although_work_waits,
    restarted,
    crashed,
    frozen,
    frozen_while_work_waits,
    a_session_of_the_operator_hangs,
    the_table_is_locked,
    demoted_to_a_standby_and_back,
    the_password_is_rotated,
    deleted_while_it_is_down,
    deleted_and_abandoned_while_it_is_down,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_outages(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
