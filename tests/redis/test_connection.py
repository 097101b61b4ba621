"""Calls on a real Redis: scripts, limits, logins, TLS, cluster."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.redis.servers import StartRedis

from local.certificates import Authority, ServerTls
from local.redis import ALL_SLOTS
from local.redis import RedisServer as LocalRedis
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.scripts import Script
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.redis

ECHO = Script("echo.lua", "return { KEYS[1], ARGV[1] }")
SLOW = Script("slow.lua", "local n = 0 for i = 1, 4e8 do n = n + i end return n")


async def fault_of(hub: RedisHub, url: str, **tls: str) -> RedisFault:
    with pytest.raises(RedisFault) as caught:
        await hub.get(url, owner="test", **tls).run(ECHO, ["k"], ["a"])
    return caught.value


async def test_a_script_that_redis_forgot_runs_all_the_same(
    hub: RedisHub, redis_url: str, redis_server: LocalRedis
) -> None:
    server = hub.get(redis_url, owner="test")
    for _ in range(2):
        assert await server.run(ECHO, ["k"], ["é"]) == ["k", "é"]
        with redis_server.client() as admin:
            admin.script_flush()
    many = await server.run_all(ECHO, ["k"], [[n] for n in range(3)])
    assert many == [["k", "0"], ["k", "1"], ["k", "2"]]


async def test_each_command_has_its_answer_or_its_fault(hub: RedisHub, redis_url: str) -> None:
    server = hub.get(redis_url, owner="test")
    answers = await server.pipeline(
        [("SET", "s", 1), ("LLEN", "s"), ("GET", "s"), ("GET", "none")], keys=["s"]
    )
    assert answers[0] == "OK"
    assert isinstance(answers[1], RedisFault)
    assert answers[1].code == "WRONGTYPE"
    assert answers[2:] == ["1", None]


@pytest.mark.parametrize(
    ("user", "password", "why"),
    [("", "wrong", Why.WRONG_PASSWORD), ("nobody", "x", Why.WRONG_PASSWORD)],
)
async def test_a_wrong_login(
    hub: RedisHub, redis_server: LocalRedis, user: str, password: str, why: Why
) -> None:
    fault = await fault_of(hub, redis_server.url(user=user, password=password))
    assert fault.why is why
    assert password not in fault.message.replace("next", "")


async def test_a_missing_login_and_a_spare_one(
    hub: RedisHub, redis_server: LocalRedis, start_redis: StartRedis
) -> None:
    fault = await fault_of(hub, f"redis://127.0.0.1:{redis_server.port}")
    assert (fault.why, fault.code) == (Why.WRONG_PASSWORD, "NOAUTH")
    open_to_all = start_redis(password="")
    server = hub.get(f"redis://:spare@127.0.0.1:{open_to_all.port}", owner="test")
    assert await server.run(ECHO, ["k"], ["a"]) == ["k", "a"], "Node's driver goes on as well"


async def test_what_an_acl_forbids_is_named(hub: RedisHub, redis_server: LocalRedis) -> None:
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~bull:*", "+@read")
    fault = await fault_of(hub, redis_server.url(user="reader", password="x"))
    assert fault.why is Why.NO_PERMISSION
    assert "ACL SETUSER reader +eval +evalsha" in fault.message


async def test_addresses_that_lead_nowhere(hub: RedisHub, redis_server: LocalRedis) -> None:
    assert (await fault_of(hub, "redis://no-such-host.invalid")).why is Why.HOST_UNKNOWN
    assert (await fault_of(hub, "redis://127.0.0.1:1")).why is Why.UNREACHABLE
    assert (await fault_of(hub, redis_server.url(9999))).why is Why.DATABASE_NOT_FOUND


async def test_something_else_answers(hub: RedisHub) -> None:
    async def http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fault = await fault_of(hub, f"redis://127.0.0.1:{port}")
    assert fault.why is Why.ERROR
    assert "does not speak Redis' protocol" in fault.message
    server.close()


async def test_a_slow_command_of_ours_ends_at_its_limit_and_the_next_call_works(
    hub: RedisHub, start_redis: StartRedis
) -> None:
    local = start_redis()
    server = hub.get(local.url(), owner="test")
    await server.run(ECHO, ["k"], ["a"])
    started = time.monotonic()
    await server.run(SLOW, ["k"])
    whole = time.monotonic() - started
    started = time.monotonic()
    with pytest.raises(RedisFault) as caught:
        await server.run(SLOW, ["k"], limit=timedelta(seconds=0.2))
    assert caught.value.why is Why.TIMEOUT
    assert time.monotonic() - started < whole
    async with asyncio.timeout(120):
        while True:
            try:
                answer = await server.run(ECHO, ["k"], ["b"])
            except RedisFault:
                await asyncio.sleep(0.1)
            else:
                break
    assert answer == ["k", "b"], "never the late answer of another call"


async def test_a_caller_who_gives_up_costs_nobody_the_connection(
    hub: RedisHub, redis_url: str
) -> None:
    server = hub.get(redis_url, owner="test")
    calls = [asyncio.create_task(server.run(ECHO, ["k"], [n])) for n in range(50)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for number, answer in enumerate(answers):
        if number % 2:
            assert answer == ["k", str(number)]


async def test_tls(hub: RedisHub, start_redis: StartRedis, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    local = start_redis(tls=authority.server_tls("redis", "127.0.0.1"))
    ca = authority.certificate_file.read_text()
    server = hub.get(local.url(), owner="test", ca=ca)
    assert await server.run(ECHO, ["k"], ["a"]) == ["k", "a"]

    untrusted = await fault_of(hub, local.url())
    assert (untrusted.why, "tls.ca" in untrusted.message) == (Why.TLS_FAILED, True)
    named = await fault_of(hub, local.url(), ca=ca, server_name="redis.example")
    assert (named.why, "tls.serverName" in named.message) == (Why.TLS_FAILED, True)
    plain = await fault_of(hub, local.url().replace("rediss://", "redis://"))
    assert plain.why is Why.UNREACHABLE
    junk = await fault_of(hub, local.url(), ca="no certificate")
    assert (junk.why, "tls.ca" in junk.message) == (Why.SECRET_MALFORMED, True)


async def test_a_certificate_that_has_expired(
    hub: RedisHub, start_redis: StartRedis, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    expired = authority.issue("redis", hosts=("127.0.0.1",), lifetime=timedelta(seconds=-1))
    local = start_redis(tls=ServerTls(expired, authority.certificate_file))
    fault = await fault_of(hub, local.url(), ca=authority.certificate_file.read_text())
    assert fault.why is Why.TLS_FAILED
    assert "has expired" in fault.message


async def test_a_cluster_by_either_url(hub: RedisHub, start_redis: StartRedis) -> None:
    local = start_redis(slots=ALL_SLOTS)
    for url in (local.url(), local.url().replace("redis://", "redis+cluster://")):
        server = hub.get(url, owner=url)
        assert (await server.run(ECHO, ["{x}a", "{x}b"], ["1"]))[1] == "1"
        with pytest.raises(RedisFault) as caught:
            await server.run(ECHO, ["bull:etl:id", "bull:etl:wait"], ["1"])
        assert caught.value.why is Why.HASH_TAG_MISSING
        assert "{bull}" in caught.value.message
    with local.client() as admin:
        seen = admin.info("commandstats")
    assert seen["cmdstat_evalsha"]["calls"] == 2, "nothing was asked without a hash tag"
