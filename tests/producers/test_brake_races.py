"""Operators at once, operators killed, and a person: the queue ends as it began (P4, P6)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import redis.asyncio
from tests.node.bull import Bull
from tests.producers.nursery import nursery
from tests.thorough import THOROUGH

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.session import CLIENT_NAME

pytestmark = [pytest.mark.redis, pytest.mark.node]

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
NOWHERE = SecretValue.model_validate({"secretKeyRef": {"name": "redis", "key": "url"}})
META = "bull:etl-backfill:meta"
ROUNDS = 100 if THOROUGH else 30
Pair = tuple[BrakeProducer, BrakeProducer]
KILLS = 100 if THOROUGH else 30


@pytest.fixture
def hands(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def pair(redis_url: str) -> AsyncIterator[Pair]:
    """Two operators, each with a connection of its own."""
    queue = BullmqQueue(url=NOWHERE, name="etl-backfill")
    hubs = (RedisHub(), RedisHub())
    first, second = (
        BrakeProducer(hub.get(redis_url, owner="ns/etl"), queue, utc_now) for hub in hubs
    )
    yield first, second
    for hub in hubs:
        await hub.close()


async def test_two_operators_at_once(bull: Bull, redis_url: str, hands: Any, pair: Pair) -> None:
    """Exactly one brakes, and neither releases the other's."""
    bull.queue(redis_url, "etl-backfill", version=6).set_concurrency(4)
    before = hands.hgetall(META)
    for _ in range(ROUNDS):
        got = await asyncio.gather(
            *(p.pause(owner="ns/etl", token=f"t{n}", at=AT) for n, p in enumerate(pair))
        )
        outcomes = [g.outcome for g in got if isinstance(g, Paused)]
        assert sorted(outcomes) == [PauseOutcome.ALREADY_PAUSED, PauseOutcome.PAUSED]
        winner = outcomes.index(PauseOutcome.PAUSED)
        held = got[winner]
        assert isinstance(held, Paused)
        stray = await pair[1 - winner].resume(
            token=f"t{1 - winner}", version=held.version, previous=held.previous
        )
        assert stray == Resumed(ResumeOutcome.NOT_OURS, stray.message)
        left = await asyncio.gather(
            *(p.resume(token=f"t{winner}", version=held.version, previous=None) for p in pair)
        )
        ended = sorted(x.outcome for x in left if isinstance(x, Resumed))
        assert ended == [ResumeOutcome.NOT_PAUSED, ResumeOutcome.RESUMED]
        assert hands.hgetall(META) == before


async def test_operators_killed_at_random(
    bull: Bull, redis_url: str, hands: Any, pair: Pair
) -> None:
    """SIGKILL between any two instructions, and a person who sets another limit now and then; the
    token in status is all that the next one has."""
    queue = bull.queue(redis_url, "etl-backfill", version=5)
    chance = random.Random(11)
    successor = pair[0]
    limit = 4
    queue.set_concurrency(limit)
    outcomes: list[ResumeOutcome] = []
    async with nursery("tests.producers.lives:by_brake", redis_url, "etl-backfill") as births:
        for kill in range(KILLS):
            person = asyncio.create_task(_set_soon(redis_url, chance, limit := limit + 1))
            token = await births.live_and_be_killed(f"{kill}", chance)
            touched = await person
            await _settled(hands)
            left = await successor.resume(token=token, version="", previous=None)
            assert isinstance(left, Resumed), left
            outcomes.append(left.outcome)
            found = hands.hgetall(META)
            assert "starforge-backlog" not in found
            assert found["concurrency"] not in {"0", "00"}
            if touched:
                assert found["concurrency"] == f"{limit}", "a person's word stays"
            limit = int(found["concurrency"])
    assert set(outcomes) == {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED}
    assert outcomes.count(ResumeOutcome.RESUMED) > KILLS / 20, "the kills met no pause"


async def _settled(hands: Any) -> None:
    """Until the server has let go of the dead one's connection: all that it sent is carried out."""
    while True:
        if sum(one["name"] == CLIENT_NAME for one in hands.client_list()) <= 1:  # the successor's
            return
        await asyncio.sleep(0.001)


async def _set_soon(url: str, chance: random.Random, limit: int) -> bool:
    """Every other time; whether it did."""
    if chance.random() < 0.5:
        return False
    await asyncio.sleep(chance.uniform(0, 0.03))
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.hset(META, "concurrency", f"{limit}")
    return True
