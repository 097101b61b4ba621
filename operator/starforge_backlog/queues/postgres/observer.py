"""All job tables of one database, and what each queue of each policy sees of them."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.connections.kept import Kept
from starforge_backlog.queues.postgres.fetches import Fetches
from starforge_backlog.queues.postgres.reading import queue_reading, type_reading
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.table import TableObserver, Timer
from starforge_backlog.snapshot import QueueReading

# Types of one queue that are reported one by one: as many as it can name, or its policy's breakers.
MOST_REPORTED = 32


class PostgresQueues:
    """Reads queues of one database. Keep one per `Database`: it holds what is shared.

    Queues that differ only in `types` share all statements (P7: a hundred policies on one table
    cost one set of queries per interval).
    """

    def __init__(
        self,
        database: Fetches,
        *,
        clock: Clock = utc_now,
        timer: Timer = time.monotonic,
        settings: ObserverSettings | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._timer = timer
        self._settings = settings or ObserverSettings()
        self._tables = Kept(timer)

    async def read(
        self,
        name: str,
        spec: PostgresQueue,
        types: frozenset[str] = frozenset(),
        *,
        rate_window: timedelta,
        max_age: timedelta,
    ) -> QueueReading:
        """See `QueueSource.read`. `name` is the queue's name in the policy, for messages.

        `types` are reported one by one, as are those of the spec.
        """
        table = self._table(spec)
        seen = await table.observe(max_age)
        window = min(
            max(rate_window, self._settings.shortest_window), self._settings.longest_window
        )
        reading = queue_reading(name, spec.types, table, seen, window, self._settings)
        reported = {
            kind: type_reading(name, kind, table, seen, window, self._settings)
            for kind in _reported_types(spec.types, types)
        }
        return replace(reading, by_type=reported)

    def _table(self, spec: PostgresQueue) -> TableObserver:
        shared = spec.model_copy(update={"types": ()})
        return self._tables.get(
            shared,
            lambda: TableObserver(
                self._database,
                shared,
                clock=self._clock,
                timer=self._timer,
                settings=self._settings,
            ),
        )


def _reported_types(of_queue: tuple[str, ...], of_breakers: frozenset[str]) -> tuple[str, ...]:
    """The types that a queue reports one by one, from the same reading of the table. One that
    belongs to another queue of the table is not among them."""
    return (of_queue or tuple(sorted(of_breakers)))[:MOST_REPORTED]
