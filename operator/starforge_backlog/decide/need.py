"""How many replicas the work needs, from what one busy replica is measured to finish."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.snapshot import Confidence, Count, Known, QueueReading, Reading, Unknown

# Demand within 10 % of capacity moves nothing, up or down: the noise of arrivals must not become
# a change of replicas (the HPA tolerates the same).
TOLERANCE = 0.1
# A replica counts as busy while this many jobs wait for each: with an idle worker, throughput
# measures arrivals and not what the worker can do.
BUSY_JOBS_PER_REPLICA = 2


@dataclass(frozen=True, slots=True)
class Load:
    """All queues of a policy together. None: unknown (a part is missing)."""

    waiting: int | None
    waiting_exact: bool
    arrivals: float | None  # jobs per second
    throughput: float | None  # jobs per second
    failed_percent: float | None
    missing: tuple[str, ...]  # "queue jobs: waiting: <why>"

    @property
    def draining(self) -> bool:
        """More leaves than comes."""
        return (
            self.arrivals is not None
            and self.throughput is not None
            and self.throughput > self.arrivals
        )


def load(queues: Iterable[tuple[str, QueueReading]]) -> Load:
    """Sum the queues. One missing part makes that sum unknown, never smaller (P2)."""
    items = list(queues)
    missing = tuple(
        f"queue {name}: {part}: {reading.message}"
        for name, queue in items
        for part, reading in (("waiting", queue.waiting), ("oldest", queue.oldest_due_age))
        if isinstance(reading, Unknown)
    )
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
        missing=missing,
    )


def demand(load: Load, drain_within: timedelta) -> float | None:
    """Jobs per second that must be finished: arrivals, and the backlog within `drainWithin`.

    None when a part is unknown.
    """
    if load.waiting is None or load.arrivals is None:
        return None
    return load.arrivals + load.waiting / max(1.0, drain_within.total_seconds())


def need(demand: float | None, per_replica: float | None) -> int | None:
    """Replicas that serve the demand; None when it or the throughput of one is unknown."""
    if demand is None or not per_replica:
        return None
    return math.ceil(demand / per_replica)


def measured_per_replica(load: Load, ready: int, remembered: float | None) -> float | None:
    """Jobs per second of one busy replica.

    Measured while enough work waits; remembered otherwise. Replaced only when it moved by more
    than the tolerance, so that a steady queue writes nothing (P7).
    """
    if load.throughput is None or load.waiting is None or ready < 1:
        return remembered
    if load.waiting < ready * BUSY_JOBS_PER_REPLICA or load.throughput <= 0:
        return remembered
    measured = load.throughput / ready
    if remembered and abs(measured - remembered) <= TOLERANCE * remembered:
        return remembered
    return float(f"{measured:.3g}")


def _count(reading: Reading[Count]) -> float | None:
    return float(reading.value.value) if isinstance(reading, Known) else None


def _rate(reading: Reading[float]) -> float | None:
    return reading.value if isinstance(reading, Known) else None


def _total(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) and parts else None
