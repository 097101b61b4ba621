"""A job table of the policy's database as a `QueueSource`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.policy_access import PolicyAccess
from starforge_backlog.queues.postgres.observer import PostgresQueues
from starforge_backlog.snapshot import QueueReading, Unknown, unread


@dataclass(frozen=True, slots=True)
class InTable:
    """One queue of one policy; readers and samples are shared by all policies of the database."""

    name: str
    spec: PostgresQueue
    access: PolicyAccess
    databases: DatabaseHub
    clock: Clock

    async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
        """See `QueueSource.read`."""
        opened = await self.access.database()
        if isinstance(opened, Unknown):
            return unread(opened)
        _, database = opened
        return await self.tables(database).read(
            self.name, self.spec, self.access.types, rate_window=rate_window, max_age=max_age
        )

    def tables(self, database: Database) -> PostgresQueues:
        """The readers of that connection, shared by all queues that use it."""
        return self.databases.attached(
            database, PostgresQueues, lambda: PostgresQueues(database, clock=self.clock)
        )
