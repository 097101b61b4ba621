"""Queues that are not there, servers that misbehave, rights that are missing: own reason and fix,
never an exception, and the others go on."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.node.bull import Bull, Connection, OldPackage
from tests.node.handles import Behaviour
from tests.patience import limits
from tests.queues.bullmq_adapter import (
    SETTINGS,
    WINDOW,
    Eye,
    client,
    idle,
    queue_of,
    spec,
    until,
    value,
)
from tests.redis.servers import StartRedis

from local.redis import ALL_SLOTS
from local.redis import RedisServer as LocalRedis
from local.redis_failover import MASTER_NAME, RedisFailover
from local.redis_programs import find_redis_62
from starforge_backlog.api.queue import Queue
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.adapters import QueueAdapters
from starforge_backlog.queues.bullmq.observer import BullmqQueues
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Count, Known, QueueReading, Reading, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]


def why(reading: Reading[Any] | None) -> Why:
    assert isinstance(reading, Unknown), reading
    return reading.why


async def until_read(
    eye: Eye,
    wanted: Callable[[Reading[Count]], bool] = lambda reading: isinstance(reading, Known),
    within: float = 60,
) -> QueueReading:
    """The first reading that is as it is wanted."""
    async with asyncio.timeout(within):
        while not wanted((reading := await eye.read()).waiting):  # noqa: ASYNC110 - it is asked
            await asyncio.sleep(0.05)
    return reading


def because(reason: Why) -> Callable[[Reading[Count]], bool]:
    return lambda reading: isinstance(reading, Unknown) and reading.why is reason


async def test_a_queue_that_does_not_exist_is_not_an_empty_one(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    nothing = await eye.read("etl")
    assert why(nothing.waiting) is Why.QUEUE_NOT_FOUND
    queue_of(bull, redis_url, 5).add("a")
    other = bull.queue(redis_url, "payments", prefix="app")
    other.worker()
    with client(redis_url) as admin:
        admin.mset({f"noise:{number}": 1 for number in range(50)})

    misspelt = await eye.read("elt")
    assert why(misspelt.waiting) is Why.QUEUE_NOT_FOUND
    assert isinstance(misspelt.waiting, Unknown)
    message = misspelt.waiting.message
    assert "no BullMQ queue elt under prefix bull (no key bull:elt:meta)" in message
    assert "spec.queues[jobs].bullmq.name" in message
    assert "bull:etl" in message
    wrong_prefix = await eye.read("payments")
    assert isinstance(wrong_prefix.waiting, Unknown)
    assert "app:payments" in wrong_prefix.waiting.message
    assert value((await eye.read("etl")).waiting) == Count(1)


async def test_an_empty_queue_is_an_empty_one(eye: Eye, bull: Bull, redis_url: str) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.counts()
    queue.call("waitUntilReady")
    reading = await until_read(eye)
    assert value(reading.waiting) == Count(0)
    assert value(reading.oldest_due_age) == timedelta(0)


@pytest.mark.parametrize(
    "jobs",
    [[{}], [{"delay": 60_000}], [{"priority": 2}], [{}, {"delay": 60_000}, {"priority": 2}]],
    ids=["plain", "delayed", "of a priority", "of all kinds"],
)
@pytest.mark.parametrize("package", ["bull3", "bull4"])
async def test_a_queue_of_bull_before_bullmq(
    eye: Eye, bull: Bull, redis_url: str, package: OldPackage, jobs: list[dict[str, int]]
) -> None:
    queue = bull.old_queue(redis_url, "etl", package=package)
    for options in jobs:
        queue.add("x", **options)
    queue.call("close")
    await says_bull_3(eye)


@pytest.mark.parametrize("package", ["bull3", "bull4"])
async def test_a_queue_of_bull_that_is_paused_or_done(
    eye: Eye, bull: Bull, redis_url: str, package: OldPackage
) -> None:
    queue = bull.old_queue(redis_url, "etl", package=package, works=True)
    queue.add("x")
    await until(lambda: queue.call("getCompletedCount") == 1)
    await says_bull_3(eye)
    queue.call("pause")
    queue.add("x")
    queue.call("close")
    await says_bull_3(eye)


async def says_bull_3(eye: Eye) -> None:
    reading = (await eye.read()).waiting
    assert why(reading) is Why.NOT_BULLMQ
    assert isinstance(reading, Unknown)
    assert "Bull 3" in reading.message
    assert "spec.queues[jobs].prometheus" in reading.message


@pytest.mark.parametrize("key", ["wait", "delayed", "meta", "events", "metrics:failed"])
async def test_a_key_of_another_type_is_named(
    eye: Eye, bull: Bull, redis_url: str, key: str
) -> None:
    queue_of(bull, redis_url, 5).add("a")
    with client(redis_url) as admin:
        admin.delete(f"bull:etl:{key}")
        admin.set(f"bull:etl:{key}", "x")
    reading = (await eye.read()).waiting
    assert why(reading) is Why.NOT_BULLMQ
    assert isinstance(reading, Unknown)
    assert f"Key bull:etl:{key} is a string and not a " in reading.message


@pytest.mark.parametrize("counter", ["abc", "1.5", "", "-1", "1e30", "9" * 30])
async def test_a_counter_that_counts_nothing_is_named(
    eye: Eye, bull: Bull, redis_url: str, counter: str
) -> None:
    queue_of(bull, redis_url, 5).add("a")
    with client(redis_url) as admin:
        admin.set("bull:etl:id", counter)
    reading = (await eye.read()).waiting
    assert why(reading) is Why.BAD_SHAPE
    assert isinstance(reading, Unknown)
    assert "Key bull:etl:id is no whole number" in reading.message
    assert "SET bull:etl:id" in reading.message


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp": "1e999"},
        {"timestamp": "nan"},
        {"timestamp": "soon"},
        {"timestamp": "-1e300"},
        {"timestamp": "1e300"},
        {"opts": '{"delay": 1e300}'},
        {"processedOn": "1e999", "atm": "1e999", "ats": "-1e999", "stc": "1e999"},
    ],
)
async def test_one_odd_job_hides_no_queue(
    eye: Eye, bull: Bull, redis_url: str, fields: dict[str, str]
) -> None:
    """The counts are reported, and whose number it is."""
    queue_of(bull, redis_url, 5).add_bulk(10, {"a": 9, "b": 1})
    with client(redis_url) as admin:
        admin.hset("bull:etl:odd", mapping={"name": "c", "timestamp": "1", **fields})
        admin.rpush("bull:etl:wait", "odd")
    reading = await eye.read()
    assert value(reading.waiting) == Count(11)
    assert value(reading.in_progress) == Count(0)
    assert reading.types == {"a": Count(9), "b": Count(1), "c": Count(1)}
    assert why(reading.oldest_due_age) is Why.BAD_SHAPE
    assert isinstance(reading.oldest_due_age, Unknown)
    assert reading.oldest_due_age.message.startswith("Job odd (wait) has a number that is none")
    assert value(reading.by_type["a"].oldest_due_age) < timedelta(minutes=1), (
        "the others' is reported"
    )
    assert why(reading.by_type["c"].oldest_due_age) is Why.BAD_SHAPE


@pytest.mark.parametrize("key", ["wait", "active", "completed"])
async def test_a_job_that_is_no_hash_hides_no_queue(
    eye: Eye, bull: Bull, redis_url: str, key: str
) -> None:
    queue_of(bull, redis_url, 5).add_bulk(5, "a")
    with client(redis_url) as admin:
        admin.set("bull:etl:odd", "x")
        if key == "completed":
            admin.zadd("bull:etl:completed", {"odd": time.time() * 1000})
        else:
            admin.rpush(f"bull:etl:{key}", "odd")
    reading = await eye.read()
    assert value(reading.waiting) == Count(6 if key == "wait" else 5)
    assert reading.types == {"a": Count(5)}
    if key == "wait":
        assert why(reading.oldest_due_age) is Why.BAD_SHAPE
    value(reading.consumers)


@pytest.mark.parametrize("score", ["-inf", "inf", "1e300", "-1e300"])
@pytest.mark.parametrize("key", ["delayed", "prioritized", "completed", "failed"])
async def test_scores_of_no_time_hide_no_queue(
    eye: Eye, bull: Bull, redis_url: str, key: str, score: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(5, "a")
    queue.add_bulk(3, "p", priority=2)
    with client(redis_url) as admin:
        now = round(time.time() * 1000)
        admin.hset("bull:etl:odd", mapping={"name": "c", "timestamp": now})
        admin.execute_command("ZADD", f"bull:etl:{key}", score, "odd")
    for _ in range(2):
        reading = await eye.read()
        below = score.startswith("-")
        odd_waits = key == "prioritized" or (key == "delayed" and below)
        assert value(reading.waiting) == Count(9 if odd_waits else 8)
        assert reading.types["a"] == Count(5)
        assert reading.by_type["p"].waiting == Known(Count(3), reading.waiting.at)
        age = reading.oldest_due_age
        assert (isinstance(age, Unknown) and age.why is Why.BAD_SHAPE) is (
            key == "delayed" and below
        )
        assert not any("more priorities" in note for note in reading.notes)


async def test_a_cluster_wants_a_hash_tag(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    local = start_redis(slots=ALL_SLOTS)
    eye = Eye(hub, local.url().replace("redis://", "redis+cluster://"))
    bare = await eye.read("etl")
    assert why(bare.waiting) is Why.HASH_TAG_MISSING
    queue = bull.queue(local.url(), "etl", prefix="{bull}", connection=Connection(cluster=True))
    queue.add_bulk(600, {"a": 2, "b": 1})
    queue.add("c", priority=2)
    reading = await eye.read("etl", "{bull}")
    assert value(reading.waiting) == Count(601)
    assert set(reading.types) >= {"a", "b"}
    assert value(reading.consumers).live == 0


async def test_script_flush_and_restart_are_nothing_new(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    local = start_redis(settings={"appendonly": True, "appendfsync": "always"})
    eye = Eye(hub, local.url())
    queue = queue_of(bull, local.url(), 5)
    queue.add_bulk(20, "a")
    await eye.read()
    with local.client() as admin:
        admin.script_flush()
    assert value((await eye.read()).waiting) == Count(20)
    await asyncio.to_thread(local.restart)
    reading = await until_read(eye)
    assert value(reading.waiting) == Count(20)
    queue.add_bulk(10, "a")
    after, seconds = await eye.again()
    assert value(after.arrivals_per_second) * seconds == pytest.approx(10, rel=0.1)


async def test_a_redis_that_forgot_everything_is_no_empty_queue(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    local = start_redis()
    eye = Eye(hub, local.url())
    queue_of(bull, local.url(), 5).add_bulk(20, "a")
    await eye.read()
    local.kill()
    await asyncio.to_thread(local.restart)
    await until_read(eye, because(Why.QUEUE_NOT_FOUND))


async def test_a_frozen_redis_costs_the_others_nothing(
    hub: RedisHub, eye: Eye, bull: Bull, redis_url: str, start_redis: StartRedis
) -> None:
    local = start_redis()
    stuck = Eye(hub, local.url())
    for url in (local.url(), redis_url):
        queue_of(bull, url, 5).add("a")
    await stuck.read()
    await eye.read()
    local.freeze()
    try:
        with limits(timedelta(seconds=5)):
            hanging = asyncio.create_task(stuck.read())
            for _ in range(10):
                assert value((await eye.read()).waiting) == Count(1)
            assert not hanging.done(), "all ten came while it was waited for"
            assert why((await hanging).waiting) is Why.TIMEOUT
    finally:
        local.thaw()
    assert value((await until_read(stuck)).waiting) == Count(1)


async def test_out_of_memory_is_read_all_the_same(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    local = start_redis()
    eye = Eye(hub, local.url())
    queue = queue_of(bull, local.url(), 5)
    queue.worker(Behaviour(hang=["a"]), concurrency=2)
    queue.add_bulk(700, "a")
    await until(lambda: queue.counts()["active"] == 2)
    with local.client() as admin:
        admin.config_set("maxmemory", 1)
    reading = await eye.read()
    assert value(reading.waiting).value == 698
    assert reading.types["a"].value == 698
    again, _ = await eye.again()
    assert value(again.failed_attempts_per_second or again.waiting) == 0


async def test_a_replica_is_read_until_it_loses_its_master(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    master = start_redis()
    replica = start_redis(replica_of=master, name="replica")
    queue_of(bull, master.url(), 5).add_bulk(5, "a")
    eye = Eye(hub, replica.url())
    assert value((await until_read(eye)).waiting) == Count(5)
    master.kill()
    reading = await until_read(eye, lambda reading: isinstance(reading, Unknown))
    assert why(reading.waiting) is Why.STALE
    with replica.client() as admin:
        admin.config_set("replica-serve-stale-data", "no")
    assert why((await eye.read()).waiting) is Why.STALE


async def test_a_failover_is_followed(hub: RedisHub, bull: Bull, tmp_path: Path) -> None:
    pair = await asyncio.to_thread(RedisFailover.start, tmp_path)
    try:
        password = pair.servers[0].password
        url = f"redis+sentinel://:{password}@127.0.0.1:{pair.sentinel.port}/0?master={MASTER_NAME}"
        eye = Eye(hub, url)
        queue_of(bull, pair.master.url(), 5).add_bulk(5, "a")
        assert value((await until_read(eye)).waiting) == Count(5)
        await until(lambda: _size(pair.replica) == _size(pair.master))
        await asyncio.to_thread(pair.kill_master)
        reading = await until_read(eye)
        assert value(reading.waiting) == Count(5)
        assert f"{MASTER_NAME} (Sentinel 127.0.0.1:" in reading.how
    finally:
        await asyncio.to_thread(pair.close)


def _size(server: LocalRedis) -> int:
    with server.client() as admin:
        return int(admin.dbsize())


async def test_a_login_that_may_only_read(
    hub: RedisHub, bull: Bull, redis_server: LocalRedis, redis_url: str
) -> None:
    """The least rights: what the documentation asks for, and CLIENT LIST is not among them."""
    rules = ["~bull:*", "+@read", "+eval", "+evalsha", "+time", "+select", "+hello"]
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "least", "reset", "on", ">x", *rules)
    queue = queue_of(bull, redis_url, 5)
    queue.worker()
    queue.add_bulk(700, "a", removeOnComplete=True)
    await idle(queue)
    queue.add_bulk(5, "a", delay=60_000)
    database = int(redis_url.rsplit("/", 1)[1])
    eye = Eye(hub, redis_server.url(database, user="least", password="x"))
    reading = await eye.read()
    assert value(reading.scheduled) == Count(5)
    assert value(reading.consumers).live is None
    assert any("ACL SETUSER least +client|list" in note for note in reading.notes)
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "least", "-evalsha", "-eval")
    refused = (await eye.read()).waiting
    assert why(refused) is Why.NO_PERMISSION
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "least", "+evalsha", "+eval", "resetkeys", "~x:*")
    keyless = (await eye.read()).waiting
    assert why(keyless) is Why.NO_PERMISSION
    with redis_server.client() as admin:
        admin.execute_command("ACL", "DELUSER", "least")


async def test_a_hundred_policies_one_reading(
    hub: RedisHub, bull: Bull, redis_server: LocalRedis, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add("a")
    servers = {hub.get(redis_url, owner=f"ns/{number}") for number in range(100)}
    (server,) = servers
    queues = BullmqQueues(server, settings=SETTINGS)
    with redis_server.client() as admin:
        before = admin.info("commandstats").get("cmdstat_xrevrange", {"calls": 0})["calls"]
        readings = await asyncio.gather(
            *(
                queues.read(f"q{n}", spec(), rate_window=WINDOW, max_age=timedelta(seconds=1))
                for n in range(100)
            )
        )
        after = admin.info("commandstats")["cmdstat_xrevrange"]["calls"]
    assert after - before == 1
    assert {value(reading.waiting).value for reading in readings} == {1}
    missing = await asyncio.gather(
        *(
            queues.read(f"q{n}", spec("no"), rate_window=WINDOW, max_age=timedelta(seconds=1))
            for n in range(2)
        )
    )
    for number, reading in enumerate(missing):
        assert isinstance(reading.waiting, Unknown)
        assert f"queues[q{number}]" in reading.waiting.message, "each names its own field"


async def test_the_oldest_redis_that_is_supported(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    local = start_redis(program=find_redis_62())
    eye = Eye(hub, local.url())
    queue = queue_of(bull, local.url(), 5)
    queue.add("warm up", priority=3)
    queue.worker(Behaviour(fail={"bad": "no"}), concurrency=20)
    await idle(queue)
    await eye.read()
    queue.add_bulk(600, {"good": 2, "bad": 1}, removeOnComplete=True)
    await idle(queue)
    reading, seconds = await eye.again()
    assert value(reading.throughput_per_second) * seconds == pytest.approx(600, rel=0.05)
    attempts = value(reading.failed_attempts_per_second or reading.waiting)
    assert isinstance(attempts, float)
    assert attempts * seconds == pytest.approx(200, rel=0.2)
    assert value(reading.consumers).live == 1


class Secrets:
    """An API server with one Secret."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.asked = 0

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        self.asked += 1
        encoded = {key: base64.b64encode(v.encode()).decode() for key, v in self.values.items()}
        return {"metadata": {"name": name, "resourceVersion": "1"}, "data": encoded}


