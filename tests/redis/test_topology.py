"""Sentinels that hang or are away, and nodes that are no longer named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from tests.patience import PATIENT, limits
from tests.redis.servers import StartRedis
from tests.redis.test_outages import sentinel_url

from local.redis import ALL_SLOTS
from local.redis import RedisServer as Server
from local.redis_failover import RedisFailover
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import NoTurn, RedisFault, lost_fault
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.node import Node, Pacing
from starforge_backlog.redis.session import CLIENT_NAME, Target
from starforge_backlog.redis.topology import Cluster, Sentinels
from starforge_backlog.redis.url import Address, parse_url
from starforge_backlog.snapshot import Why

pytestmark = pytest.mark.redis

SENTINEL = "redis+sentinel://127.0.0.1:1/0?master=main"
CLUSTER = "redis+cluster://127.0.0.1:1"


@dataclass
class Hanging:
    """Sentinels that accept and never answer."""

    ports: list[int] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        servers = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{servers}/0?master=main"

    async def hang(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.read(1000):
                pass
        finally:
            writer.close()


@asynccontextmanager
async def hanging(count: int) -> AsyncIterator[Hanging]:
    found = Hanging()
    async with AsyncExitStack() as stack:
        for _ in range(count):
            server = await asyncio.start_server(found.hang, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            found.ports.append(server.sockets[0].getsockname()[1])
        yield found


async def ask(server: RedisServer) -> object:
    try:
        return await server.pipeline([("PING",)], keys=["a"])
    except RedisFault as fault:
        return fault.why


async def test_hanging_sentinels_are_asked_one_question_for_all() -> None:
    """And the known fault is reported until the next one is due."""
    hour = timedelta(hours=1)
    hub = RedisHub(pacing=Pacing(retry_first=hour, retry_most=hour))
    async with hanging(3) as sentinels:
        server = hub.get(sentinels.url, owner="test")
        with limits(timedelta(seconds=3)):
            for _ in range(2):
                reported = await asyncio.gather(*(ask(server) for _ in range(60)))
                assert set(reported) == {Why.UNREACHABLE}
                assert sentinels.connections == 3
        await hub.close()


async def test_one_sentinel_that_answers_is_enough(hub: RedisHub, tmp_path: Path) -> None:
    """And hanging ones before it cost nothing."""
    pair = await asyncio.to_thread(RedisFailover.start, tmp_path)
    try:
        async with hanging(2) as sentinels:
            at = ",".join(f"127.0.0.1:{port}" for port in sentinels.ports)
            url = sentinel_url(pair).replace("@127.0.0.1", f"@{at},127.0.0.1")
            server = hub.get(url, owner="test")
            started = time.monotonic()
            assert await ask(server) == ["PONG"]
            assert time.monotonic() - started < PATIENT.total_seconds() / 2
            assert sentinels.connections == 2
            await hub.close()
    finally:
        await asyncio.to_thread(pair.close)


async def test_a_sentinel_with_a_password_of_its_own(hub: RedisHub, tmp_path: Path) -> None:
    pair = await asyncio.to_thread(RedisFailover.start, tmp_path)
    try:
        with pair.sentinel.client() as admin:
            admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">ours+it")
            url = sentinel_url(pair)
            for own, says in (("", "&sentinelPassword="), ("wrong", "?sentinelPassword=")):
                given = f"{url}&sentinelPassword={own}" if own else url
                with pytest.raises(RedisFault) as caught:
                    await hub.get(given, owner=own or "none").pipeline([("PING",)], keys=["a"])
                assert caught.value.why is Why.WRONG_PASSWORD
                assert caught.value.message.startswith("The Sentinel at 127.0.0.1:")
                assert says in caught.value.message
                await hub.close()
            server = hub.get(f"{url}&sentinelPassword=ours+it", owner="right")
            assert await ask(server) == ["PONG"]
    finally:
        await asyncio.to_thread(pair.close)


async def test_a_master_that_was_replaced_is_let_go(hub: RedisHub, tmp_path: Path) -> None:
    pair = await asyncio.to_thread(RedisFailover.start, tmp_path)
    try:
        server = hub.get(sentinel_url(pair), owner="test")
        assert await ask(server) == ["PONG"]
        before = pair.master
        after = await asyncio.to_thread(pair.fail_over)
        async with asyncio.timeout(120):
            while not _connected(after):
                await ask(server)
                await asyncio.sleep(0.05)
            while _connected(before):  # noqa: ASYNC110 - only the server knows
                await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(pair.close)


def _connected(server: Server) -> bool:
    with server.client() as client:
        return any(one["name"] == CLIENT_NAME for one in client.client_list())


async def test_nodes_that_left_the_cluster_are_let_go(
    hub: RedisHub, start_redis: StartRedis
) -> None:
    """A slot map of before named a node that is none of it any more."""
    local, gone = start_redis(slots=ALL_SLOTS), start_redis(name="gone")
    server = hub.get(local.url().replace("redis://", "redis+cluster://"), owner="test")
    assert await ask(server) == ["PONG"]
    (address,) = server._nodes
    stray = server._node_at(Address("127.0.0.1", gone.port))
    stray.retarget(Target(stray.target.address, parse_url(gone.url()).login))
    await stray.greeting()
    assert _connected(gone)
    server._topology.doubt(RedisFault(Why.UNREACHABLE, "moved", code="MOVED"))
    assert await ask(server) == ["PONG"]
    assert list(server._nodes) == [address]
    async with asyncio.timeout(60):
        while _connected(gone):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)
    with pytest.raises(RedisFault):
        await stray.greeting()  # found before, used after: no connection that nobody closes


async def test_our_own_queue_says_nothing_about_the_master() -> None:
    def node_at(address: Address) -> Node:
        return Node(Target(address, url.login), Pacing())

    url = parse_url(SENTINEL)
    sentinels = Sentinels(url, node_at, lambda named: None, Pacing())
    sentinels._name(Address("127.0.0.1", 2))
    sentinels.doubt(NoTurn())
    assert _knows_master(sentinels)
    sentinels.doubt(lost_fault("here"))
    assert not _knows_master(sentinels)
    cluster = Cluster(parse_url(CLUSTER), node_at, lambda named: None)
    cluster._slots = [(0, 16383, Address("127.0.0.1", 2))]
    cluster.doubt(NoTurn())
    assert cluster._slots
    cluster.doubt(lost_fault("here"))
    assert not cluster._slots


def _knows_master(sentinels: Sentinels) -> bool:
    return sentinels._master is not None
