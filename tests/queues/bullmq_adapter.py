"""A BullMQ queue made by the real Node.js package, and the operator's eye on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import redis as library
from tests.node.bull import Bull, Version
from tests.node.handles import BullQueue

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.clock import utc_now
from starforge_backlog.queues.bullmq.observer import BullmqQueues
from starforge_backlog.queues.bullmq.settings import ObserverSettings
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Known, QueueReading, Reading

T = TypeVar("T")

# Rates over fractions of a second, so that tests are quick.
SETTINGS = ObserverSettings(
    shortest_window=timedelta(seconds=0.2),
    clients_every=timedelta(0),
    server_every=timedelta(0),
    duty=0,
    similar_every=timedelta(0),
)
WINDOW = timedelta(seconds=1)


def spec(name: str = "etl", prefix: str = "bull") -> BullmqQueue:
    reference = {"secretKeyRef": {"name": "redis", "key": "url"}}
    return BullmqQueue.model_validate({"url": reference, "name": name, "prefix": prefix})


def value(reading: Reading[T] | None) -> T:
    assert isinstance(reading, Known), reading
    return reading.value


@dataclass
class Eye:
    """Reads one Redis; `at` is when the last reading was taken, by the server's clock."""

    hub: RedisHub
    url: str
    settings: ObserverSettings = SETTINGS
    at: datetime = field(default_factory=utc_now)
    queues: BullmqQueues = field(init=False)

    def __post_init__(self) -> None:
        server = self.hub.get(self.url, owner="eye")
        self.queues = BullmqQueues(server, settings=self.settings)

    async def read(
        self, name: str = "etl", prefix: str = "bull", *, window: timedelta = WINDOW
    ) -> QueueReading:
        reading = await self.queues.read(
            "jobs", spec(name, prefix), rate_window=window, max_age=timedelta(0)
        )
        self.at = reading.waiting.at
        return reading

    async def again(self, least: float = 0.6, **where: str) -> tuple[QueueReading, float]:
        """After at least so many seconds: the reading, and how many they were."""
        before = self.at
        await asyncio.sleep(max(0.0, least - (utc_now() - before).total_seconds()))
        # A window of about this length, so that it is the step since the last reading.
        reading = await self.read(window=utc_now() - before, **where)
        return reading, (self.at - before).total_seconds()


async def until(done: Callable[[], bool], within: float = 60) -> None:
    """Of something that blocks for moments."""
    async with asyncio.timeout(within):
        while not await asyncio.to_thread(done):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.02)


async def idle(queue: BullQueue, within: float = 60) -> None:
    """Until no job waits, runs, or is due later."""

    def empty() -> bool:
        counts = queue.counts()
        live = ("waiting", "active", "delayed", "prioritized", "waiting-children", "paused")
        return not any(counts.get(state, 0) for state in live)

    await until(empty, within)


def client(url: str) -> library.Redis:
    return library.Redis.from_url(url, decode_responses=True)


def queue_of(bull: Bull, url: str, version: Version, **options: Any) -> BullQueue:
    return bull.queue(url, "etl", version=version, **options)
