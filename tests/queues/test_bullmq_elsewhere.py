"""Jobs in places that are not counted, or that are gone: never "0, counts exact"."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis as library
from tests.node.bull import Bull
from tests.node.handles import Behaviour
from tests.queues.bullmq_adapter import SETTINGS, Eye, client, queue_of, until, value
from tests.redis.servers import StartRedis

from local.redis import RedisServer as LocalRedis
from starforge_backlog.decide.assess.need import load
from starforge_backlog.decide.steps.sleep import due, quiet
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Confidence, Count, QueueReading, Reading, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]


def unknown(reading: Reading[Any] | None) -> Unknown:
    assert isinstance(reading, Unknown), reading
    return reading


# --- groups of BullMQ Pro, by the keys that it is known to keep ----------------------------------


def to_groups(admin: library.Redis, groups: dict[str, int], *, state: str = "groups") -> None:
    """Waiting jobs go from the queue's own list to those of groups, as Pro's adds put them."""
    for group, jobs in groups.items():
        for _ in range(jobs):
            admin.lmove("bull:etl:wait", f"bull:etl:groups:{group}", "RIGHT", "LEFT")
        admin.zadd(f"bull:etl:{state}", {group: 1})


async def test_jobs_in_groups_are_counted_as_at_least_so_many(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add_bulk(300, {"a": 1})
    with client(redis_url) as admin:
        to_groups(admin, {"one": 100, "two": 50})
        to_groups(admin, {"three": 60}, state="groups:limit")
        to_groups(admin, {"four": 40}, state="groups:max")
        to_groups(admin, {"five": 50}, state="groups:paused")
    reading = await eye.read()
    assert value(reading.waiting) == Count(300, Confidence.AT_LEAST)
    assert unknown(reading.oldest_due_age).why is Why.PARTIAL
    assert "exact" not in reading.how
    assert any("5 groups (BullMQ Pro)" in note for note in reading.notes)
    assert due([reading]) == 300
    assert quiet([reading]) is False, "workers are not put to sleep"


async def test_groups_whose_lists_we_do_not_know_are_not_empty(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.call("waitUntilReady")
    with client(redis_url) as admin:
        admin.zadd("bull:etl:groups", {"one": 1})
    reading = await eye.read()
    assert "BullMQ Pro" in unknown(reading.waiting).message
    assert "spec.queues[].signals" in unknown(reading.waiting).message
    assert quiet([reading]) is None, "workers are not put to sleep"


async def test_more_groups_than_are_read_leave_rates_unknown(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add_bulk(250, {"a": 1})
    with client(redis_url) as admin:
        to_groups(admin, {f"group-{number}": 1 for number in range(250)})
    await eye.read()
    reading, _ = await eye.again()
    assert value(reading.waiting) == Count(eye.settings.groups, Confidence.AT_LEAST)
    assert unknown(reading.throughput_per_second).why is Why.PARTIAL
    assert value(reading.arrivals_per_second) == 0


async def test_a_job_whose_id_is_groups_is_a_job(eye: Eye, bull: Bull, redis_url: str) -> None:
    queue_of(bull, redis_url, 5).add("a", jobId="groups")
    reading = await eye.read()
    assert value(reading.waiting) == Count(1)
    assert value(reading.oldest_due_age) >= timedelta(0)


# --- keys that Redis evicts ----------------------------------------------------------------------


def evicting(start_redis: StartRedis, policy: str) -> LocalRedis:
    return start_redis(settings={"maxmemory": "8mb", "maxmemory-policy": policy})


def until_evicted(admin: library.Redis) -> None:
    number = 0
    while not admin.info("stats")["evicted_keys"]:
        admin.set(f"cache:{number}", "x" * 100_000, ex=600)
        number += 1


async def test_lists_that_may_have_been_evicted_are_not_empty(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    server = evicting(start_redis, "allkeys-lru")
    eye = Eye(hub, server.url())
    queue_of(bull, server.url(), 5).add_bulk(3, {"a": 1})
    reading = await eye.read()
    assert value(reading.waiting) == Count(3)
    (note,) = reading.notes
    assert "maxmemory-policy is allkeys-lru: it may evict jobs" in note
    assert "noeviction" in note
    with server.client() as admin:
        until_evicted(admin)
        admin.delete("bull:etl:wait", "bull:etl:meta")
        reading = await eye.read()
        assert unknown(reading.waiting).why is Why.KEYS_EVICTED
        assert "noeviction" in unknown(reading.waiting).message
        again = Eye(hub, server.url())
        assert unknown((await again.read()).waiting).why is Why.KEYS_EVICTED, "after a restart too"
        admin.config_set("maxmemory-policy", "noeviction")
        admin.hset("bull:etl:meta", "opts.maxLenEvents", 10_000)
    assert value((await eye.read()).waiting) == Count(0)


async def test_keys_with_a_time_to_live_may_go_without_a_job(
    hub: RedisHub, bull: Bull, start_redis: StartRedis
) -> None:
    server = evicting(start_redis, "volatile-lru")
    eye = Eye(hub, server.url())
    queue_of(bull, server.url(), 5).add("a")
    with server.client() as admin:
        until_evicted(admin)
    reading = await eye.read()
    assert value(reading.waiting) == Count(1)
    (note,) = reading.notes
    assert "it may evict locks of jobs" in note


async def test_a_meta_that_is_gone_took_other_keys_with_it(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(3, {"a": 1})
    assert value((await eye.read()).waiting) == Count(3)
    with client(redis_url) as admin:
        admin.delete("bull:etl:wait", "bull:etl:meta")
        reading = await eye.read()
        assert unknown(reading.waiting).why is Why.KEYS_EVICTED
        assert "Key bull:etl:meta does not exist" in unknown(reading.waiting).message
        admin.hset("bull:etl:meta", "opts.maxLenEvents", 10_000)
    assert value((await eye.read()).waiting) == Count(0)


async def test_a_server_that_does_not_report_its_policy(
    hub: RedisHub, bull: Bull, redis_server: LocalRedis, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add("a")
    database = int(redis_url.rpartition("/")[2])
    rules = ("~bull:*", "+@read", "+eval", "+evalsha", "+time", "+select", "+client|list")
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "noinfo", "reset", "on", ">x", *rules)
        reading = await Eye(hub, redis_server.url(database, user="noinfo", password="x")).read()
        admin.execute_command("ACL", "DELUSER", "noinfo")
    assert value(reading.waiting) == Count(1)
    (note,) = reading.notes
    assert "ACL SETUSER noinfo +info" in note


# --- limits of the queue itself ------------------------------------------------------------------


def limited_by(reading: QueueReading) -> str:
    return value(reading.consumers).limited_by


async def test_a_rate_limit_of_the_queue_is_named_while_it_binds(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(100, {"a": 1})
    with client(redis_url) as admin:
        admin.hset("bull:etl:meta", mapping={"max": 2, "duration": 200})
        worker = queue.worker(Behaviour(), concurrency=5)
        await until(lambda: int(admin.llen("bull:etl:wait")) < 98)
    reading = await eye.read()
    async with asyncio.timeout(120):  # on a busy machine the worker does not always reach it
        while not limited_by(reading):
            reading, _ = await eye.again(1.2)
    worker.stop(force=True)
    assert limited_by(reading) == "its global rate limit of 2 jobs per 0.2 s"
    assert any("global rate limit is 2 jobs per 0.2 s" in note for note in reading.notes)
    await eye.read()  # what it did until it was stopped
    idle, _ = await eye.again()
    assert limited_by(idle) == "", "nobody works, so the limit is not what holds them"


async def test_a_global_concurrency_is_named_while_it_binds(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add_bulk(10, {"a": 1})
    await bull.ask("setConcurrency", queue=queue.handle, limit=2)
    worker = queue.worker(Behaviour(hang=["a"]), concurrency=5)
    with client(redis_url) as admin:
        await until(lambda: int(admin.llen("bull:etl:active")) == 2)
    reading = await eye.read()
    worker.stop(force=True)
    assert limited_by(reading) == "its global concurrency of 2"
    assert value(reading.consumers).held == 2


# --- workers that do not work ---------------------------------------------------------------------


async def test_workers_that_hang_are_connected_and_hold_nothing(
    hub: RedisHub, bull: Bull, start_redis: StartRedis, tmp_path: Path
) -> None:
    server = start_redis()
    queue_of(bull, server.url(), 5).add_bulk(5, {"a": 1})
    eye = Eye(hub, server.url())
    with Bull.start(tmp_path) as frozen, server.client() as admin:
        queue_of(frozen, server.url(), 5).worker(
            Behaviour(hang=["a"]), concurrency=2, lockDuration=8000, stalledInterval=60_000
        )
        await until(lambda: int(admin.llen("bull:etl:active")) == 2)
        working = value((await eye.read()).consumers)
        assert (working.held, working.orphaned) == (2, 0)
        frozen.freeze()
        await until(lambda: not admin.keys("bull:etl:*:lock"))
        reading = await eye.read()
        consumers = value(reading.consumers)
        assert (consumers.held, consumers.orphaned) == (0, 2)
        assert consumers.live
        assert "none of them holds a job (2 jobs lost their worker's lock)" in (
            load([("etl", reading)]).idle
        )
        frozen.kill()


async def test_thousands_of_connections_are_not_listed(
    hub: RedisHub, bull: Bull, redis_server: LocalRedis, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add("a")
    eye = Eye(hub, redis_url, replace(SETTINGS, clients_most=1))
    with redis_server.client() as admin:
        admin.config_resetstat()
        reading = await eye.read()
        assert "cmdstat_client|list" not in admin.info("commandstats")
    assert value(reading.consumers).live is None
    assert any("too many to list (more than 1)" in note for note in reading.notes)


async def test_the_sign_for_idle_workers_is_no_job_in_progress(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    """BullMQ 4 moves it to `active` for a moment, and leaves it there where a worker dies then."""
    queue_of(bull, redis_url, 4).add("a")
    with client(redis_url) as admin:
        admin.lpush("bull:etl:active", "0:0")
    reading = await eye.read()
    assert value(reading.in_progress) == Count(0)
    assert value(reading.consumers).orphaned == 0


# --- times and priorities ------------------------------------------------------------------------


@pytest.mark.parametrize("off", ["seconds", "future"])
async def test_a_job_of_a_time_that_cannot_be_makes_the_age_unknown(
    eye: Eye, bull: Bull, redis_url: str, off: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add("a")
    with client(redis_url) as admin:
        now = int(admin.time()[0])
    job = queue.add("b", timestamp=now if off == "seconds" else (now + 86_400) * 1000)
    reading = await eye.read()
    age = unknown(reading.oldest_due_age)
    assert age.why is Why.BAD_SHAPE
    assert f"Job {job} (wait)" in age.message
    assert "milliseconds" in age.message
    assert value(reading.waiting) == Count(2)
    assert unknown(reading.by_type["b"].oldest_due_age).why is Why.BAD_SHAPE
    assert value(reading.by_type["a"].oldest_due_age) < timedelta(minutes=1)


async def test_the_oldest_of_120_priorities_may_be_in_the_last(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    with client(redis_url) as admin:
        now = int(admin.time()[0]) * 1000
    for priority in range(1, 121):
        queue.add("a", priority=priority, timestamp=now - (60_000 if priority == 120 else 0))
    reading = await eye.read()
    assert value(reading.oldest_due_age) >= timedelta(seconds=60)
    for priority in range(121, 141):
        queue.add("a", priority=priority, timestamp=now)
    reading = await eye.read()
    age = unknown(reading.oldest_due_age)
    assert "at least" in age.message
