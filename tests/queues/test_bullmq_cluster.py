"""A queue on a Redis Cluster of several nodes: slots that move, and a node that dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.node.bull import Bull, Connection
from tests.node.handles import BullQueue
from tests.queues.bullmq_adapter import Eye, spec, until, value

from local.redis import RedisServer
from local.redis_cluster import RedisCluster
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.session import CLIENT_NAME
from starforge_backlog.snapshot import Count, Known, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]

META = "{bull}:etl:meta"
JOBS = 40
AT = datetime(2026, 1, 1, 3, tzinfo=UTC)


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    made = RedisCluster.start(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def filled(bull: Bull, nodes: RedisCluster) -> BullQueue:
    seed = nodes.masters[1].url()
    queue = bull.queue(seed, "etl", prefix="{bull}", connection=Connection(cluster=True))
    queue.add_bulk(JOBS, "a")
    return queue


def connections(node: RedisServer) -> int:
    with node.client() as client:
        return sum(one["name"] == CLIENT_NAME for one in client.client_list())


async def test_a_slot_that_moves(bull: Bull, hub: RedisHub, nodes: RedisCluster) -> None:
    """Unknown while its keys are between two nodes, known with the first read after that, also when
    nothing was read meanwhile; the brake that was set before is released where the queue is now."""
    await asyncio.to_thread(filled, bull, nodes)
    source = nodes.owner(META)
    target = next(node for node in nodes.masters if node is not source)
    eye = Eye(hub, nodes.url(target))
    brake = BrakeProducer(hub.get(eye.url, owner="brake"), spec(prefix="{bull}"), utc_now)
    assert value((await eye.read(prefix="{bull}")).waiting) == Count(JOBS)
    held = await brake.pause(owner="ns/etl", token="t", at=AT)
    assert isinstance(held, Paused)
    assert held.outcome is PauseOutcome.PAUSED

    with nodes.moving(META, target):
        between = (await eye.read(prefix="{bull}")).waiting
        assert isinstance(between, Unknown), "no queue that vanished, and no empty one"
        assert between.why is Why.UNREACHABLE
        assert "is moving the slot" in between.message
        left: Resumed | Unknown = await brake.resume(
            token="t", version=held.version, previous=held.previous
        )
        assert isinstance(left, Unknown)
    assert nodes.owner(META) is target
    assert value((await eye.read(prefix="{bull}")).waiting) == Count(JOBS)
    left = await brake.resume(token="t", version=held.version, previous=held.previous)
    assert isinstance(left, Resumed)
    assert left.outcome is ResumeOutcome.RESUMED

    with nodes.moving(META, source):
        pass
    assert value((await eye.read(prefix="{bull}")).waiting) == Count(JOBS)
    assert "errorstat_MOVED" in target.info("errorstats"), "it was asked, and gave the way"
    assert max(connections(node) for node in nodes.nodes) <= 1, "one for all, on each node"


async def test_a_node_that_dies(bull: Bull, hub: RedisHub, nodes: RedisCluster) -> None:
    """Its replica takes its place, and is found although the URL names the dead one alone."""
    await asyncio.to_thread(filled, bull, nodes)
    first = nodes.masters[0]
    if nodes.owner(META) is not first:
        with nodes.moving(META, first):
            pass
    await until(lambda: _copied(nodes))
    eye = Eye(hub, nodes.url(first))
    assert value((await eye.read(prefix="{bull}")).waiting) == Count(JOBS)
    heir = await asyncio.to_thread(nodes.kill_first)
    async with asyncio.timeout(60):
        while not isinstance(reading := (await eye.read(prefix="{bull}")).waiting, Known):
            assert reading.why in {Why.UNREACHABLE, Why.TIMEOUT}, reading
            await asyncio.sleep(0.05)
    assert reading.value == Count(JOBS)
    assert nodes.owner(META) is heir


def _copied(nodes: RedisCluster) -> bool:
    with nodes.replica.client() as replica, nodes.masters[0].client() as master:
        return bool(replica.dbsize() == master.dbsize() > JOBS)
