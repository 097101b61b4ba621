"""Servers that go away, freeze, fill up and fail over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.patience import limits
from tests.redis.servers import StartRedis

from local.redis_failover import MASTER_NAME, RedisFailover
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.scripts import Script
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.redis

READ = Script("read.lua", "return redis.call('GET', KEYS[1])")
WRITE = Script("write.lua", "return redis.call('SET', KEYS[1], ARGV[1])['ok']")


async def fault(call: Awaitable[object]) -> RedisFault:
    with pytest.raises(RedisFault) as caught:
        await call
    return caught.value


async def until_works(call: Callable[[], Awaitable[object]], within: float = 60) -> object:
    async with asyncio.timeout(within):
        while True:
            try:
                return await call()
            except RedisFault:
                await asyncio.sleep(0.05)


async def test_a_restart_is_one_fault_and_then_over(hub: RedisHub, start_redis: StartRedis) -> None:
    local = start_redis()
    server = hub.get(local.url(), owner="test")
    await server.run(WRITE, ["k"], ["1"])
    local.restart()
    assert (await fault(server.run(READ, ["k"]))).why is Why.UNREACHABLE
    assert await until_works(lambda: server.run(WRITE, ["k"], ["2"])) == "OK"


async def test_while_it_is_away_everybody_gets_the_fault_at_once(
    hub: RedisHub, start_redis: StartRedis
) -> None:
    local = start_redis()
    server = hub.get(local.url(), owner="test")
    await server.run(WRITE, ["k"], ["1"])
    local.stop()
    started = time.monotonic()
    for _ in range(50):
        assert (await fault(server.run(READ, ["k"]))).why is Why.UNREACHABLE
    assert time.monotonic() - started < 25, "half a second for each"
    local.restart()
    await until_works(lambda: server.run(WRITE, ["k"], ["2"]))


async def test_an_attempt_to_connect_keeps_nobody_from_the_known_fault(
    start_redis: StartRedis,
) -> None:
    """With the pace of production, where an attempt outlasts a pass."""
    with limits(timedelta(seconds=6)):
        local, hub = start_redis(), RedisHub()
    server = hub.get(local.url(), owner="test")
    await server.run(WRITE, ["k"], ["1"])
    local.freeze()
    try:
        hung = server.run(READ, ["k"], limit=timedelta(seconds=1))
        assert "SLOWLOG GET" in (await fault(hung)).message
        for _ in range(35):
            started = time.monotonic()
            reported = await fault(server.run(READ, ["k"]))
            assert time.monotonic() - started < 5, "an attempt takes 6 s"
            assert "SLOWLOG GET" in reported.message or "check that it runs" in reported.message
            await asyncio.sleep(0.1)
    finally:
        local.thaw()
    assert await until_works(lambda: server.run(READ, ["k"])) == "1"
    await hub.close()


async def test_a_frozen_server_hangs_nobody_else(
    hub: RedisHub, start_redis: StartRedis, redis_url: str
) -> None:
    local = start_redis()
    frozen, healthy = hub.get(local.url(), owner="test"), hub.get(redis_url, owner="test")
    await frozen.run(WRITE, ["k"], ["1"])
    await healthy.run(WRITE, ["k"], ["1"])
    local.freeze()
    try:
        stuck = asyncio.create_task(frozen.run(READ, ["k"], limit=timedelta(seconds=5)))
        for _ in range(35):
            await healthy.run(READ, ["k"])
        assert not stuck.done(), "all of them came while it is waited for"
        assert (await fault(stuck)).why is Why.TIMEOUT
        assert (await fault(frozen.run(READ, ["k"]))).why in {Why.TIMEOUT, Why.UNREACHABLE}
    finally:
        local.thaw()
    assert await until_works(lambda: frozen.run(READ, ["k"])) == "1"


async def test_at_maxmemory_reads_work_and_writes_say_why(
    hub: RedisHub, start_redis: StartRedis
) -> None:
    local = start_redis()
    server = hub.get(local.url(), owner="test")
    await server.run(WRITE, ["k"], ["1"])
    with local.client() as admin:
        admin.config_set("maxmemory", 1)
    assert await server.run(READ, ["k"]) == "1"
    assert (await fault(server.run(WRITE, ["k"], ["2"]))).why is Why.OUT_OF_MEMORY


async def test_a_replica_reads_and_does_not_write(hub: RedisHub, start_redis: StartRedis) -> None:
    master = start_redis()
    replica = start_redis(replica_of=master, name="replica")
    server = hub.get(replica.url(), owner="test")
    assert (await server.greeting()).replica
    assert await server.run(READ, ["k"]) is None
    found = await fault(server.run(WRITE, ["k"], ["1"]))
    assert found.why is Why.READ_ONLY
    assert "redis+sentinel://" in found.message


async def test_an_endless_script_of_another_client_is_reported(
    hub: RedisHub, start_redis: StartRedis
) -> None:
    local = start_redis(settings={"lua-time-limit": 50})
    server = hub.get(local.url(), owner="test")
    await server.run(WRITE, ["k"], ["1"])
    endless = asyncio.create_task(asyncio.to_thread(_endless, local.url()))
    found: RedisFault | None = None
    async with asyncio.timeout(60):  # until the script has begun
        while found is None:
            try:
                await server.run(READ, ["k"])
            except RedisFault as fault:
                found = fault
            await asyncio.sleep(0.05)
    assert found.why is Why.TIMEOUT
    with local.client() as admin:
        admin.script_kill()
    await endless
    assert await until_works(lambda: server.run(READ, ["k"])) == "1"


def _endless(url: str) -> None:
    import redis  # noqa: PLC0415 - the administrator's own client, in a thread

    with redis.Redis.from_url(url) as client, pytest.raises(redis.RedisError):
        client.eval("while true do end", 0)


def sentinel_url(pair: RedisFailover, master: str = MASTER_NAME) -> str:
    password = pair.servers[0].password
    return f"redis+sentinel://:{password}@127.0.0.1:{pair.sentinel.port}/0?master={master}"


async def test_a_failover_is_followed(hub: RedisHub, tmp_path: Path) -> None:
    pair = await asyncio.to_thread(RedisFailover.start, tmp_path)
    try:
        server = hub.get(sentinel_url(pair), owner="test")
        assert await server.run(WRITE, ["k"], ["1"]) == "OK"
        wrong = await fault(hub.get(sentinel_url(pair, "other"), owner="t").run(READ, ["k"]))
        assert wrong.why is Why.HOST_UNKNOWN
        assert "SENTINEL MASTERS" in wrong.message

        await asyncio.to_thread(pair.fail_over)
        await _writes_to(pair, server, "2")
        await asyncio.to_thread(pair.kill_master)
        await _writes_to(pair, server, "3")
    finally:
        await asyncio.to_thread(pair.close)


async def _writes_to(pair: RedisFailover, server: RedisServer, value: str) -> None:
    """Until Sentinel has demoted the old master, it takes writes as well."""
    async with asyncio.timeout(120):
        while True:
            assert await until_works(lambda: server.run(WRITE, ["k"], [value])) == "OK"
            with pair.master.client() as client:
                if client.get("k") == value:
                    return
            await asyncio.sleep(0.05)


async def test_a_master_that_was_replaced_and_still_answers_is_left(
    hub: RedisHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from the other side of a network that is cut: it does not learn of its successor."""
    monkeypatch.setattr("starforge_backlog.redis.topology.ASK_SENTINEL_EVERY", timedelta(0))
    pair = await asyncio.to_thread(RedisFailover.start, tmp_path)
    try:
        server = hub.get(sentinel_url(pair), owner="test")
        await server.run(WRITE, ["k"], ["1"])
        old, successor = pair.master, pair.replica
        with pair.sentinel.client() as sentinel:
            sentinel.execute_command("SENTINEL", "REMOVE", MASTER_NAME)
            with successor.client() as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
            port = successor.replication_port
            sentinel.execute_command("SENTINEL", "MONITOR", MASTER_NAME, "127.0.0.1", port, 1)
            sentinel.execute_command("SENTINEL", "SET", MASTER_NAME, "auth-pass", old.password)
        await _writes_to(pair, server, "2")
        with old.client() as client:
            assert client.info("replication")["role"] == "master"
    finally:
        await asyncio.to_thread(pair.close)


async def test_a_connection_that_ended_between_two_calls_costs_none_of_them(
    hub: RedisHub, start_redis: StartRedis
) -> None:
    """Redis' `timeout`, or that of a proxy, where passes are further apart."""
    local = start_redis()
    server = hub.get(local.url(), owner="test")
    await server.run(WRITE, ["k"], ["1"])
    for _ in range(2):
        with local.client() as admin:
            admin.client_kill_filter(_type="normal", skipme=True)
            async with asyncio.timeout(60):
                while len(admin.client_list()) > 1:  # noqa: ASYNC110 - only the server knows
                    await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)  # the loop reads what has come
        assert await server.run(READ, ["k"]) == "1"
