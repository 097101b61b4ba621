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

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
MARK = "starforge-backlog"
BRAKE = "00"  # as no setGlobalConcurrency() writes it
# Seconds in which the first job starts after a release, also on a busy machine …
SOONEST = 30.0
# … and after which a worker that sleeps looks again without the marker.
SLEEPS: dict[str, Any] = {"drainDelay": 90}
NEW: tuple[Version, ...] = (5, 6)
NOWHERE = SecretValue.model_validate({"secretKeyRef": {"name": "redis", "key": "url"}})

Brake = Callable[..., BrakeProducer]


@pytest.fixture
async def brake(redis_url: str) -> AsyncIterator[Brake]:
    """Each call is an operator of its own, with a connection of its own."""
    hubs: list[RedisHub] = []

    def make(name: str = "etl-backfill", *, prefix: str = "bull", url: str = redis_url) -> Any:
        hubs.append(RedisHub())
        server = hubs[-1].get(url, owner="ns/etl")
        return BrakeProducer(server, BullmqQueue(url=NOWHERE, name=name, prefix=prefix), utc_now)

    yield make
    for hub in hubs:
        await hub.close()


@pytest.fixture
def hands(redis_url: str) -> Any:
    """Another client with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture(params=NEW)
def queue(request: pytest.FixtureRequest, bull: Bull, redis_url: str) -> BullQueue:
    return bull.queue(redis_url, "etl-backfill", version=request.param)


async def paused(producer: BrakeProducer, token: str = "ns/etl/1") -> Paused:
    got = await producer.pause(owner="ns/etl", token=token, at=AT, why="storm")
    assert isinstance(got, Paused), got
    return got


async def resumed(producer: BrakeProducer, after: Paused, token: str = "ns/etl/1") -> Resumed:
    got = await producer.resume(token=token, version=after.version, previous=after.previous)
    assert isinstance(got, Resumed), got
    return got


async def seen(producer: BrakeProducer) -> ProducerReading:
    got = await producer.read()
    assert isinstance(got, Known), got
    return got.value


def assert_ours(now: ProducerReading, held: Paused) -> None:
    assert (now.value, now.token, now.version) == (FlagValue.PAUSED, "ns/etl/1", held.version)


def meta(hands: Any) -> dict[str, str]:
    found: dict[str, str] = hands.hgetall("bull:etl-backfill:meta")
    return {
        key: value for key, value in found.items() if key not in {"version", "opts.maxLenEvents"}
    }


async def until(come: Callable[[], object], within: float = 60.0) -> None:
    """Bounded, and without blocking the loop."""
    async with asyncio.timeout(within):
        while True:
            if come():
                return
            await asyncio.sleep(0.01)


async def first_start(worker: BullWorker, since: float, within: float = 60.0) -> float:
    """Seconds from `since` (Unix time) to the first job that started after it."""
    while time.time() < since + within:
        starts = [run["start"] / 1000 for run in worker.ran() if run["start"] / 1000 >= since]
        if starts:
            return float(min(starts) - since)
        await asyncio.sleep(0.01)
    return within


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
    assert (now.value, now.token) == (FlagValue.RUNNING, "ns/etl/1"), "the mark tells of a person"
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
        # What a dashboard of a later version writes; the jobs still tell who works on them.
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


@pytest.mark.valkey
async def test_scripts_that_redis_forgot(queue: BullQueue, brake: Brake, hands: Any) -> None:
    producer = brake()
    held = await paused(producer)
    hands.script_flush()
    assert (await seen(producer)).value is FlagValue.PAUSED
    hands.script_flush()
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED


@pytest.mark.valkey
@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("~bull:* +@read +eval +evalsha +select +client|setname -hset", Why.NO_PERMISSION),
        ("~bull:* +@all -@scripting", Why.NO_PERMISSION),
        ("~other:* +@all", Why.NO_PERMISSION),
    ],
)
async def test_without_the_right_to_write(
    queue: BullQueue, brake: Brake, hands: Any, redis_url: str, rule: str, why: Why
) -> None:
    hands.execute_command("ACL", "SETUSER", "watcher", "on", ">planted", *rule.split())
    try:
        host = redis_url.rpartition("@")[2]
        got = await brake(url=f"redis://watcher:planted@{host}").pause(
            owner="ns/etl", token="ns/etl/1", at=AT
        )
        assert isinstance(got, Unknown)
        assert (got.why, "planted" in got.message) == (why, False)
        assert meta(hands) == {}
    finally:
        hands.execute_command("ACL", "DELUSER", "watcher")


async def test_a_read_only_replica(
    queue: BullQueue, brake: Brake, redis_server: RealRedis, redis_url: str, tmp_path: Any
) -> None:
    replica = RealRedis.start(tmp_path, name="replica", replica_of=redis_server)
    try:
        database = int(redis_url.rpartition("/")[2])
        producer = brake(url=replica.url(database))
        await until(lambda: replica.client(database).exists("bull:etl-backfill:meta"))
        assert (await seen(producer)).value is FlagValue.RUNNING
        got = await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT)
        assert isinstance(got, Unknown)
        assert got.why is Why.READ_ONLY
    finally:
        replica.close()


async def test_out_of_memory(brake: Brake, bull: Bull, tmp_path: Any) -> None:
    server = RealRedis.start(tmp_path, name="small")
    try:
        bull.queue(server.url(0), "etl-backfill", version=5).add("job")
        producer = brake(url=server.url(0))
        assert (await seen(producer)).value is FlagValue.RUNNING
        with server.client(0) as client:
            client.config_set("maxmemory", "1")
            got = await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT)
            assert isinstance(got, Unknown)
            assert got.why is Why.OUT_OF_MEMORY
            client.config_set("maxmemory", "0")
            assert (await paused(producer)).outcome is PauseOutcome.PAUSED
    finally:
        server.close()


async def test_a_server_that_comes_back(brake: Brake, bull: Bull, tmp_path: Any) -> None:
    server = RealRedis.start(tmp_path, name="mortal", settings={"appendonly": True})
    try:
        bull.queue(server.url(0), "etl-backfill", version=5).add("job")
        producer = brake(url=server.url(0))
        held = await paused(producer)
        server.kill()
        assert isinstance(await producer.read(), Unknown)
        server.restart()
        left: Resumed | Unknown | None = None
        async with asyncio.timeout(120):  # the next attempt to connect has to wait for its time
            while not isinstance(left, Resumed):
                await asyncio.sleep(0.1)
                left = await brake(url=server.url(0)).resume(
                    token="ns/etl/1", version=held.version, previous=held.previous
                )
        assert left.outcome is ResumeOutcome.RESUMED
    finally:
        server.close()


async def test_a_cluster(brake: Brake, tmp_path: Any) -> None:
    """With a hash tag all keys of a queue are in one slot; without one nothing is paused."""
    server = RealRedis.start(tmp_path, name="cluster", slots=ALL_SLOTS)
    try:
        with server.client(0) as client:
            client.hset("bull:{etl}:meta", mapping={"concurrency": "7"})
            client.rpush("bull:{etl}:active", "1")
            client.hset("bull:{etl}:1", mapping={"name": "job", "ats": "1"})
            producer = brake("{etl}", url=server.url(0))
            held = await paused(producer)
            assert (held.outcome, held.previous) == (PauseOutcome.PAUSED, '"7"')
            assert (await seen(producer)).token == "ns/etl/1"
            assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
            assert client.hkeys("bull:{etl}:meta") in ([b"concurrency"], ["concurrency"])
            assert client.hget("bull:{etl}:meta", "concurrency") in (b"7", "7")
        got = await brake("etl", url=server.url(0)).read()
        assert isinstance(got, Unknown)
        assert got.why is Why.HASH_TAG_MISSING
    finally:
        server.close()


@pytest.mark.parametrize("paused_by_hand", [False, True])
@pytest.mark.parametrize("package", ["bull3", "bull4"])
async def test_a_queue_of_bull_has_no_brake(
    bull: Bull,
    brake: Brake,
    hands: Any,
    redis_url: str,
    package: OldPackage,
    paused_by_hand: bool,
) -> None:
    """Its workers would go on, so nothing is written that says otherwise."""
    queue = bull.old_queue(redis_url, "etl-backfill", package=package)
    queue.add("x")
    if paused_by_hand:
        queue.call("pause")
    queue.call("close")
    before = hands.hgetall("bull:etl-backfill:meta")
    got = await brake().read()
    assert isinstance(got, Unknown)
    assert got.why is Why.NOT_BULLMQ
    assert "Bull 3 or 4" in got.message
    held = await paused(brake())
    assert held.outcome is PauseOutcome.BAD_SHAPE
    assert "pause what enqueues these jobs" in held.message
    assert hands.hgetall("bull:etl-backfill:meta") == before
