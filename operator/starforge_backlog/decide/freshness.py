"""A late reading is a missing reading (P2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from starforge_backlog.api.base import format_duration
from starforge_backlog.snapshot import (
    QueueReading,
    Reading,
    Snapshot,
    Unknown,
    Why,
)

T = TypeVar("T")

# field/postgres.md §4.3: a sample older than three intervals is no sample.
STALE_AFTER_INTERVALS = 3
# ... but an observer that spares its database may answer with a reading of this age.
LEAST_STALE_AGE = timedelta(seconds=15)


def fresh(seen: Snapshot, interval: timedelta, now: datetime) -> Snapshot:
    """The snapshot with every reading that is too old, or from the future, made unknown."""
    limit = max(interval * STALE_AFTER_INTERVALS, LEAST_STALE_AGE)

    def check(reading: Reading[T]) -> Reading[T]:
        if isinstance(reading, Unknown):
            return reading
        age = now - reading.at
        if -limit <= age <= limit:
            return reading
        if age < timedelta(0):
            return Unknown(Why.STALE, "the reading is from the future: the clock jumped", now)
        return Unknown(Why.STALE, f"the last reading is {format_duration(age)} old", now)

    def check_queue(queue: QueueReading) -> QueueReading:
        return replace(
            queue,
            waiting=check(queue.waiting),
            scheduled=check(queue.scheduled),
            in_progress=check(queue.in_progress),
            failed=check(queue.failed),
            oldest_due_age=check(queue.oldest_due_age),
            arrivals_per_second=check(queue.arrivals_per_second),
            throughput_per_second=check(queue.throughput_per_second),
            outcomes=check(queue.outcomes),
        )

    database = seen.database
    if database is not None:
        database = replace(
            database, connections=check(database.connections), health=check(database.health)
        )
    return replace(
        seen,
        workload=check(seen.workload),
        per_replica=seen.per_replica,  # a fact of the pod template, not a measurement
        database=database,
        queues={name: check_queue(queue) for name, queue in seen.queues.items()},
        producers={name: check(reading) for name, reading in seen.producers.items()},
    )
