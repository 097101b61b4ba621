"""A pause is released where it was made: after a place was corrected, and after the Secret led to
another server meanwhile (P4). Real Redis and PostgreSQL, the real rules, `act` and `merge`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from tests.producers.places import PLACES, STANDS, Make, Operator, braked, two_queues
from tests.producers.table import Hands

from starforge_backlog.api.status import (
    PauseState,
)
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.results import (
    NotDone,
    PauseOutcome,
    ResumeOutcome,
)
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def hands(redis_url: str) -> Iterator[Any]:
    with two_queues(redis_url) as client:
        yield client


# --- the place is corrected ----------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_place_that_was_corrected_is_where_the_pause_is_released(
    make: Make, hands: Any, redis_url: str, deleted: bool
) -> None:
    operator = make(redis_url, "queue", name="etl-backfil")
    await operator.run(wanted=True)
    assert (operator.state, operator.outcome()) == (PauseState.REFUSED, "RowMissing")
    operator.place = {"name": "etl-backfill"}
    await operator.run(wanted=True)
    assert (operator.state, braked(hands)) == (PauseState.HELD, True)
    if deleted:
        await operator.delete()
    else:
        await operator.run(wanted=False)
    assert (operator.entry, braked(hands)) == (None, False)


async def test_a_corrected_place_is_in_status_before_the_write(
    make: Make, hands: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between that pause and its status, and deleted by the next start."""
    operator = make(redis_url, "queue", name="etl-backfil")
    await operator.run(wanted=True)
    operator.place = {"name": "etl-backfill"}
    with monkeypatch.context() as killed:
        killed.setattr("tests.producers.places.merge", lambda status, *_: status)
        await operator.run(wanted=True)
    assert (operator.state, braked(hands)) == (PauseState.INTENDED, True)
    await operator.delete()
    assert (operator.entry, braked(hands)) == (None, False)


@pytest.mark.parametrize(("way", "column"), [("featureFlag", "name"), ("jobTypes", "table")])
async def test_every_way_names_the_place_of_its_last_pause(
    make: Make,
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
    way: str,
    column: str,
) -> None:
    operator = make(pair[0], way, **{**PLACES[way], column: "a_typo"})
    await operator.run(wanted=True)
    assert operator.state is not PauseState.HELD
    operator.place = PLACES[way]
    for _ in range(2):  # what was intended at the other table may have to be released first
        await operator.run(wanted=True)
    assert (operator.state, databases[0].one(STANDS[way])) == (PauseState.HELD, True)
    await operator.delete()
    assert (operator.entry, databases[0].one(STANDS[way]) or False) == (None, False)


async def test_a_refused_pause_that_stays_refused_writes_nothing_new(
    make: Make, redis_url: str
) -> None:
    operator = make(redis_url, "queue", name="etl-backfil")
    await operator.run(wanted=True)
    before = operator.status
    await operator.run(wanted=True)
    assert operator.status == before


# --- the Secret leads elsewhere ------------------------------------------------------------------


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("same_queue_there", [True, False])
async def test_another_redis_is_no_proof_of_a_release(
    make: Make, hands: Any, redis_url: str, deleted: bool, same_queue_there: bool
) -> None:
    operator = make(redis_url, "queue", name="etl-backfill")
    await operator.run(wanted=True)
    assert operator.held.server.startswith("Redis db ")
    number = operator.held.server.split()[2]
    server, _, database = redis_url.rpartition("/")
    operator.url = f"{server}/{(int(database) + 1) % 16}"
    with redis.Redis.from_url(operator.url) as there:
        if same_queue_there:
            there.hset("bull:etl-backfill:meta", "version", "bullmq:6.7.0")
            there.rpush("bull:etl-backfill:wait", "1")
        try:
            await operator.run(wanted=True)
            assert (operator.state, there.hlen("bull:etl-backfill:meta") <= 1) == (
                PauseState.HELD,
                True,
            ), "neither resumed by another client, nor paused there"
            for _ in range(2):
                await (operator.delete() if deleted else operator.run(wanted=False))
                assert operator.outcome() == NotDone.ELSEWHERE
                assert (operator.state, braked(hands)) == (PauseState.HELD, True)
            assert f"db {number} at" in operator.held.server
            assert "point the Secret back" in operator.held.message
        finally:
            there.delete("bull:etl-backfill:meta", "bull:etl-backfill:wait")
    operator.url = redis_url
    await (operator.delete() if deleted else operator.run(wanted=False))
    assert (operator.entry, operator.outcome(), braked(hands)) == (None, "Resumed", False)


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("way", PLACES)
async def test_another_database_is_no_proof_of_a_release(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands], way: str, deleted: bool
) -> None:
    """Its rows read the same, and stay as they are."""
    here, there = databases
    operator = make(pair[0], way, **PLACES[way])
    await operator.run(wanted=True)
    assert (operator.state, here.one(STANDS[way])) == (PauseState.HELD, True)
    operator.url = pair[1]
    for _ in range(2):
        await operator.run(wanted=True)
        assert (operator.last, operator.state) == ((), PauseState.HELD)
        assert not there.one(STANDS[way])
    await (operator.delete() if deleted else operator.run(wanted=False))
    assert (operator.outcome(), operator.state) == (NotDone.ELSEWHERE, PauseState.HELD)
    assert here.one(STANDS[way])
    operator.url = pair[0]
    await operator.run(wanted=True)
    assert (operator.held.message, operator.held.failed) == ("", False), "healthy again"
    await (operator.delete() if deleted else operator.run(wanted=False))
    assert (operator.entry, here.one(STANDS[way]) or False) == (None, False)


async def test_a_person_lets_go_of_a_pause_that_cannot_be_reached(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.url, operator.abandon = pair[1], True
    await operator.run(wanted=False)
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.NOT_PAUSED)
    assert databases[0].one(STANDS["featureFlag"])


async def test_the_same_database_under_another_name_is_the_same(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.url = pair[0].replace("127.0.0.1", "localhost")
    assert operator.url != pair[0]
    databases[0].run("UPDATE feature_flags SET data = '{}'")  # a person resumes
    await operator.delete()
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.NOT_PAUSED)


async def test_a_pause_of_before_servers_were_kept_is_released_as_then(
    make: Make, hands: Any, redis_url: str
) -> None:
    operator = make(redis_url, "queue", name="etl-backfill")
    await operator.run(wanted=True)
    old = operator.held.model_copy(update={"server": ""})
    operator.status = operator.status.model_copy(update={"paused": (old,)})
    await operator.delete()
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.RESUMED)
    assert not braked(hands)


async def test_a_pause_that_was_not_read_before_knows_its_server_afterwards(
    make: Make, hands: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = make(redis_url, "queue", name="etl-backfill")

    async def late(_: Operator) -> Reading[ProducerReading]:
        return Unknown(Why.TIMEOUT, "late", utc_now())

    with monkeypatch.context() as slow:
        slow.setattr(Operator, "read_producer", late)
        await operator.run(wanted=True)
    assert operator.outcome() == PauseOutcome.PAUSED
    assert operator.held.server.startswith("Redis db ")
