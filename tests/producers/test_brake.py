"""The brake of a BullMQ queue: real queues and workers of BullMQ 5 and 6, and people beside it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import redis
from tests.node.bull import Bull
from tests.node.handles import Behaviour, BullQueue
from tests.producers.brakes import (
    BRAKE,
    MARK,
    NEW,
    SLEEPS,
    SOONEST,
    Brake,
    assert_ours,
    first_start,
    meta,
    paused,
    resumed,
    seen,
    until,
)

from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]


@pytest.fixture
def hands(redis_url: str) -> Any:
    """Another client with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.mark.valkey
async def test_no_job_starts_and_the_first_comes_at_once(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    """Waiting, prioritized and delayed jobs, added before and under the brake."""
    producer = brake()
    queue.add_bulk(20)
    queue.add_bulk(20, priority=3)
    held = await paused(producer)
    assert held.outcome is PauseOutcome.PAUSED
    assert_ours(await seen(producer), held)
    workers = [queue.worker(concurrency=5, **SLEEPS) for _ in range(2)]
    queue.add_bulk(20)
    queue.add_bulk(20, priority=1)
    queue.add_bulk(20, delay=300)
    await asyncio.sleep(1.5)
    assert [worker.ran() for worker in workers] == [[], []]
    counts = queue.counts("waiting", "prioritized", "delayed", "active")
    assert counts | {"paused": 0} == {
        "paused": 0,
        "waiting": 60,
        "prioritized": 40,
        "delayed": 0,
        "active": 0,
    }
    since = time.time()
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    await until(lambda: sum(len(worker.ran()) for worker in workers) >= 100)
    await asyncio.sleep(0.1)
    starts = [run["start"] / 1000 for worker in workers for run in worker.ran()]
    assert 0 <= min(starts) - since < SOONEST
    ran = [run["id"] for worker in workers for run in worker.ran()]
    assert len(ran) == len(set(ran)) == 100
    assert meta(hands) == {}
    assert (await seen(producer)).value is FlagValue.RUNNING
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_PAUSED


async def test_a_sleeping_worker_wakes_at_once(queue: BullQueue, brake: Brake) -> None:
    producer = brake()
    queue.add("job")
    held = await paused(producer)
    worker = queue.worker(**SLEEPS)
    await asyncio.sleep(0.5)  # asleep, for a minute and a half
    since = time.time()
    await resumed(producer, held)
    assert await first_start(worker, since) < SOONEST


async def test_jobs_in_progress_finish(queue: BullQueue, brake: Brake) -> None:
    worker = queue.worker(Behaviour(ms=4_000), concurrency=2)
    queue.add_bulk(6)
    await until(lambda: len(worker.ran()) >= 2)
    held = await paused(brake())
    await until(lambda: all(run["outcome"] for run in worker.ran()))
    await asyncio.sleep(0.8)
    ran = worker.ran()
    assert [run["outcome"] for run in ran] == ["completed"] * 2, ran
    await resumed(brake(), held)


@pytest.mark.valkey
async def test_the_limit_before_comes_back(queue: BullQueue, brake: Brake, hands: Any) -> None:
    queue.set_concurrency(7)
    held = await paused(brake())
    assert held.previous == '"7"'
    assert meta(hands)["concurrency"] == BRAKE
    assert queue.call("getGlobalConcurrency") == 0, "a zero to every reader"
    assert queue.call("isMaxed") is True
    assert json.loads(meta(hands)[MARK]) == {
        "token": "ns/etl/1",
        "owner": "ns/etl",
        "at": "2026-01-01T03:00:00+00:00",
        "why": "storm",
        "previous": "7",
    }
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.RESUMED
    assert meta(hands) == {"concurrency": "7"}
    assert queue.call("getGlobalConcurrency") == 7


@pytest.mark.valkey
async def test_after_a_crash_the_brake_is_known_again(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    queue.set_concurrency(7)
    first = await paused(brake())
    second = await paused(brake())
    assert second == Paused(PauseOutcome.ALREADY_OURS, first.version, '"7"')
    got = await brake().resume(token="ns/etl/1", version="", previous=None)
    assert got == Resumed(ResumeOutcome.RESUMED)
    assert meta(hands) == {"concurrency": "7"}


async def test_what_bullmq_cleans_up_is_not_the_mark(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    queue.set_concurrency(7)
    queue.add_bulk(5)
    held = await paused(brake())
    hands.set("bull:etl-backfill:left-behind", "x")
    queue.call("removeOrphanedJobs")
    assert not hands.exists("bull:etl-backfill:left-behind"), "it does clean up"
    queue.call("drain")
    queue.call("clean", 0, 100, "failed")
    queue.call("setGlobalRateLimit", 5, 1000)
    queue.call("removeGlobalRateLimit")
    assert_ours(await seen(brake()), held)
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.RESUMED
    assert meta(hands) == {"concurrency": "7"}


async def test_a_queue_that_is_obliterated_takes_the_brake_along(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    queue.add_bulk(5)
    held = await paused(brake())
    queue.obliterate()
    assert hands.keys("*") == [] or meta(hands) == {"paused": "1"}
    got = await resumed(brake(), held)
    assert got.outcome in {ResumeOutcome.ROW_MISSING, ResumeOutcome.NOT_OURS}
    assert not hands.hexists("bull:etl-backfill:meta", MARK)


async def test_another_operators_brake(queue: BullQueue, brake: Brake) -> None:
    held = await paused(brake(), "other/x/1")
    assert (await seen(brake())).token == "other/x/1"
    assert (await paused(brake())).outcome is PauseOutcome.ALREADY_PAUSED
    assert (await resumed(brake(), held)).outcome is ResumeOutcome.NOT_OURS
    assert (await resumed(brake(), held, "other/x/1")).outcome is ResumeOutcome.RESUMED


async def test_a_restart_of_one_queue_with_the_other_major(
    queue: BullQueue, brake: Brake, bull: Bull, redis_url: str
) -> None:
    """A brake outlives a rollout, and both majors obey it at once."""
    held = await paused(brake())
    both = [bull.queue(redis_url, "etl-backfill", version=version) for version in NEW]
    workers = [one.worker() for one in both]
    for one in both:
        one.add_bulk(3)
    await asyncio.sleep(0.5)
    assert [worker.ran() for worker in workers] == [[], []]
    assert_ours(await seen(brake()), held)
    await resumed(brake(), held)
    await until(lambda: sum(len(worker.ran()) for worker in workers) == 6)


@pytest.mark.parametrize("state", ["fresh", "waiting", "completed", "active", "delayed"])
async def test_version_4_has_no_brake(
    bull: Bull, redis_url: str, brake: Brake, hands: Any, state: str
) -> None:
    queue = bull.queue(redis_url, "etl-backfill", version=4)
    if state != "fresh":
        queue.add_bulk(3, delay=60_000 if state == "delayed" else 0)
    if state in {"completed", "active"}:
        worker = queue.worker(Behaviour(ms=0 if state == "completed" else 120_000))
        await until(lambda: [r for r in worker.ran() if r["outcome"] or state == "active"])
        await asyncio.sleep(0.1)
        # What a dashboard of a later version writes; the jobs still show who works on them.
        hands.hset("bull:etl-backfill:meta", "version", "bullmq:6.7.0")
    before = meta(hands)
    reading = await brake().read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.BAD_SHAPE
    got = await paused(brake())
    assert got == Paused(PauseOutcome.BAD_SHAPE, message=reading.message)
    assert "5.9" in got.message
    assert meta(hands) == before


async def test_jobs_of_version_5_outrank_an_old_dashboards_word(
    bull: Bull, redis_url: str, brake: Brake, hands: Any
) -> None:
    queue = bull.queue(redis_url, "etl-backfill", version=5)
    queue.add("job")
    hands.hset("bull:etl-backfill:meta", "version", "bullmq:4.18.3")
    assert (await paused(brake())).outcome is PauseOutcome.PAUSED


async def test_other_prefixes_and_cluster_tags(bull: Bull, redis_url: str, brake: Brake) -> None:
    queue = bull.queue(redis_url, "{etl}", version=5, prefix="app:bull")
    queue.add("job")
    producer = brake("{etl}", prefix="app:bull")
    held = await paused(producer)
    worker = queue.worker()
    await asyncio.sleep(0.3)
    assert worker.ran() == []
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
