"""The brake of a BullMQ queue where it cannot be set: no queue, no right, no memory, no primary."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from tests.node.bull import Bull, OldPackage
from tests.node.handles import BullQueue
from tests.producers.brakes import AT, MARK, Brake, meta, paused, resumed, seen, until

from local.redis import ALL_SLOTS
from local.redis import RedisServer as RealRedis
from starforge_backlog.decide.results import (
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Known, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]


@pytest.fixture
def hands(redis_url: str) -> Any:
    """Another client with redis-cli."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def test_no_such_queue_is_not_an_empty_one(brake: Brake, hands: Any) -> None:
    producer = brake("no-such-queue")
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.QUEUE_NOT_FOUND
    got = await paused(producer)
    assert (got.outcome, got.message) == (PauseOutcome.ROW_MISSING, reading.message)
    assert (await resumed(producer, got)).outcome is ResumeOutcome.ROW_MISSING
    assert hands.keys("*") == []


async def test_a_limit_that_status_could_not_hold_is_not_overwritten(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    """No limit is that long, but a field of a hash may hold anything."""
    hands.hset("bull:etl-backfill:meta", "concurrency", "9" * 80_000)
    before = meta(hands)
    got = await paused(brake())
    assert got.outcome is PauseOutcome.BAD_SHAPE
    assert "80000 bytes" in got.message
    assert len(got.message) < 500
    assert meta(hands) == before


async def test_fields_of_any_size_are_not_read(queue: BullQueue, brake: Brake, hands: Any) -> None:
    for field in ("version", "concurrency", MARK, "paused"):
        hands.hset("bull:etl-backfill:meta", field, "9" * 200_000)
    before = hands.info("memory")["used_memory_vm_eval"]
    reading = await brake().read()
    assert isinstance(reading, Known)
    assert (reading.value.value, reading.value.token) == (FlagValue.PAUSED, None)
    assert len(reading.value.version) < 100
    assert hands.info("memory")["used_memory_vm_eval"] - before < 200_000


@pytest.mark.parametrize("suffix", ["meta", "wait", "paused"])
async def test_a_key_of_another_type_is_left_alone(
    queue: BullQueue, brake: Brake, hands: Any, suffix: str
) -> None:
    key = f"bull:etl-backfill:{suffix}"
    hands.delete(key)
    hands.zadd(key, {"planted": 1})
    reading = await brake().read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.NOT_BULLMQ
    got = await paused(brake())
    assert got.outcome is PauseOutcome.BAD_SHAPE
    assert (key in got.message, "planted" in got.message) == (True, False)
    # To release, nothing has to be known of the list that only BullMQ's own pause uses.
    left = ResumeOutcome.NOT_PAUSED if suffix == "paused" else ResumeOutcome.BAD_SHAPE
    assert (await resumed(brake(), got)).outcome is left
    assert hands.type(key) == "zset"
    assert hands.hget("bull:etl-backfill:meta", MARK) is None if suffix != "meta" else True


async def test_a_job_that_is_no_hash_keeps_no_queue_running(
    queue: BullQueue, brake: Brake, hands: Any
) -> None:
    hands.set("bull:etl-backfill:odd", "x")
    hands.rpush("bull:etl-backfill:active", "odd")
    hands.zadd("bull:etl-backfill:completed", {"odd": "inf"})
    assert (await seen(brake())).value is FlagValue.RUNNING
    assert (await paused(brake())).outcome is PauseOutcome.PAUSED


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
