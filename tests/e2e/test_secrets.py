"""A planted password and a planted payload appear nowhere: status, Events, logs, metrics."""

from __future__ import annotations

import json
from typing import Final

import pytest
from tests.e2e.test_pauses import recover, trip
from tests.e2e.together import Outcomes, Story, title
from tests.e2e.world import KEY, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

PLANTED: Final = "planted"  # in every password of every store of these tests, and in what follows


def plant(world: World) -> None:
    """In payloads, errors and other people's keys of the flag."""
    world.store.execute(
        "INSERT INTO queue_jobs (type, payload, status, last_error, attempts)"
        " SELECT 'process_snapshot', %s, s, %s, 5"
        " FROM unnest(ARRAY['pending', 'failed', 'running']) s, generate_series(1, 30)",
        (json.dumps({"token": f"{PLANTED}-payload"}), f"{PLANTED}-error"),
    )
    world.store.run(
        """UPDATE feature_flags SET data = data || '{"api_key": "planted-flag"}'
           WHERE name = 'ingest_control'"""
    )
    world.deploy()


def published(world: World) -> str:
    """Everything that anybody can read of it."""
    place = world.place
    return json.dumps(
        [
            world.status(),
            world.events(),
            place.log_text(world.log_begins),
            place.probe("metrics")[1],
            place.cluster.kubectl("describe", "qbp", "-n", world.namespace),
        ]
    )


def while_all_is_well(world: World) -> None:
    plant(world)
    world.apply_breaker()
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause")
    world.until(lambda: world.replicas() > 1, "a step")
    world.store.clear()
    recover(world)
    assert PLANTED not in published(world)


def with_url(world: World, url: str, reason: str) -> None:
    plant(world)
    world.write_secret({KEY: url})
    world.apply_breaker()
    world.until_condition("Ready", reason)
    world.until_passes(2)
    assert PLANTED not in published(world)


def url_of_another_scheme(world: World) -> None:
    url = world.store.url().replace("postgresql://", "planted-scheme://")
    with_url(world, url, "SecretMalformed")


def password_with_an_at_sign(world: World) -> None:
    """After which a piece of the password reads as the host."""
    password = world.store.password
    url = world.store.url().replace(password, f"{password}@{password}/x")
    with_url(world, url, "SecretMalformed")


def wrong_password(world: World) -> None:
    url = world.store.url().replace(world.store.password, "planted-wrong")
    with_url(world, url, "WrongPassword")


def host_unknown(world: World) -> None:
    with_url(world, world.store.url().replace("127.0.0.1", "nowhere.invalid"), "HostUnknown")


def statement_that_fails(world: World) -> None:
    """PostgreSQL quotes values of a row in some of its messages."""
    plant(world)
    world.apply_breaker()
    world.until_ready()
    world.store.run(
        """CREATE FUNCTION complain() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'planted-message %', NEW.data; END $$""",
        """CREATE TRIGGER complain BEFORE UPDATE ON feature_flags
           FOR EACH ROW EXECUTE FUNCTION complain()""",
    )
    trip(world)
    world.until(lambda: world.condition("Ready")["status"] == "False", "the pause fails")
    assert PLANTED not in published(world)
    world.store.run("DROP TRIGGER complain ON feature_flags")


STORIES: Final[tuple[Story, ...]] = (
    while_all_is_well,
    url_of_another_scheme,
    password_with_an_at_sign,
    wrong_password,
    host_unknown,
    statement_that_fails,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_nothing_planted_is_published(outcomes: Outcomes, story: Story) -> None:
    outcomes[story].result()
