"""A BullMQ queue on a Redis as a `QueueSource`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.clock import Clock
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.queues.bullmq.observer import BullmqQueues
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import QueueReading, Unknown, unread


@dataclass(frozen=True, slots=True)
class OnRedis:
    """One queue of one policy; readers and samples are shared by all policies of the server."""

    name: str
    spec: BullmqQueue
    access: PolicyAccess
    redis: RedisHub
    clock: Clock

    async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
        """See `QueueSource.read`."""
        spec = self.spec
        server = await self.access.redis(self.redis, spec.url, spec.tls)
        if isinstance(server, Unknown):
            return unread(server)
        queues = self.redis.attached(
            server, BullmqQueues, lambda: BullmqQueues(server, clock=self.clock)
        )
        reading = await queues.read(
            self.name, spec, self.access.types, rate_window=rate_window, max_age=max_age
        )
        self.access.invalidate(spec.url, reading.waiting)
        return reading
