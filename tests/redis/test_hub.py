"""Who shares a connection with whom, and when it is closed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from local.redis import RedisServer as LocalRedis
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.node import Pacing
from starforge_backlog.redis.session import CLIENT_NAME
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.redis


def ours(server: LocalRedis) -> int:
    """Connections of the operator on the whole server."""
    with server.client() as client:
        return sum(1 for one in client.client_list() if one["name"] == CLIENT_NAME)


async def ping(server: RedisServer) -> object:
    (answer,) = await server.pipeline([("PING",)], keys=())
    return answer


async def settles(server: LocalRedis, connections: int) -> None:
    """Redis notices a closed connection a moment later."""
    async with asyncio.timeout(60):
        while ours(server) != connections:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)


async def test_a_hundred_policies_one_connection(
    hub: RedisHub, redis_url: str, redis_server: LocalRedis
) -> None:
    spellings = (redis_url, redis_url + "\n", redis_url.replace("redis://:", "redis://default:"))
    assert len({hub.get(spellings[n % 2], owner=f"ns/{n}") for n in range(100)}) == 1
    before = ours(redis_server)
    server = hub.get(redis_url, owner="ns/0")
    answers = await asyncio.gather(*(ping(server) for _ in range(100)))
    assert answers == ["PONG"] * 100
    await settles(redis_server, before + 1)
    for n in range(100):
        hub.release(f"ns/{n}")
    await settles(redis_server, before)
    # A login as the default user is the same one, spelt out.
    assert await ping(hub.get(spellings[2], owner="ns/0")) == "PONG"


async def test_another_password_is_another_connection_until_it_is_the_only_one(
    hub: RedisHub,
) -> None:
    mine = hub.get("redis://u:one@127.0.0.1:1", owner="mine")
    theirs = hub.get("redis://u:two@127.0.0.1:1", owner="theirs")
    assert mine is not theirs
    assert hub.get("redis://u:two@127.0.0.1:1", owner="mine") is theirs
    assert hub.get("redis://u:three@127.0.0.1:1", owner="mine") is not theirs


async def test_a_password_rotates_in_place(hub: RedisHub, redis_server: LocalRedis) -> None:
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "rotating", "on", ">one", "~*", "+@all")
        old = redis_server.url(user="rotating", password="one")
        new = redis_server.url(user="rotating", password="two")
        server = hub.get(old, owner="ns/etl")
        assert await ping(server) == "PONG"
        admin.execute_command("ACL", "SETUSER", "rotating", "<one", ">two")
        assert await ping(server) == "PONG", "an open connection stays logged in"
        admin.execute_command("CLIENT", "KILL", "USER", "rotating")
        await asyncio.sleep(0.1)
        with pytest.raises(RedisFault) as caught:
            await ping(server)
        assert caught.value.why is Why.WRONG_PASSWORD, "the loss itself costs nothing"
        assert hub.get(new, owner="ns/etl") is server
        assert await ping(server) == "PONG", "a changed URL is tried at once"
        admin.execute_command("ACL", "DELUSER", "rotating")


async def test_what_nobody_asks_for_is_closed(
    quick: Pacing, redis_url: str, redis_server: LocalRedis
) -> None:
    hub = RedisHub(pacing=quick, idle_after=timedelta(seconds=0.05))
    before = ours(redis_server)
    await ping(hub.get(redis_url, owner="gone"))
    await settles(redis_server, before + 1)
    await asyncio.sleep(0.1)
    hub.get("redis://127.0.0.1:1", owner="other")
    await settles(redis_server, before)
    await hub.close()


async def test_what_is_kept_beside_a_connection_goes_with_it(hub: RedisHub) -> None:
    server = hub.get("redis://127.0.0.1:1", owner="a")
    kept = hub.attached(server, list, list)
    assert hub.attached(server, list, list) is kept
    hub.release("a")
    assert hub.attached(hub.get("redis://127.0.0.1:1", owner="a"), list, list) is not kept
