"""A flag that people write as well: what is theirs stays theirs, and nothing is silent (P4)."""

from __future__ import annotations

from typing import Final

import pytest
from tests.e2e.store import RUNBOOKS_PAUSE, RUNNING
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def begin(world: World) -> None:
    world.deploy()
    world.apply_breaker()
    world.until_ready()


def trip(world: World) -> None:
    """Until the breaker is open."""
    world.store.enqueue(TRIPS)
    world.until(lambda: world.breaker() == "Open", "the breaker opens")


def paused_by_us(world: World) -> None:
    begin(world)
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause of ours")
    assert world.store.paused


def recover(world: World) -> None:
    """Until the breaker is closed again."""
    world.store.clear()
    world.until(lambda: world.breaker() == "Closed", "the breaker closes")


def calm(world: World) -> None:
    """Until the breaker is not open any more. Under a pause of others it stays half-open: while
    nothing arrives, nothing is probed."""
    world.store.clear()
    world.until(lambda: world.breaker() != "Open", "a probe")


def our_own_pause_is_released_to_the_letter(world: World) -> None:
    paused_by_us(world)
    flag = world.store.flag()
    assert flag["ingest_paused_by"]["token"] == world.pause()["token"]
    assert flag["note"] == "kept"
    world.until_condition("ProducersRunning", "PausedByBreaker")
    recover(world)
    assert world.store.flag() == RUNNING
    assert world.status()["paused"] == []
    world.until(lambda: world.condition("ProducersRunning")["status"] == "True", "all run")
    world.until_reported("BreakerClosed")
    reported = world.reasons()
    assert [reported.count(r) for r in ("BreakerOpen", "Paused", "Resumed", "BreakerClosed")] == [
        1
    ] * 4


def a_person_paused_before_us(world: World) -> None:
    begin(world)
    world.store.run(RUNBOOKS_PAUSE)
    theirs = world.store.flag()
    trip(world)
    found = world.until_condition("ProducersRunning", "PausedByOthers")
    assert found["status"] == "False"
    assert world.pause()["by"] == "Other"
    calm(world)
    world.until_passes(2)
    assert world.store.flag() == theirs
    world.until_reported("PausedByOthers")
    assert "Paused" not in world.reasons()

    world.store.people_resume()
    world.until(lambda: world.breaker() == "Closed", "a probe that passed")
    world.until_condition("ProducersRunning", "Running")


def a_person_resumes_while_it_is_open(world: World) -> None:
    paused_by_us(world)
    world.store.people_resume()
    world.until_condition("ProducersRunning", "Overridden")
    world.until_passes(3)
    assert not world.store.paused
    assert world.breaker() == "Open"
    assert world.reasons().count("Paused") == 1
    assert world.reasons().count("ResumedByOthers") == 1
    recover(world)
    world.until_condition("ProducersRunning", "Running")


def the_runbooks_update_over_our_pause(world: World) -> None:
    paused_by_us(world)
    world.store.run(RUNBOOKS_PAUSE)
    found = world.until_condition("ProducersRunning", "ChangedByOthers")
    assert "by hand" in found["message"]
    calm(world)
    world.until_passes(2)
    assert world.store.paused, "it may be the person's by now"
    world.until_condition("ProducersRunning", "ChangedByOthers")
    world.until(lambda: "TO DO" in world.status()["summary"], "what to do")
    world.until_reported("PauseChangedByOthers")

    world.store.people_resume()
    world.until(lambda: world.breaker() == "Closed", "a probe that passed")
    world.until_condition("ProducersRunning", "Running")


def the_row_vanishes_before_the_pause(world: World) -> None:
    begin(world)
    world.store.run("DELETE FROM feature_flags")
    trip(world)
    found = world.until_condition("ProducersRunning", "PauseFailed")
    assert "NOT paused" in found["message"]
    world.until_condition("Ready", "RowMissing")
    world.until_reported("PauseFailed")
    world.until_passes(2)
    assert world.reasons().count("PauseFailed") == 1, "said once, not with every pass"

    world.store.run(
        """INSERT INTO feature_flags (name, data) VALUES ('ingest_control', '{"note": "kept"}')"""
    )
    world.until(lambda: world.store.paused, "the pause, once there is a row")
    recover(world)
    assert world.store.flag() == {"note": "kept"}, "the key was absent"


