"""From a queue in a spec to the source that reads it: the one list of kinds."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.api.policy import Queue
from starforge_backlog.clock import Clock
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.bullmq.source import OnRedis
from starforge_backlog.queues.postgres.source import InTable
from starforge_backlog.queues.prometheus.source import InSeries
from starforge_backlog.queues.protocol import QueueSource
from starforge_backlog.queues.signals import WithSignals
from starforge_backlog.redis.hub import RedisHub


@dataclass(frozen=True, slots=True)
class QueueAdapters:
    """What is shared between policies: one set of readers per server, gone with it."""

    databases: DatabaseHub
    prometheus: PrometheusHub
    redis: RedisHub
    clock: Clock

    def source(self, queue: Queue, access: PolicyAccess) -> QueueSource:
        """The queue, with those of its signals that come from Prometheus."""
        own = self._own(queue, access)
        if queue.signals is None:
            return own
        return WithSignals(queue.name, own, queue.signals, access, self.prometheus)

    def _own(self, queue: Queue, access: PolicyAccess) -> QueueSource:
        """The one kind that the spec names; the schema has seen to it that there is exactly one."""
        if queue.prometheus is not None:
            return InSeries(queue.name, queue.prometheus, access, self.prometheus, self.clock)
        if queue.bullmq is not None:
            return OnRedis(queue.name, queue.bullmq, access, self.redis, self.clock)
        assert queue.postgres is not None, "the CRD refuses a queue without a source"
        return InTable(queue.name, queue.postgres, access, self.databases, self.clock)
