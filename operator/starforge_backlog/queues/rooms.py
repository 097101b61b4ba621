"""From a queue in a spec to the source that reads it: the one list of kinds."""

from __future__ import annotations

from starforge_backlog.api.policy import Queue
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.url import ServerKey
from starforge_backlog.queues.postgres.observer import PostgresQueues
from starforge_backlog.queues.protocol import QueueSource


class QueueRooms:
    """What is shared between policies: one set of readers per connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # By what the connection leads to, not weakly by the connection: the readers hold it, so a
        # weak key would never go away.
        self._postgres: dict[ServerKey, tuple[Database, PostgresQueues]] = {}

    def source(self, queue: Queue, database: Database) -> QueueSource:
        """The one kind that the spec names; the schema has seen to it that there is exactly one."""
        assert queue.postgres is not None, "the CRD refuses a queue without a source"
        known = self._postgres.get(database.key)
        # The hub closes a connection that no policy asks for, and may open another later.
        if known is None or known[0] is not database:
            known = (database, PostgresQueues(database, clock=self._clock))
            self._postgres[database.key] = known
        return known[1].queue(queue.name, queue.postgres)
