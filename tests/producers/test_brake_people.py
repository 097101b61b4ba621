"""People and failovers beside a brake that passes set and lift: what a person decided stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.node.bull import Bull, Version
from tests.node.handles import BullQueue

from local.redis import RedisServer as RealRedis
from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseState,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.clock import utc_now
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses.pausing import Pausing, decide_producers
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.decide.results import Failed, Paused, Result, Resumed
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Unknown

pytestmark = [pytest.mark.redis, pytest.mark.node]

URL = {"secretKeyRef": {"name": "redis", "key": "url"}}
SPEC = QueueBacklogPolicySpec.model_validate(
    {
        "target": {"name": "w"},
        "queues": [{"name": "jobs", "postgres": {}}],
        "producers": [{"name": "bg", "queue": {"url": URL, "name": "etl-backfill"}}],
        "breakers": [{"name": "b", "trip": [{"waiting": 5}], "pause": ["bg"]}],
    }
)
META = "bull:etl-backfill:meta"
MARK = "starforge-backlog"


class Passes:
    """Reads, decides and carries out, with the status of the pass before."""

    def __init__(self, url: str) -> None:
        self.hub = RedisHub()
        self._producer = BrakeProducer(
            self.hub.get(url, owner="ns/etl"),
            BullmqQueue(url=SecretValue.model_validate(URL), name="etl-backfill"),
            utc_now,
        )
        self._status = QueueBacklogPolicyStatus()

    async def run(self, *, storm: bool) -> PauseState | None:
        """The state of the one entry after it."""
        await asyncio.sleep(0.002)  # so that a reading is younger than the write before
        reading = await self._producer.read()
        state = BreakerState.OPEN if storm else BreakerState.CLOSED
        decided = decide_producers(
            SPEC,
            (BreakerStatus(name="b", state=state, message="5200 waiting"),),
            self._status.paused,
            {"bg": reading},
            Pausing("uid-1", None, self._status.released_at, utc_now()),
        )
        self._status = self._status.model_copy(update={"paused": decided.entries})
        for action in decided.actions:
            got = await self._do(action)
            said = Failed(got.why, got.message) if isinstance(got, Unknown) else got
            self._status = merge(self._status, (Result(action, said),), utc_now())
        return self._status.paused[0].state if self._status.paused else None

    async def _do(self, action: Pause | Resume) -> Paused | Resumed | Unknown:
        if isinstance(action, Pause):
            return await self._producer.pause(owner="ns/etl", token=action.token, at=utc_now())
        held = action.held
        return await self._producer.resume(
            token=held.token, version=held.version, previous=held.previous
        )


@pytest.fixture(params=[5, 6])
def version(request: pytest.FixtureRequest) -> Version:
    found: Version = request.param
    return found


@pytest.fixture
def queue(bull: Bull, redis_url: str, version: Version) -> BullQueue:
    made = bull.queue(redis_url, "etl-backfill", version=version)
    made.add_bulk(20)
    made.set_concurrency(7)
    return made


@pytest.fixture
async def passes(redis_url: str) -> AsyncIterator[Passes]:
    made = Passes(redis_url)
    yield made
    await made.hub.close()


def concurrency(url: str) -> Any:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.hget(META, "concurrency")


async def test_a_pause_a_week_after_the_incident_is_a_persons(
    queue: BullQueue, passes: Passes, redis_url: str
) -> None:
    assert await passes.run(storm=True) is PauseState.HELD
    queue.set_concurrency(10)
    assert await passes.run(storm=True) is PauseState.OVERRIDDEN
    assert await passes.run(storm=False) is None
    assert await passes.run(storm=False) is None
    queue.set_concurrency(0)  # for a maintenance of theirs; our mark still lies there
    worker = queue.worker()
    for storm in (False, False, True, True, False, False):
        assert await passes.run(storm=storm) is PauseState.FOREIGN
        assert concurrency(redis_url) == "0"
    await asyncio.sleep(0.3)
    assert worker.ran() == []


async def test_a_pause_in_the_middle_of_the_incident_is_a_persons(
    queue: BullQueue, passes: Passes, redis_url: str
) -> None:
    assert await passes.run(storm=True) is PauseState.HELD
    queue.set_concurrency(10)
    assert await passes.run(storm=True) is PauseState.OVERRIDDEN
    queue.set_concurrency(0)
    for storm in (True, True, False, False):
        assert await passes.run(storm=storm) is PauseState.FOREIGN
        assert concurrency(redis_url) == "0"
    queue.set_concurrency(7)
    assert await passes.run(storm=False) is None


async def test_a_zero_over_our_own_is_a_persons(
    queue: BullQueue, passes: Passes, redis_url: str
) -> None:
    assert await passes.run(storm=True) is PauseState.HELD
    queue.set_concurrency(0)
    for storm in (True, False, False):
        await passes.run(storm=storm)
        assert concurrency(redis_url) == "0"


async def test_after_an_override_the_next_storm_is_braked_again(
    queue: BullQueue, passes: Passes, redis_url: str
) -> None:
    """The mark that the person left is written over."""
    await passes.run(storm=True)
    queue.set_concurrency(10)
    assert await passes.run(storm=True) is PauseState.OVERRIDDEN
    assert await passes.run(storm=False) is None
    assert await passes.run(storm=True) is PauseState.HELD
    assert await passes.run(storm=True) is PauseState.HELD
    assert await passes.run(storm=False) is None
    assert concurrency(redis_url) == "10"
    with redis.Redis.from_url(redis_url) as client:
        assert not client.hexists(META, MARK)


async def test_a_brake_that_redis_lost_is_set_again(
    bull: Bull, version: Version, tmp_path: Path
) -> None:
    """As after a failover to a replica that had not got it yet: brake and mark are gone, the queue
    is there. A person who lifts a brake leaves the mark."""
    server = RealRedis.start(tmp_path, name="mortal")
    passes = Passes(server.url())
    try:
        before = bull.queue(server.url(), "etl-backfill", version=version)
        before.set_concurrency(7)
        before.add_bulk(20)
        with server.client() as admin:
            admin.save()
        assert await passes.run(storm=True) is PauseState.HELD
        assert concurrency(server.url()) == "00"
        server.kill()
        await asyncio.to_thread(server.restart)
        assert concurrency(server.url()) == "7", "as it was saved"
        async with asyncio.timeout(120):
            while concurrency(server.url()) != "00":
                assert await passes.run(storm=True) in {PauseState.HELD, PauseState.INTENDED}
                await asyncio.sleep(0.1)
        assert await passes.run(storm=True) is PauseState.HELD
        after = bull.queue(server.url(), "etl-backfill", version=version)
        worker = after.worker()
        await asyncio.sleep(0.3)
        assert worker.ran() == []
        assert await passes.run(storm=False) is None
        assert concurrency(server.url()) == "7"
    finally:
        await passes.hub.close()
        server.close()