async def test_from_a_policy_to_a_reading(
    hub: RedisHub, bull: Bull, redis_server: LocalRedis, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add_bulk(3, "a")
    secrets = Secrets(url=redis_url)
    reader = SecretReader(KeyValueStore(secrets))
    databases, prometheus = DatabaseHub(), PrometheusHub()
    adapters = QueueAdapters(databases, prometheus, hub, utc_now)
    queue = Queue.model_validate({"name": "jobs", "bullmq": spec()})

    async def read() -> QueueReading:
        access = PolicyAccess(
            policy="starforge/etl",
            namespace="starforge",
            database=None,
            secrets=reader,
            databases=databases,
            deadline=Deadline(asyncio.get_running_loop().time() + 60),
            late=Unknown(Why.TIMEOUT, "no answer in time.", utc_now()),
            types=frozenset({"rare"}),
        )
        return await adapters.source(queue, access).read(rate_window=WINDOW, max_age=timedelta(0))

    reading = await read()
    assert value(reading.waiting) == Count(3)
    assert value(reading.by_type["rare"].waiting) == Count(0)
    # A wrong password is read again with the next pass, so that the fix counts at once.
    secrets.values = {"url": redis_url.replace(redis_server.password, "old")}
    reader.forget("starforge", "redis")
    assert why((await read()).waiting) is Why.WRONG_PASSWORD
    secrets.values = {"url": redis_url}
    await asyncio.sleep(0.1)
    assert value((await read()).waiting) == Count(3)
    secrets.values = {"url": "redis://h/jobs"}
    reader.forget("starforge", "redis")
    malformed = (await read()).waiting
    assert why(malformed) is Why.SECRET_MALFORMED
    assert isinstance(malformed, Unknown)
    assert "Secret redis, key url" in malformed.message
    secrets.values = {}
    reader.forget("starforge", "redis")
    assert why((await read()).waiting) is Why.SECRET_KEY_MISSING
