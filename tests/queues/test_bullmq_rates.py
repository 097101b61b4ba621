"""How a queue of the real BullMQ flows: adds, ends, attempts, and what people do to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.node.bull import VERSIONS, Bull, Version
from tests.node.handles import Behaviour, BullQueue
from tests.queues.bullmq_adapter import Eye, client, idle, queue_of, until, value

from starforge_backlog.clock import utc_now
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Known, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]

every_version = pytest.mark.parametrize("version", VERSIONS)
METRICS = {"maxDataPoints": 60}


@pytest.fixture
async def eye(redis_url: str) -> AsyncIterator[Eye]:
    hub = RedisHub()
    yield Eye(hub, redis_url)
    await hub.close()


def jobs(per_second: object, seconds: float) -> float:
    """How many jobs a rate stands for."""
    assert isinstance(per_second, Known), per_second
    found: float = per_second.value * seconds
    return found


@every_version
@pytest.mark.valkey
@pytest.mark.parametrize(
    ("remove", "metrics", "count"),
    [  # each value beside each of the others once
        pytest.param(True, METRICS, 60, id="removed-metrics-all events"),
        pytest.param(True, None, 900, id="removed-plain-some events"),
        pytest.param(False, METRICS, 900, id="kept-metrics-some events"),
        pytest.param(False, None, 60, id="kept-plain-all events"),
    ],
)
async def test_what_comes_and_what_goes(
    eye: Eye,
    bull: Bull,
    redis_url: str,
    version: Version,
    remove: bool,
    metrics: dict[str, int] | None,
    count: int,
) -> None:
    """Exact, whether or not workers keep metrics, ended jobs are kept, or all events are seen."""
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(3, "before", removeOnComplete=remove)
    options: dict[str, Any] = {} if metrics is None else {"metrics": metrics}
    queue.worker(Behaviour(fail={"bad": "no"}), concurrency=50, **options)
    await idle(queue)
    await eye.read()
    names = {"good": 2, "bad": 1}
    queue.add_bulk(count, names, removeOnComplete=remove, removeOnFail=remove)
    await idle(queue)
    reading, seconds = await eye.again()
    assert jobs(reading.arrivals_per_second, seconds) == pytest.approx(count, rel=0.03)
    assert jobs(reading.throughput_per_second, seconds) == pytest.approx(count, rel=0.03)
    outcomes = value(reading.outcomes)
    assert outcomes.failed_percent == pytest.approx(100 / 3, rel=0.1)
    if count == 60 or metrics:
        assert (outcomes.finished, outcomes.failed) == (count * 2 // 3, count // 3)
    attempts = jobs(reading.failed_attempts_per_second, seconds)
    assert attempts == pytest.approx(count / 3, rel=0.03 if count == 60 else 0.15)


@every_version
@pytest.mark.valkey
async def test_attempts_are_counted_and_not_only_jobs(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add("warm up")
    queue.worker(Behaviour(fail={"at once": "no", "later": "no"}), concurrency=5)
    await idle(queue)
    await eye.read()
    queue.add_bulk(5, "at once", attempts=3)
    queue.add_bulk(5, "later", attempts=3, backoff=30)
    queue.add_bulk(5, "delayed", delay=30)  # being delayed is no failure
    await idle(queue)
    reading, seconds = await eye.again()
    assert jobs(reading.failed_attempts_per_second, seconds) == pytest.approx(30, rel=0.05)
    outcomes = value(reading.outcomes)
    assert (outcomes.finished, outcomes.failed) == (5, 10)
    assert jobs(reading.arrivals_per_second, seconds) == pytest.approx(15, rel=0.05)


@every_version
async def test_another_delay_is_no_failed_attempt(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(5, "a", delay=60_000, ids="job")
    await eye.read()
    for number in range(5):
        queue.call_job(f"job-{number}", "changeDelay", 120_000)
    reading, _ = await eye.again()
    assert value(reading.failed_attempts_per_second) == 0


@every_version
async def test_adds_of_a_job_that_exists_are_no_arrivals(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add("warm up")
    await eye.read()
    for _ in range(10):
        queue.add("same", jobId="custom")
    queue.add_bulk(10, "own")
    if version > 4:
        for _ in range(10):
            queue.add("same", deduplication={"id": "d"})
    reading, seconds = await eye.again()
    expected = 11 if version == 4 else 12
    assert jobs(reading.arrivals_per_second, seconds) == pytest.approx(expected, rel=0.03)
    assert jobs(reading.throughput_per_second, seconds) == 0


@every_version
@pytest.mark.parametrize("how", ["one by one", "all at once"])
async def test_failed_jobs_that_are_put_back_neither_arrive_nor_leave(
    eye: Eye, bull: Bull, redis_url: str, version: Version, how: str
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(20, "bad", ids="job")
    worker = queue.worker(Behaviour(fail={"bad": "no"}), concurrency=5)
    await until(lambda: queue.counts()["failed"] == 20)
    worker.stop()
    await eye.read()
    if how == "one by one":
        for number in range(20):
            queue.call_job(f"job-{number}", "retry")
    else:
        queue.call("retryJobs")
    reading, seconds = await eye.again()
    assert value(reading.waiting).value == 20
    assert jobs(reading.arrivals_per_second, seconds) == 0
    assert jobs(reading.throughput_per_second, seconds) == 0


@every_version
async def test_jobs_that_people_remove_are_not_worked_on(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(300, "a", ids="job")
    await eye.read()
    for number in range(20):
        queue.call("remove", f"job-{number}")
    reading, seconds = await eye.again()
    assert jobs(reading.throughput_per_second, seconds) == 0
    queue.add("a")
    queue.call("drain")
    reading, seconds = await eye.again()
    assert value(reading.waiting).value == 0
    assert jobs(reading.throughput_per_second, seconds) == 0


@every_version
async def test_an_obliterated_queue_is_gone_and_its_successor_starts_again(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(50, "a")
    await eye.read()
    queue.obliterate()
    gone, _ = await eye.again()
    assert isinstance(gone.waiting, Unknown)
    assert gone.waiting.why is Why.QUEUE_NOT_FOUND
    fresh = queue_of(bull, redis_url, version)
    fresh.add_bulk(5, "a")
    reading, _ = await eye.again()
    assert value(reading.waiting).value == 5
    for rate in (reading.arrivals_per_second, reading.throughput_per_second):
        assert isinstance(rate, Unknown)
        assert rate.why is Why.COUNTER_RESET


async def test_a_flow_counts_each_of_its_jobs_once(eye: Eye, bull: Bull, redis_url: str) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add("warm up")
    queue.worker()
    await idle(queue)
    await eye.read()
    children = [{"name": "child", "queueName": "etl"} for _ in range(4)]
    for _ in range(5):
        queue.flow({"name": "parent", "queueName": "etl", "children": children})
    await idle(queue)
    reading, seconds = await eye.again()
    assert jobs(reading.arrivals_per_second, seconds) == pytest.approx(25, rel=0.03)
    assert jobs(reading.throughput_per_second, seconds) == pytest.approx(25, rel=0.03)


async def test_outcomes_by_type_where_ended_jobs_are_kept(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.worker(Behaviour(fail={"bad": "no"}))
    queue.add("old")
    await idle(queue)
    with client(redis_url) as admin:  # as if it had ended an hour ago
        admin.zadd("bull:etl:completed", {"1": (time.time() - 3600) * 1000})
    await eye.read()
    queue.add_bulk(30, {"good": 2, "bad": 1})
    await idle(queue)
    reading, _ = await eye.again()
    bad, good = (value(reading.by_type[name].outcomes) for name in ("bad", "good"))
    assert (bad.finished, bad.failed) == (0, 10)
    assert (good.finished, good.failed) == (20, 0)
    assert value(reading.outcomes).samples == 30
    queue.add_bulk(300, "good", removeOnComplete=True)
    await idle(queue)
    reading, _ = await eye.again()
    hidden = reading.by_type["bad"].outcomes
    assert isinstance(hidden, Unknown)
    assert "removeOnComplete and removeOnFail: {age: 600}" in hidden.message


async def test_without_any_trace_outcomes_are_unknown_with_the_fix(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = bull.queue(redis_url, "etl", options={"streams": {"events": {"maxLen": 0}}})
    with client(redis_url) as admin:
        admin.config_set("stream-node-max-entries", 1)  # so that a limit is one
        try:
            queue.worker()
            queue.add_bulk(50, "a", removeOnComplete=True)
            await idle(queue)
            await eye.read()
            queue.add_bulk(200, "a", removeOnComplete=True)
            await idle(queue)
            reading, seconds = await eye.again()
        finally:
            admin.config_set("stream-node-max-entries", 100)
    assert jobs(reading.throughput_per_second, seconds) == pytest.approx(200, rel=0.05)
    assert isinstance(reading.outcomes, Unknown)
    assert "metrics: {maxDataPoints: 15}" in reading.outcomes.message


async def test_a_hundred_thousand_arrivals_a_minute(eye: Eye, bull: Bull, redis_url: str) -> None:
    """Counted to ± 2 %, with workers, duplicates and only a part of the events seen."""
    queue = queue_of(bull, redis_url, 5)
    queue.worker(concurrency=20, removeOnComplete={"count": 0})
    queue.add("warm up")
    await eye.read()
    started, added = time.monotonic(), 0
    while time.monotonic() - started < 4:
        await asyncio.to_thread(queue.add_bulk, 170, "a")
        added += 170
        due = started + added / 1700
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    reading, seconds = await eye.again(4)
    counted = jobs(reading.arrivals_per_second, seconds)
    assert counted == pytest.approx(added, rel=0.02)


@pytest.mark.parametrize("version", [4, 5])
async def test_mixed_fleets_are_noticed_before_they_lose_jobs(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    """5 (or 4) and 6 on one queue, one of them pausing it."""
    old, new = queue_of(bull, redis_url, version), queue_of(bull, redis_url, 6)
    new.add_bulk(3, "a")
    new.pause()
    old.add("b")
    _mixed(await eye.read(), 4)
    new.call("resume")
    _settle(new)
    old.add_bulk(3, "a")
    old.pause()
    new.add("b")
    reading = await eye.read()
    _mixed(reading, value(reading.waiting).value)


def _settle(queue: BullQueue) -> None:
    queue.call("drain")


def _mixed(reading: Any, waiting: int) -> None:
    assert value(reading.waiting).value == waiting
    (note,) = [note for note in reading.notes if "Several majors" in note]
    assert "do not pause or resume it with pause()" in note


async def test_rates_follow_the_window_of_the_policy(eye: Eye, bull: Bull, redis_url: str) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(10, "a")
    first = await eye.read(window=timedelta(seconds=1))
    begin = eye.at
    assert isinstance(first.arrivals_per_second, Unknown)
    assert first.arrivals_per_second.why is Why.NOT_YET
    await asyncio.sleep(0.6)
    queue.add_bulk(100, "a")
    await eye.read(window=timedelta(seconds=1))
    await asyncio.sleep(1.1)
    # The window of 1 s has nothing in it, the one since the first reading has.
    short = await eye.read(window=timedelta(seconds=1))
    assert value(short.arrivals_per_second) == 0
    long = await eye.read(window=utc_now() - begin)
    seconds = (eye.at - begin).total_seconds()
    assert value(long.arrivals_per_second) * seconds == pytest.approx(100, rel=0.03)
