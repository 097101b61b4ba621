"""People beside the brake of a BullMQ queue: what they set, resume, edit or remove stays theirs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import redis
from tests.node.handles import BullQueue
from tests.producers.brakes import (
    BRAKE,
    MARK,
    SLEEPS,
    SOONEST,
    Brake,
    assert_ours,
    first_start,
    meta,
    paused,
    resumed,
    seen,
)

from starforge_backlog.decide.results import (
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue

pytestmark = [pytest.mark.redis, pytest.mark.node]


@pytest.fixture
def hands(redis_url: str) -> Any:
    """Another client with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def test_a_queue_that_a_person_paused_stays_paused(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    queue.add_bulk(3)
    queue.pause()
    before = meta(hands)
    producer = brake()
    assert (await seen(producer)).value is FlagValue.PAUSED
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert (await resumed(producer, got)).outcome is ResumeOutcome.NOT_OURS
    assert meta(hands) == before
    assert queue.call("isPaused") is True


async def test_a_limit_of_zero_that_a_person_set_is_theirs(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    queue.set_concurrency(0)
    got = await paused(brake())
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert (await seen(brake())).token is None
    assert (await resumed(brake(), got)).outcome is ResumeOutcome.NOT_OURS
    assert meta(hands) == {"concurrency": "0"}


@pytest.mark.parametrize("limit", [3, None])
async def test_a_person_who_sets_the_limit_meanwhile(
    queue: BullQueue, brake: Brake, hands: Any, limit: int | None
) -> None:
    held = await paused(brake())
    queue.set_concurrency(limit)
    now = await seen(brake())
    assert (now.value, now.token) == (FlagValue.RUNNING, "ns/etl/1"), "the mark is a person's"
    got = await resumed(brake(), held)
    assert got.outcome is ResumeOutcome.NOT_PAUSED
    assert meta(hands) == ({"concurrency": "3"} if limit else {}), "theirs stays, our mark goes"


async def test_a_person_pauses_over_our_brake(queue: BullQueue, brake: Brake, hands: Any) -> None:
    """Ours is taken off, theirs stays, and no job starts."""
    queue.add_bulk(3)
    held = await paused(brake())
    queue.pause()
    worker = queue.worker()
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.RESUMED
    await asyncio.sleep(0.5)
    assert worker.ran() == []
    assert "concurrency" not in meta(hands)
    assert queue.call("isPaused") is True
    since = time.time()
    queue.resume()
    assert await first_start(worker, since) < SOONEST


async def test_a_person_resumes_what_was_never_paused(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    """BullMQ's resume() and pause() leave the brake alone: they are another switch."""
    held = await paused(brake())
    queue.add("job")
    worker = queue.worker()
    queue.resume()
    queue.pause()
    queue.resume()
    await asyncio.sleep(0.5)
    assert worker.ran() == []
    assert_ours(await seen(brake()), held)
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.RESUMED


async def test_a_mark_that_somebody_edited(queue: BullQueue, brake: Brake, hands: Any) -> None:
    held = await paused(brake())
    mark = json.loads(meta(hands)[MARK])
    hands.hset("bull:etl-backfill:meta", MARK, json.dumps({**mark, "by": "alice"}))
    before = meta(hands)
    got = await resumed(brake(), held)
    assert got.outcome is ResumeOutcome.CHANGED_SINCE
    assert "HDEL bull:etl-backfill:meta concurrency" in got.message
    assert meta(hands) == before


async def test_a_mark_that_somebody_removed(queue: BullQueue, brake: Brake, hands: Any) -> None:
    held = await paused(brake())
    hands.hdel("bull:etl-backfill:meta", MARK)
    assert (await seen(brake())).token is None
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.NOT_OURS
    assert meta(hands) == {"concurrency": BRAKE}


@pytest.mark.parametrize("mark", ["5", "[]", '{"token": 5}', '{"token": [1]}', "[" * 100_000, "x"])
@pytest.mark.parametrize("concurrency", ["0", BRAKE, "7"])
async def test_a_mark_that_is_none(
    queue: BullQueue, brake: Brake, hands: Any, mark: str, concurrency: str
) -> None:
    hands.hset("bull:etl-backfill:meta", mapping={MARK: mark, "concurrency": concurrency})
    stands = FlagValue.RUNNING if concurrency == "7" else FlagValue.PAUSED
    now = await seen(brake())
    assert (now.value, now.token) == (stands, None)
    left = await brake().resume(token="ns/etl/1", version="", previous=None)
    assert isinstance(left, Resumed)
    ours = stands is FlagValue.RUNNING
    assert left.outcome is (ResumeOutcome.NOT_PAUSED if ours else ResumeOutcome.NOT_OURS)
    assert meta(hands) == {MARK: mark, "concurrency": concurrency}
    got = await paused(brake())
    assert got.outcome is (PauseOutcome.PAUSED if ours else PauseOutcome.ALREADY_PAUSED)


async def test_a_person_who_sets_zero_over_our_brake_has_paused_it(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    """Their zero is another text than ours, and it stays; only our mark goes."""
    queue.set_concurrency(7)
    held = await paused(brake())
    queue.set_concurrency(0)
    assert (await seen(brake())).token is None
    assert (await paused(brake())).outcome is PauseOutcome.ALREADY_PAUSED
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.NOT_OURS
    assert meta(hands) == {"concurrency": "0"}


async def test_jobs_stranded_in_the_list_of_a_pause_pause_nothing(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    """Left there by a resume between majors: the queue runs, so it is braked, and wakes after."""
    hands.lpush("bull:etl-backfill:paused", "stranded")
    queue.add("job")
    assert (await seen(brake())).value is FlagValue.RUNNING
    held = await paused(brake())
    assert held.outcome is PauseOutcome.PAUSED
    worker = queue.worker(**SLEEPS)
    await asyncio.sleep(0.5)
    assert worker.ran() == []
    since = time.time()
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.RESUMED
    assert await first_start(worker, since) < SOONEST
