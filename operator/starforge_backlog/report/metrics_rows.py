"""From what a pass saw and said to numbers. Pure; unknown readings become no number at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.api.status import BreakerState, BudgetStatus, QueueBacklogPolicyStatus
from starforge_backlog.report import metrics_catalogue as catalogue
from starforge_backlog.report.metrics_catalogue import Family
from starforge_backlog.report.states import cause_name
from starforge_backlog.snapshot import (
    Confidence,
    Count,
    FlagValue,
    Known,
    Outcomes,
    QueueReading,
    Reading,
    Snapshot,
    TypeReading,
    Unknown,
)

T = TypeVar("T")
# A family, the labels that follow namespace and policy, and the value.
Row = tuple[Family, tuple[str, ...], float]

# Terms of the budget by what they count; other fields of `BudgetStatus` are no terms.
CONNECTION_TERMS = (
    "max_connections",
    "reserved",
    "usable",
    "others",
    "headroom",
    "other_policies",
    "worker_cap",
    "per_replica",
    "pool",
    "pool_clients",
    "pressure_cap",
)
REPLICA_TERMS = ("slots", "surge", "terminating", "seed_cap", "replicas", "share")


def rows_of(snapshot: Snapshot | None, status: QueueBacklogPolicyStatus) -> Iterator[Row]:
    """All series of one policy. Without a snapshot (nothing was read), what it says."""
    if snapshot is not None:
        yield from _queues(snapshot)
        yield from _database(snapshot)
        yield from _workload(snapshot)
        yield from _producers(snapshot)
        yield from _unknown(snapshot)
    yield from _said(status)


def _queues(snapshot: Snapshot) -> Iterator[Row]:
    for name, queue in snapshot.queues.items():
        counts: tuple[tuple[Family, Reading[Count]], ...] = (
            (catalogue.QUEUE_WAITING, queue.waiting),
            (catalogue.QUEUE_SCHEDULED, queue.scheduled),
            (catalogue.QUEUE_IN_PROGRESS, queue.in_progress),
            (catalogue.QUEUE_FAILED, queue.failed),
        )
        for family, count in counts:
            yield from _row(family, (name,), count, lambda c: c.value)
        rates = (
            (catalogue.QUEUE_ARRIVALS, queue.arrivals_per_second),
            (catalogue.QUEUE_THROUGHPUT, queue.throughput_per_second),
        )
        for family, rate in rates:
            yield from _row(family, (name,), rate, float)
        yield from _row(
            catalogue.QUEUE_OLDEST, (name,), queue.oldest_due_age, timedelta.total_seconds
        )
        yield from _row(
            catalogue.QUEUE_FAILED_RATIO,
            (name,),
            queue.outcomes,
            _failed_ratio,
        )
        yield from _consumers(name, queue)
        for kind, part in queue.by_type.items():
            yield from _type((name, kind), part)


def _consumers(name: str, queue: QueueReading) -> Iterator[Row]:
    """What only some kinds of queues report."""
    if queue.failed_attempts_per_second is not None:
        yield from _row(
            catalogue.QUEUE_FAILED_ATTEMPTS, (name,), queue.failed_attempts_per_second, float
        )
    if queue.consumers is not None:
        yield from _row(catalogue.QUEUE_WORKERS, (name,), queue.consumers, lambda c: c.live)
        yield from _row(catalogue.QUEUE_ORPHANED, (name,), queue.consumers, lambda c: c.orphaned)
        yield from _row(catalogue.QUEUE_STALLED, (name,), queue.consumers, lambda c: c.stalled)


def _type(labels: tuple[str, str], part: TypeReading) -> Iterator[Row]:
    yield from _row(catalogue.TYPE_WAITING, labels, part.waiting, _counted)
    yield from _row(catalogue.TYPE_OLDEST, labels, part.oldest_due_age, timedelta.total_seconds)
    yield from _row(catalogue.TYPE_FAILED_RATIO, labels, part.outcomes, _failed_ratio)


def _counted(count: Count) -> int | None:
    return None if count.confidence is Confidence.AT_MOST else count.value


def _failed_ratio(outcomes: Outcomes) -> float | None:
    return outcomes.failed_percent / 100 if outcomes.samples else None


def _database(snapshot: Snapshot) -> Iterator[Row]:
    if snapshot.database is None:
        return
    connections, health = snapshot.database.connections, snapshot.database.health
    yield from _row(catalogue.DATABASE_CONNECTIONS, (), connections, lambda c: c.clients)
    yield from _row(
        catalogue.DATABASE_MAX_CONNECTIONS, (), connections, lambda c: c.max_connections
    )
    yield from _row(catalogue.DATABASE_LOCK_WAITERS, (), health, lambda h: h.lock_waiters)
    yield from _row(
        catalogue.DATABASE_LONGEST_TRANSACTION,
        (),
        health,
        lambda h: h.longest_transaction.total_seconds(),
    )


def _workload(snapshot: Snapshot) -> Iterator[Row]:
    workload = snapshot.workload
    if isinstance(workload, Unknown):
        return
    seen = workload.value
    yield catalogue.REPLICAS, (), seen.replicas
    yield catalogue.POD_RESTARTS, (), seen.restarts
    for state in ("ready", "pending", "crash_looping", "oom_killed", "terminating"):
        yield catalogue.PODS, (state,), float(getattr(seen, state))


def _producers(snapshot: Snapshot) -> Iterator[Row]:
    for name, producer in snapshot.producers.items():
        yield from _row(
            catalogue.PRODUCER_PAUSED, (name,), producer, lambda p: p.value is FlagValue.PAUSED
        )


def _unknown(snapshot: Snapshot) -> Iterator[Row]:
    counted = Counter(
        (source, str(reading.why))
        for source, reading in _readings(snapshot)
        if isinstance(reading, Unknown)
    )
    for (source, reason), number in counted.items():
        yield catalogue.UNKNOWN_READINGS, (source, reason), number


def _readings(snapshot: Snapshot) -> Iterator[tuple[str, Reading[object]]]:
    yield "workload", snapshot.workload
    yield "per_replica", snapshot.per_replica
    if snapshot.database is not None:
        yield "connections", snapshot.database.connections
        yield "health", snapshot.database.health
        if snapshot.database.pooler is not None:
            yield "pooler", snapshot.database.pooler
    if snapshot.autoscaler is not None:
        yield "autoscaler", snapshot.autoscaler
    for queue in snapshot.queues.values():
        yield from (("queue", reading) for reading in _of_queue(queue))
    for producer in snapshot.producers.values():
        yield "producer", producer


def _of_queue(queue: QueueReading) -> Iterator[Reading[object]]:
    yield from (
        queue.waiting,
        queue.scheduled,
        queue.in_progress,
        queue.failed,
        queue.oldest_due_age,
        queue.arrivals_per_second,
        queue.throughput_per_second,
        queue.outcomes,
    )
    for row in (queue.failed_attempts_per_second, queue.consumers):
        if row is not None:
            yield row
    for part in queue.by_type.values():
        yield from (part.waiting, part.oldest_due_age, part.outcomes)


def _said(status: QueueBacklogPolicyStatus) -> Iterator[Row]:
    scaling = status.scaling
    if scaling.need is not None:
        yield catalogue.REPLICAS_NEEDED, (), scaling.need
    if scaling.budget_replicas is not None:
        yield catalogue.REPLICAS_ALLOWED, (), scaling.budget_replicas
    if status.budget is not None:
        yield from _budget(status.budget)
    for breaker in status.breakers:
        for state in BreakerState:
            yield catalogue.BREAKER_STATE, (breaker.name, state.value), breaker.state is state
    for pause in status.paused:
        yield catalogue.PAUSE, (pause.producer, pause.by.value, pause.state.value), 1
    for condition in status.conditions:
        labels = (condition.type, condition.status, condition.reason)
        yield catalogue.CONDITION, labels, 1
    if status.cause:
        yield catalogue.CAUSE, (cause_name(status.cause),), 1


def _budget(budget: BudgetStatus) -> Iterator[Row]:
    families = (
        (catalogue.BUDGET_CONNECTIONS, CONNECTION_TERMS),
        (catalogue.BUDGET_REPLICAS, REPLICA_TERMS),
    )
    for family, terms in families:
        for term in terms:
            number = getattr(budget, term)
            if number is not None:  # alone there is no share, without a pooler no pool
                yield family, (term,), float(number)


def _row(
    family: Family,
    labels: tuple[str, ...],
    reading: Reading[T],
    number: Callable[[T], float | None],
) -> Iterator[Row]:
    if isinstance(reading, Known):
        value = number(reading.value)
        if value is not None:
            yield family, labels, value
