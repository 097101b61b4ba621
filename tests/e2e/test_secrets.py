"""A planted password and a planted payload appear nowhere: status, Events, logs, metrics."""

from __future__ import annotations

import json

import pytest
from tests.e2e.place import Place
from tests.e2e.store import Store
from tests.e2e.test_pauses import recover, trip
from tests.e2e.world import KEY, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PLANTED = "planted"  # also in every password of every store of these tests


def test_nothing_planted_is_published(place: Place, world: World) -> None:
    """Through success, a pause, a step, and each fault of the URL and of the table."""
    store: Store = world.store
    assert PLANTED in store.url()
    store.execute(
        "INSERT INTO queue_jobs (type, payload, status, last_error, attempts)"
        " SELECT 'process_snapshot', %s, s, %s, 5"
        " FROM unnest(ARRAY['pending', 'failed', 'running']) s, generate_series(1, 30)",
        (json.dumps({"token": f"{PLANTED}-payload"}), f"{PLANTED}-error"),
    )
    store.run(
        """UPDATE feature_flags SET data = data || '{"api_key": "planted-flag"}'
           WHERE name = 'ingest_control'"""
    )
    world.deploy()
    world.apply_breaker()
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause")
    world.until(lambda: world.replicas() > 1, "a step")
    looked = [published(place, world)]

    unescaped = f"{store.password}@x/y"
    for url, reason in (
        (store.url().replace("postgresql://", "planted-scheme://"), "SecretMalformed"),
        (store.url().replace(store.password, "planted-wrong"), "WrongPassword"),
        (store.url().replace(store.password, unescaped), "SecretMalformed"),
        (store.url().replace("127.0.0.1", "nowhere.invalid"), "HostUnknown"),
    ):
        world.write_secret({KEY: url})
        world.until_condition("Ready", reason)
        looked.append(published(place, world))
    world.write_secret({KEY: store.url()})
    world.until_ready()
    store.run("ALTER TABLE queue_jobs RENAME COLUMN payload TO planted_payload")
    world.until_passes(2)
    store.clear()
    recover(world)
    looked.append(published(place, world))
    for text in looked:
        assert PLANTED not in text


def published(place: Place, world: World) -> str:
    """Everything that anybody can read of it."""
    return json.dumps(
        [
            world.status(),
            world.events(),
            place.log_text(world.log_begins),
            place.probe("metrics")[1],
            place.cluster.kubectl("describe", "qbp", "-n", world.namespace),
        ]
    )
