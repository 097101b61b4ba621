"""The operator's own way from a policy's queue to its reading, without the cluster around it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from starforge_backlog.api.policy import Queue
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.observe import LONGEST_WAIT
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.adapters import QueueAdapters
from starforge_backlog.queues.bullmq.observer import BullmqQueues
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.session import CLIENT_NAME
from starforge_backlog.snapshot import QueueReading, Unknown, Why

OPERATOR: Final = CLIENT_NAME
INTERVAL_SECONDS: Final = 15.0  # the default: what "per pass" means
_REFERENCE: Final = {"secretKeyRef": {"name": "redis", "key": "url"}}


@dataclass
class Hurried:
    """A clock for what is done every so many seconds, where passes come more often than every 15 s:
    it runs so much faster that a pass samples and lists clients as often as it would there."""

    speed: float = 1.0
    _at: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def __call__(self) -> float:
        now = time.monotonic()
        self._at += (now - self._since) * self.speed
        self._since = now
        return self._at

    def every(self, seconds: float) -> None:
        """From here on passes are so far apart."""
        self()
        self.speed = INTERVAL_SECONDS / seconds


@dataclass(frozen=True)
class Eye:
    """Reads as a pass does."""

    adapters: QueueAdapters
    secrets: SecretReader
    databases: DatabaseHub
    timer: Hurried

    async def read(
        self, queue: str, *, prefix: str = "bull", window: timedelta = timedelta(seconds=90)
    ) -> QueueReading:
        spec = {"url": _REFERENCE, "name": queue, "prefix": prefix}
        source = self.adapters.source(
            Queue.model_validate({"name": "jobs", "bullmq": spec}),
            PolicyAccess(
                policy="starforge/etl",
                namespace="starforge",
                database=None,
                secrets=self.secrets,
                databases=self.databases,
                deadline=Deadline(asyncio.get_running_loop().time() + LONGEST_WAIT.total_seconds()),
                late=Unknown(Why.TIMEOUT, "no answer in time.", utc_now()),
            ),
        )
        return await source.read(rate_window=window, max_age=timedelta(0))


@contextlib.asynccontextmanager
async def eye(url: str) -> AsyncIterator[Eye]:
    """Of one Redis."""
    databases, prometheus, redis = DatabaseHub(), PrometheusHub(), RedisHub()
    timer = Hurried()
    server = redis.get(url, owner="starforge/etl")
    redis.attached(server, BullmqQueues, lambda: BullmqQueues(server, timer=timer))
    try:
        yield Eye(
            QueueAdapters(databases, prometheus, redis, utc_now),
            SecretReader(KeyValueStore(_Secret(url))),
            databases,
            timer,
        )
    finally:
        await redis.close()
        await prometheus.close()
        await databases.close()


@dataclass(frozen=True)
class _Secret:
    """What the API server would answer."""

    url: str

    async def get(
        self, resource: Resource, namespace: str, name: str, *, sub: str = ""
    ) -> dict[str, Any]:
        return {"data": {"url": base64.b64encode(self.url.encode()).decode()}}
