"""What is in a queue of the real BullMQ 4, 5 and 6, and since when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.node.bull import VERSIONS, Bull, Version
from tests.node.handles import Behaviour
from tests.queues.bullmq_adapter import SETTINGS, Eye, client, queue_of, spec, until, value

from starforge_backlog.clock import utc_now
from starforge_backlog.queues.bullmq.settings import ObserverSettings
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Confidence, Count, Known, QueueReading, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]

every_version = pytest.mark.parametrize("version", VERSIONS)
HOUR = 3_600_000  # ms


@pytest.fixture
async def hub() -> AsyncIterator[RedisHub]:
    made = RedisHub()
    yield made
    await made.close()


@every_version
@pytest.mark.valkey
async def test_every_job_is_counted_where_it_is(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(2, "fails")
    worker = queue.worker(Behaviour(fail={"fails": "no"}, hang=["hangs"]), concurrency=2)
    await until(lambda: queue.counts()["failed"] == 2)
    queue.add_bulk(2, "hangs")
    await until(lambda: queue.counts()["active"] == 2)
    queue.add_bulk(30, {"a": 2, "b": 1})
    queue.add_bulk(5, "c", priority=7)
    queue.add_bulk(4, "d", delay=HOUR)
    queue.flow({"name": "p", "queueName": "etl", "children": [{"name": "k", "queueName": "kids"}]})

    reading = await eye.read()
    assert value(reading.waiting) == Count(35)
    assert value(reading.scheduled) == Count(4)
    assert value(reading.in_progress) == Count(2)
    assert value(reading.failed) == Count(2)
    assert reading.types == {"a": Count(20), "b": Count(10), "c": Count(5)}
    assert reading.how.startswith(f"BullMQ {version} at redis 127.0.0.1:")
    assert "1 parents wait for their children." in reading.notes
    consumers = value(reading.consumers)
    assert (consumers.live, consumers.orphaned, consumers.paused_by) == (1, 0, "")
    kids = await eye.read("kids")
    assert value(kids.waiting) == Count(1)
    worker.stop(force=True)


@every_version
@pytest.mark.valkey
async def test_a_paused_queue_is_not_an_empty_one(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add_bulk(10, "a")
    queue.pause()
    queue.add_bulk(5, "b")
    reading = await eye.read()
    assert value(reading.waiting) == Count(15)
    assert reading.types == {"a": Count(10), "b": Count(5)}
    assert value(reading.consumers).paused_by == "a person"
    assert any("pause()" in note for note in reading.notes)
    assert not any("Several majors" in note for note in reading.notes)
    queue.resume()
    reading = await eye.read()
    assert value(reading.waiting) == Count(15)
    assert value(reading.consumers).paused_by == ""
    assert reading.notes == ()


async def test_the_sign_that_bullmq_4_leaves_for_idle_workers_is_no_job(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 4)
    queue.add("a", delay=HOUR)
    with client(redis_url) as admin:
        assert admin.lrange("bull:etl:wait", 0, -1)[0].startswith("0:")
    reading = await eye.read()
    assert value(reading.waiting) == Count(0)
    assert value(reading.oldest_due_age) == timedelta(0)
    assert reading.how.startswith("BullMQ 4 ")


@pytest.mark.parametrize("version", [5, 6])
async def test_a_limit_of_zero_is_a_brake_and_somebodys(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add("a")
    queue.set_concurrency(7)
    limited = await eye.read()
    assert value(limited.consumers).paused_by == ""
    assert limited.notes == ("The queue's global concurrency is 7.",)
    queue.set_concurrency(0)
    braked = await eye.read()
    assert value(braked.consumers).paused_by == "a person"
    assert "by a person" in braked.notes[0]
    with client(redis_url) as admin:
        admin.hset("bull:etl:meta", "starforge-backlog", '{"token": "qbp/1"}')
        over_ours = await eye.read()
        assert value(over_ours.consumers).paused_by == "a person", "their zero, beside our mark"
        assert "by a person" in over_ours.notes[0]
        admin.hset("bull:etl:meta", "concurrency", "00")
        ours = await eye.read()
        assert value(ours.consumers).paused_by == "qbp/1"
        assert ours.notes == ()
        for none in ("5", '{"token": 5}', "[" * 100_000):
            admin.hset("bull:etl:meta", "starforge-backlog", none)
            assert value((await eye.read()).consumers).paused_by == "a person"


@every_version
@pytest.mark.valkey
async def test_the_oldest_job_of_all_lists(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    begin = utc_now()
    queue.add("first", priority=9)
    await asyncio.sleep(0.3)
    queue.add_bulk(200, "many", priority=2)
    queue.add_bulk(200, "plain")
    oldest = value((await eye.read()).oldest_due_age)
    assert timedelta(seconds=0.3) <= oldest <= utc_now() - begin
    queue.call("drain")
    begin = utc_now()
    queue.add("plain")
    await asyncio.sleep(0.3)
    queue.add_bulk(200, "quick", lifo=True)  # they are put in front of the older one
    reading = await eye.read()
    assert timedelta(seconds=0.3) <= value(reading.oldest_due_age) <= utc_now() - begin


@every_version
async def test_a_delayed_job_is_late_only_after_its_delay(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add("much later", delay=HOUR)
    await asyncio.sleep(0.3)
    early = await eye.read()
    assert (value(early.waiting), value(early.scheduled)) == (Count(0), Count(1))
    assert value(early.oldest_due_age) == timedelta(0)
    begin = utc_now()
    queue.add("later", delay=700)
    await asyncio.sleep(1)
    # Nobody works here, so nobody promoted it; it is due all the same.
    due = await eye.read()
    assert (value(due.waiting), value(due.scheduled)) == (Count(1), Count(1))
    assert due.types == {"later": Count(1)}
    late = utc_now() - begin - timedelta(seconds=0.7)
    assert timedelta(seconds=0.2) < value(due.oldest_due_age) <= late


@every_version
async def test_after_a_retry_a_job_waits_since_its_last_start(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    queue.add("a", attempts=5_000)
    made = utc_now()
    await asyncio.sleep(2)
    worker = queue.worker(Behaviour(fail={"a": "no"}, ms=50))
    await until(lambda: len(worker.ran()) >= 3)
    # The last start, then or later, lies behind the end of the attempt before.
    earliest = datetime.fromtimestamp(worker.ran()[-2]["end"] / 1000, UTC)
    worker.stop()
    reading = await eye.read()
    assert value(reading.waiting) == Count(1)
    assert value(reading.oldest_due_age) <= utc_now() - earliest
    assert earliest - made >= timedelta(seconds=2)


@every_version
async def test_a_job_put_back_by_hand_waits_since_we_saw_it(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    queue = queue_of(bull, redis_url, version)
    job = queue.add("a")
    worker = queue.worker(Behaviour(fail={"a": "no"}))
    await until(lambda: queue.counts()["failed"] == 1)
    worker.stop()
    await asyncio.sleep(0.5)
    put_back = utc_now()
    queue.call_job(job, "retry")
    first = value((await eye.read()).oldest_due_age)
    assert first <= utc_now() - put_back, "not since it was made"
    await asyncio.sleep(0.3)
    second = value((await eye.read()).oldest_due_age)
    assert second - first >= timedelta(seconds=0.25)


async def test_many_priorities_are_read_one_by_one(
    hub: RedisHub, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    for priority in (1, 2, 3, 4, 5):
        queue.add("a", priority=priority)
    few = Eye(hub, redis_url, ObserverSettings(priorities=2))
    age = (await few.read()).oldest_due_age
    assert isinstance(age, Unknown), "two from each end, and one in the middle"
    assert "more priorities" in age.message
    assert isinstance((await Eye(hub, redis_url).read()).oldest_due_age, Known)


@pytest.mark.valkey
async def test_the_mix_of_a_long_queue_is_a_sample(
    hub: RedisHub, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(9000, {"import": 6, "report": 3})
    queue.add_bulk(1000, "urgent", priority=1)
    reading = await Eye(hub, redis_url, SETTINGS).read()
    assert value(reading.waiting) == Count(10_000)
    for name, jobs in (("import", 6000), ("report", 3000), ("urgent", 1000)):
        count = reading.types[name]
        assert count.confidence is Confidence.ESTIMATED
        assert abs(count.value - jobs) < 800  # 5 standard deviations, and blocks are no worse
    by_type = reading.by_type["urgent"]
    assert value(by_type.oldest_due_age) > timedelta(0)
    assert reading.how.endswith("types sampled")


async def test_a_kind_that_does_not_come_next_has_no_known_age(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(400, "first")
    queue.add_bulk(400, "second")
    by_type = (await eye.read()).by_type
    assert value(by_type["first"].oldest_due_age) > timedelta(0)
    age = by_type["second"].oldest_due_age
    assert isinstance(age, Unknown)
    assert age.why is Why.NO_SAMPLES


async def test_a_kind_that_a_sample_does_not_show_is_not_zero(
    hub: RedisHub, bull: Bull, redis_url: str
) -> None:
    """Fewer than the sample can distinguish: an upper bound, and never exactly none."""
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(3000, "import")
    settings = replace(SETTINGS, sample=100, named_sample=300)
    queues = Eye(hub, redis_url, settings).queues

    async def read(*types: str) -> QueueReading:
        window, now = timedelta(seconds=1), timedelta(0)
        return await queues.read("jobs", spec(), frozenset(types), rate_window=window, max_age=now)

    plain = await read()
    assert "poison" not in plain.by_type
    assert value(plain.by_type["import"].waiting) == Count(3000, Confidence.ESTIMATED)
    named = await read("poison")
    assert value(named.by_type["poison"].waiting) == Count(30, Confidence.AT_MOST)
    assert "poison" not in named.types
    queue.call("drain")
    empty = await read("poison")
    assert value(empty.by_type["poison"].waiting) == Count(0)


async def test_jobs_of_a_scheduler_are_jobs(eye: Eye, bull: Bull, redis_url: str) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.upsert_scheduler("nightly", {"every": HOUR}, {"name": "night"})
    reading = await eye.read()
    assert value(reading.waiting).value + value(reading.scheduled).value == 1


@every_version
async def test_jobs_whose_worker_was_killed_are_orphaned(
    eye: Eye, redis_url: str, version: Version, tmp_path: Path
) -> None:
    with Bull.start(tmp_path) as doomed:
        queue = queue_of(doomed, redis_url, version)
        queue.add_bulk(4, "hangs")
        queue.worker(
            Behaviour(hang=["hangs"]), concurrency=3, lockDuration=8000, stalledInterval=60_000
        )
        await until(lambda: queue.counts()["active"] == 3)
        held = value((await eye.read()).consumers)
        assert (held.live, held.orphaned) == (1, 0)
        doomed.kill()
    async with asyncio.timeout(60):  # until its locks have expired
        while True:
            reading = await eye.read()
            gone = value(reading.consumers)
            if (gone.live, gone.orphaned) == (0, 3):
                break
            await asyncio.sleep(0.1)
    assert any("lost their worker's lock" in note for note in reading.notes)


@every_version
@pytest.mark.valkey
async def test_jobs_that_were_given_out_twice_have_stalled(
    eye: Eye, bull: Bull, redis_url: str, version: Version, tmp_path: Path
) -> None:
    with Bull.start(tmp_path) as doomed:
        queue = queue_of(doomed, redis_url, version)
        queue.add_bulk(2, "hangs")
        queue.worker(
            Behaviour(hang=["hangs"]), concurrency=2, lockDuration=300, stalledInterval=200
        )
        await until(lambda: queue.counts()["active"] == 2)
        doomed.kill()
    survivor = queue_of(bull, redis_url, version)
    survivor.worker(
        Behaviour(hang=["hangs"]), concurrency=2, stalledInterval=200, maxStalledCount=5
    )
    await until(lambda: len(eye_stalls(redis_url)) == 2)
    assert value((await eye.read()).consumers).stalled == 2


def eye_stalls(url: str) -> list[str]:
    with client(url) as admin:
        running = admin.lrange("bull:etl:active", 0, -1)
        fields = [admin.hmget(f"bull:etl:{job}", "stc", "stalledCounter") for job in running]
    return [job for job, found in zip(running, fields, strict=True) if any(found)]


@every_version
async def test_a_promoted_job_waits_since_it_was_seen(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    """`promote()` before its time: its delay, which BullMQ keeps, is of the future."""
    queue = queue_of(bull, redis_url, version)
    queue.call_job(queue.add("a", delay=HOUR), "promote")
    await eye.read()
    await asyncio.sleep(1)
    seen = await eye.read()
    assert value(seen.waiting) == Count(1)
    assert value(seen.oldest_due_age) >= timedelta(seconds=1)
    assert value(seen.by_type["a"].oldest_due_age) >= timedelta(seconds=1)