def the_flag_has_a_bad_shape(world: World) -> None:
    begin(world)
    world.store.run("UPDATE feature_flags SET data = '[1]'")
    trip(world)
    found = world.until_condition("ProducersRunning", "PauseFailed")
    assert "array" in found["message"]
    world.until_passes(2)
    ((data,),) = world.store.rows("SELECT data FROM feature_flags")
    assert data == [1]


def a_locked_row_is_not_waited_for(world: World) -> None:
    begin(world)
    with world.store.connect() as person, person.transaction():
        person.execute("SELECT 1 FROM feature_flags FOR UPDATE")
        trip(world)
        world.until(
            lambda: any("holds a lock" in line["event"] for line in world.passes()), "it says why"
        )
        world.until_passes(2)
        assert not world.store.paused
    world.until(lambda: world.store.paused, "the pause, once the row is free")


def the_place_is_edited_in_the_middle_of_an_incident(world: World) -> None:
    """A pipeline names another flag while the breaker is open: the former one becomes as its owner
    left it, then the pause is at the new one, and recovery is as ever."""
    paused_by_us(world)
    world.store.run(
        "INSERT INTO feature_flags (name, data)"
        " SELECT 'renamed', jsonb_set(data - 'ingest_paused_by', '{ingest_paused}', 'false')"
        " FROM feature_flags WHERE name = 'ingest_control'"
    )
    world.apply(producers=[{"name": "ingestion", "featureFlag": {"name": "renamed"}}])
    world.until(lambda: world.store.flag() == RUNNING, "the former place is released")
    world.until(lambda: world.store.flag("renamed")["ingest_paused"], "the new one is paused")
    assert world.breaker() == "Open"
    world.until(lambda: len(world.status()["paused"]) == 1, "one entry is left")
    world.until(lambda: world.pause()["state"] == "Held", "it is ours")
    assert world.store.flag("renamed")["ingest_paused_by"]["token"] == world.pause()["token"]
    recover(world)
    assert world.store.flag("renamed") == world.store.flag() == RUNNING
    assert world.status()["paused"] == []


def the_memory_is_cleared_while_a_pause_is_held(world: World) -> None:
    """Nothing is paused twice, nothing resumed, and what is said releases it."""
    paused_by_us(world)
    flag = world.store.flag()
    world.forget_memory()
    found = world.until_condition("ProducersRunning", "PausedWithoutRecord")
    assert found["status"] == "False"
    calm(world)
    world.until_passes(3)
    assert world.store.flag() == flag
    assert world.pause()["state"] == "Unrecorded"
    assert world.reasons().count("Paused") == 1
    assert world.reasons().count("PauseWithoutRecord") == 1
    assert "Resumed" not in world.reasons()
    message = world.pause()["message"]
    world.until(lambda: f"TO DO: ingestion: {message}" in world.status()["summary"], "what to do")
    assert message in world.condition("ProducersRunning")["message"]

    world.store.run(message[message.index("UPDATE ") :])
    assert world.store.flag() == RUNNING
    world.until(lambda: world.breaker() == "Closed", "a probe that passed")
    world.until_condition("ProducersRunning", "Running")
    assert world.status()["paused"] == []


def a_policy_without_its_memory_is_deleted(world: World) -> None:
    """The deletion waits for a person, who is given the command to run."""
    paused_by_us(world)
    world.forget_memory()
    world.delete()
    found = world.until_condition("Ready", "ReleaseFailed")
    assert 'UPDATE "feature_flags"' in found["message"]
    assert "release=abandon" in found["message"]
    assert world.store.paused
    world.store.people_resume()
    world.annotate(release="abandon")
    world.until_gone()
    assert not world.store.paused


STORIES: Final[tuple[Story, ...]] = (
    our_own_pause_is_released_to_the_letter,
    the_place_is_edited_in_the_middle_of_an_incident,
    a_person_paused_before_us,
    a_person_resumes_while_it_is_open,
    the_runbooks_update_over_our_pause,
    the_row_vanishes_before_the_pause,
    the_flag_has_a_bad_shape,
    a_locked_row_is_not_waited_for,
    the_memory_is_cleared_while_a_pause_is_held,
    a_policy_without_its_memory_is_deleted,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_pauses(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
