"""How many replicas the work needs, from what one busy replica is measured to finish."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.decide.numbers import digits
from starforge_backlog.snapshot import (
    Confidence,
    Consumers,
    Count,
    Known,
    QueueReading,
    Reading,
    Unknown,
    Why,
)

# Demand within 10 % of capacity moves nothing, up or down: the noise of arrivals must not become
# a change of replicas (the HPA tolerates the same).
TOLERANCE = 0.1
# A replica counts as busy while this many jobs wait for each: with an idle worker, throughput
# measures arrivals and not what the worker can do.
BUSY_JOBS_PER_REPLICA = 2
# Jobs per second: one in eleven days. Less is no measurement, and would ask for replicas without
# end.
LEAST_THROUGHPUT = 1e-6
# How far a measured rate may lie off by chance, in standard deviations of a count.
NOISE_SIGMAS = 1.5
# Reasons that will not pass by waiting: this table never shows its rates. Then the runbook's
# small steps are taken without them; every other reason is a missing reading (P2).
NEVER_REPORTED = frozenset(
    {Why.NOT_IN_TABLE, Why.NO_INDEX, Why.COLUMN_NOT_FOUND, Why.STATUS_NOT_MAPPED, Why.NO_SOURCE}
)


@dataclass(frozen=True, slots=True)
class Load:
    """All queues of a policy together. None: unknown (a part is missing)."""

    waiting: int | None
    waiting_exact: bool
    arrivals: float | None  # jobs per second
    throughput: float | None  # jobs per second
    failed_percent: float | None
    oldest: timedelta | None  # the oldest due job of all queues
    missing: tuple[str, ...]  # "queue jobs: waiting: <why>"
    warming_up: bool  # what is missing was not read often enough yet, and nothing is broken
    read_at: datetime | None  # the oldest of these readings; None: there is none
    # "queue jobs is held by its global rate limit of …": of all queues in which jobs wait, so that
    # more workers would bring nothing. Empty: there is one without such a limit.
    limited: str = ""
    # "3 workers are connected to queue jobs, and none of them holds a job": of all queues in which
    # jobs wait. Empty: a worker works, or that is not known.
    idle: str = ""

    def drains_within(self, span: timedelta) -> bool:
        """More leaves than comes, and fast enough. Merely falling is not enough: the producers
        that one slow worker drains for would stay paused for hours."""
        if self.arrivals is None or self.throughput is None or self.waiting is None:
            return False
        return self.waiting <= (self.throughput - self.arrivals) * span.total_seconds()


def load(queues: Iterable[tuple[str, QueueReading]]) -> Load:
    """Sum the queues. One missing part makes that sum unknown, never smaller (P2)."""
    items = list(queues)
    unread = [
        (f"queue {name}: {part}", reading)
        for name, queue in items
        for part, reading in _needed(queue)
        if isinstance(reading, Unknown)
    ]
    waiting = _total([_count(q.waiting) for _, q in items])
    ended = [q.outcomes.value for _, q in items if isinstance(q.outcomes, Known)]
    samples = sum(o.samples for o in ended)
    return Load(
        waiting=None if waiting is None else int(waiting),
        waiting_exact=all(
            isinstance(q.waiting, Known) and q.waiting.value.confidence is Confidence.EXACT
            for _, q in items
        ),
        arrivals=_total([_rate(q.arrivals_per_second) for _, q in items]),
        throughput=_total([_rate(q.throughput_per_second) for _, q in items]),
        failed_percent=100 * sum(o.failed for o in ended) / samples if samples else None,
        oldest=_oldest([q.oldest_due_age for _, q in items]),
        missing=tuple(f"{what}: {reading.message}" for what, reading in unread),
        warming_up=bool(unread) and all(r.why is Why.NOT_YET for _, r in unread),
        read_at=min((at for _, queue in items for at in _moments(queue)), default=None),
        limited=_of_all(items, _limited),
        idle=_of_all(items, _idle),
    )


def _of_all(
    items: Iterable[tuple[str, QueueReading]], describe: Callable[[str, Consumers], str]
) -> str:
    """What holds of each queue in which jobs wait; empty where it does not hold of one."""
    found = []
    for name, queue in items:
        if isinstance(queue.waiting, Known) and not queue.waiting.value.value:
            continue
        consumers = queue.consumers
        found.append(describe(name, consumers.value) if isinstance(consumers, Known) else "")
    return "; ".join(found) if all(found) else ""


def _limited(name: str, consumers: Consumers) -> str:
    limit = consumers.limited_by
    return f"queue {name} is held by {limit}" if limit else ""


def _idle(name: str, consumers: Consumers) -> str:
    if consumers.live is None or consumers.held or consumers.paused_by or consumers.limited_by:
        return ""
    connected = f"{consumers.live} workers are connected to queue {name}"
    lost = f" ({consumers.orphaned} jobs lost their worker's lock)" if consumers.orphaned else ""
    return f"{connected}, and none of them holds a job{lost}"


def demand(load: Load, drain_within: timedelta) -> float | None:
    """Jobs per second that must be finished: arrivals, and the backlog within `drainWithin`.

    None when a part is unknown.
    """
    if load.waiting is None or load.arrivals is None:
        return None
    return load.arrivals + load.waiting / max(1.0, drain_within.total_seconds())


def need(demand: float | None, per_replica: float | None) -> int | None:
    """Replicas that serve the demand; None when it or the throughput of one is unknown."""
    if demand is None or per_replica is None or per_replica < LEAST_THROUGHPUT:
        return None
    return math.ceil(demand / per_replica)


def chance(rate: float, window: timedelta) -> float:
    """How far a rate measured over `window` may be off by chance, and by one job at least: three
    jobs in one window and two in the next are the same rate."""
    seconds = max(1.0, window.total_seconds())
    return max(1 / seconds, NOISE_SIGMAS * math.sqrt(rate / seconds))


def steady_need(
    demand: float | None, per_replica: float | None, before: int | None, wobble: float
) -> int | None:
    """The need as status shows it: a demand near the border of two numbers must not be a write to
    the API server with every pass (P7). `wobble` is what the demand is off by chance."""
    exact = need(demand, per_replica)
    if exact is None or before is None or demand is None or not per_replica:
        return exact
    least, most = per_replica * (before - 1), per_replica * before
    fits = least * (1 - TOLERANCE) - wobble <= demand <= most * (1 + TOLERANCE) + wobble
    return before if fits else exact


def measured_per_replica(
    load: Load, ready: int, remembered: float | None, window: timedelta
) -> float | None:
    """Jobs per second of one busy replica, from rates that are averages over `window`.

    Measured while enough work waits; remembered otherwise. Idle workers, or the oldest job waiting
    for less than the window, make the measured number a lower bound: it can raise the remembered
    one, but not lower it, or idle time would be taken for slow work. Replaced only when it moved
    by more than the tolerance, so that a steady queue writes nothing (P7).
    """
    if load.throughput is None or load.waiting is None or ready < 1 or load.throughput <= 0:
        return remembered
    measured = load.throughput / ready
    busy = load.waiting >= ready * BUSY_JOBS_PER_REPLICA
    if not remembered:
        return digits(measured, 3) if busy else remembered
    busy_throughout = busy and load.oldest is not None and load.oldest >= window
    moved = abs(measured - remembered) > TOLERANCE * remembered
    if not moved or (measured < remembered and not busy_throughout):
        return remembered
    return digits(measured, 3)


def reported(reading: Reading[object]) -> bool:
    """Whether the policy names a source for it, now or later. StarForge has no metric for
    the age of its oldest job: without one, a queue is judged by what waits."""
    return not (isinstance(reading, Unknown) and reading.why is Why.NO_SOURCE)


def _needed(queue: QueueReading) -> tuple[tuple[str, Reading[object]], ...]:
    """What a step is decided from. What no source will ever report is not waited for: 3,000 jobs
    without a due time are too many, however old they are."""
    others = (
        ("oldest", queue.oldest_due_age),
        ("arrivals", queue.arrivals_per_second),
        ("throughput", queue.throughput_per_second),
    )
    return (
        ("waiting", queue.waiting),
        *(
            (part, reading)
            for part, reading in others
            if not (isinstance(reading, Unknown) and reading.why in NEVER_REPORTED)
        ),
    )


def _moments(queue: QueueReading) -> list[datetime]:
    readings: tuple[Reading[object], ...] = (
        queue.waiting,
        queue.oldest_due_age,
        queue.arrivals_per_second,
        queue.throughput_per_second,
        queue.outcomes,
    )
    return [reading.at for reading in readings if isinstance(reading, Known)]


def _oldest(ages: list[Reading[timedelta]]) -> timedelta | None:
    known = [age.value for age in ages if isinstance(age, Known)]
    return max(known) if known and len(known) == len(ages) else None


def _count(reading: Reading[Count]) -> float | None:
    return float(reading.value.value) if isinstance(reading, Known) else None


def _rate(reading: Reading[float]) -> float | None:
    return reading.value if isinstance(reading, Known) else None


def _total(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) and parts else None
