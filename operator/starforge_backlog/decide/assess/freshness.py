"""A late reading is a missing reading, and so is one that was never taken (P2)."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.snapshot import (
    DatabaseReading,
    Known,
    QueueReading,
    Reading,
    Snapshot,
    TypeReading,
    Unknown,
    Why,
    unread,
)

T = TypeVar("T")
Part = TypeVar("Part", QueueReading, TypeReading, DatabaseReading)

# A sample older than three intervals is no sample.
STALE_AFTER_INTERVALS = 3
# ... but an observer that spares its database may answer with a reading of this age.
LEAST_STALE_AGE = timedelta(seconds=15)


def judged(spec: QueueBacklogPolicySpec, seen: Snapshot, now: datetime) -> Snapshot:
    """What the decision may read: exactly what the spec names, nothing of it late.

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

    def check_all(part: Part) -> Part:
        """Each reading of it, whichever there are: a new one cannot be forgotten here."""
        values = ((field.name, getattr(part, field.name)) for field in fields(part))
        checked: dict[str, Any] = {
            name: check(value) for name, value in values if isinstance(value, Known | Unknown)
        }
        return replace(part, **checked)

    def check_queue(queue: QueueReading) -> QueueReading:
        by_type = {name: check_all(part) for name, part in queue.by_type.items()}
        return replace(check_all(queue), by_type=by_type)

    return replace(
        seen,
        workload=check(seen.workload),
        per_replica=seen.per_replica,  # a fact of the pod template, not a measurement
        database=None if seen.database is None else check_all(seen.database),
        queues={name: check_queue(queue) for name, queue in seen.queues.items()},
        producers={name: check(reading) for name, reading in seen.producers.items()},
        autoscaler=None if seen.autoscaler is None else check(seen.autoscaler),
    )
