"""From a queue in a spec to the source that reads it: the one list of kinds."""

from __future__ import annotations

from starforge_backlog.access import Access
from starforge_backlog.api.policy import Queue
from starforge_backlog.clock import Clock
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.queues.postgres.source import InTable
from starforge_backlog.queues.protocol import QueueSource


class QueueRooms:
    """What is shared between policies: one set of readers per server, gone with it."""

    def __init__(self, databases: DatabaseHub, clock: Clock) -> None:
        self._databases = databases
        self._clock = clock

    def source(self, queue: Queue, access: Access) -> QueueSource:
        """The one kind that the spec names; the schema has seen to it that there is exactly one."""
        assert queue.postgres is not None, "the CRD refuses a queue without a source"
        return InTable(queue.name, queue.postgres, access, self._databases, self._clock)
