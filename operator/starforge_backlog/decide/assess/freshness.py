"""A late reading is a missing reading, and so is one that was never taken (P2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.snapshot import (
    DatabaseReading,
    QueueReading,
    Reading,
    Snapshot,
    TypeReading,
    Unknown,
    Why,
    unread,
)

T = TypeVar("T")

# A sample older than three intervals is no sample.
STALE_AFTER_INTERVALS = 3
# ... but an observer that spares its database may answer with a reading of this age.
LEAST_STALE_AGE = timedelta(seconds=15)


def judged(spec: QueueBacklogPolicySpec, seen: Snapshot, now: datetime) -> Snapshot:
    """What the decision may look at: exactly what the spec names, nothing of it late.

    What the spec names and the snapshot lacks is unknown: a sum of some queues is not the sum of
    all, and a database without a reading is not a policy without a database.
    """
    seen = fresh(seen, spec.interval, now)
    absent = Unknown(Why.NOT_YET, "not read yet", now)
    database = None
    if spec.database is not None:
        database = seen.database or DatabaseReading(absent, absent)
    nothing = unread(absent)
    return replace(
        seen,
        database=database,
        queues={queue.name: seen.queues.get(queue.name, nothing) for queue in spec.queues},
    )


def fresh(seen: Snapshot, interval: timedelta, now: datetime) -> Snapshot:
    """The snapshot with every reading that is too old, or from the future, made unknown."""
    limit = max(interval * STALE_AFTER_INTERVALS, LEAST_STALE_AGE)
    latest = now + limit

    def check(reading: Reading[T]) -> Reading[T]:
        if isinstance(reading, Unknown):
            return reading
        if now - max(limit, reading.lasts) <= reading.at <= latest:
            return reading
        if reading.at > now:
            return Unknown(Why.STALE, "the reading is from the future: the clock jumped", now)
        # The limit and not the age: a text that changes with every pass would be a write (P7).
        return Unknown(Why.STALE, f"the last reading is older than {format_duration(limit)}", now)

    def check_if_reported(reading: Reading[T] | None) -> Reading[T] | None:
        return None if reading is None else check(reading)

    def check_type(part: TypeReading) -> TypeReading:
        return TypeReading(
            waiting=check(part.waiting),
            oldest_due_age=check(part.oldest_due_age),
            outcomes=check(part.outcomes),
        )

    def check_queue(queue: QueueReading) -> QueueReading:
        return QueueReading(
            waiting=check(queue.waiting),
            scheduled=check(queue.scheduled),
            in_progress=check(queue.in_progress),
            failed=check(queue.failed),
            oldest_due_age=check(queue.oldest_due_age),
            arrivals_per_second=check(queue.arrivals_per_second),
            throughput_per_second=check(queue.throughput_per_second),
            outcomes=check(queue.outcomes),
            types=queue.types,
            how=queue.how,
            by_type={name: check_type(part) for name, part in queue.by_type.items()},
            failed_attempts_per_second=check_if_reported(queue.failed_attempts_per_second),
            consumers=check_if_reported(queue.consumers),
            notes=queue.notes,
            held=queue.held,
        )

    database = seen.database
    if database is not None:
        database = DatabaseReading(
            check(database.connections), check(database.health), check_if_reported(database.pooler)
        )
    return replace(
        seen,
        workload=check(seen.workload),
        per_replica=seen.per_replica,  # a fact of the pod template, not a measurement
        database=database,
        queues={name: check_queue(queue) for name, queue in seen.queues.items()},
        producers={name: check(reading) for name, reading in seen.producers.items()},
        autoscaler=check_if_reported(seen.autoscaler),
    )
