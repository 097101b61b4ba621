"""What was seen of a queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from starforge_backlog.snapshot.reading import Reading, Unknown


class Confidence(StrEnum):
    """How a number was obtained."""

    EXACT = "Exact"
    AT_LEAST = "AtLeast"  # counting stopped at a cap
    ESTIMATED = "Estimated"  # a sample of blocks, or a derived rate
    AT_MOST = "AtMost"  # a sample showed none, which leaves room for so many


@dataclass(frozen=True, slots=True)
class Count:
    """A number of jobs."""

    value: int
    confidence: Confidence = Confidence.EXACT

    def __str__(self) -> str:
        signs = {"AtLeast": "≥", "Estimated": "~", "AtMost": "≤"}
        return signs.get(self.confidence, "") + f"{self.value}"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Jobs that ended in a window, for the failure ratio."""

    finished: int
    failed: int
    window: timedelta

    @property
    def samples(self) -> int:
        """All jobs that ended, well or badly."""
        return self.finished + self.failed

    @property
    def failed_percent(self) -> float:
        """Failed of all that ended, in percent; 0 for none, so read `samples` first."""
        return 100 * self.failed / self.samples if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class TypeReading:
    """One job type of a queue, for breakers whose scope is a type."""

    waiting: Reading[Count]
    oldest_due_age: Reading[timedelta]
    outcomes: Reading[Outcomes]


@dataclass(frozen=True, slots=True)
class Consumers:
    """What a queue itself reports of its workers."""

    live: int | None  # workers with a connection; None: the server does not let us ask
    orphaned: int = 0  # jobs in progress whose worker's lock is gone
    stalled: int = 0  # jobs that lost their worker at least once and were given out again
    paused_by: str = ""  # "a person" or a policy's token: the queue hands no jobs out
    held: int = 0  # jobs in progress that a worker holds the lock of
    # A limit of the queue itself that binds now ("its rate limit of 2 jobs per 1 s"); empty: none.
    limited_by: str = ""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Jobs that a pause of this operator holds back (`producers[].jobTypes`). No worker can take
    them, so they are not in `waiting`; and they are not done, so they are not healthy either."""

    count: Count
    oldest: timedelta | None  # by the due time it had before; None: not known


@dataclass(frozen=True, slots=True)
class QueueReading:
    """One queue. Rates are jobs per second, averaged over the window the policy asked for
    (`scaling.observeFor`), so that a verdict compares whole windows."""

    waiting: Reading[Count]
    scheduled: Reading[Count]
    in_progress: Reading[Count]
    failed: Reading[Count]
    oldest_due_age: Reading[timedelta]
    arrivals_per_second: Reading[float]
    throughput_per_second: Reading[float]
    outcomes: Reading[Outcomes]
    types: Mapping[str, Count] = field(default_factory=dict)
    how: str = ""  # which tier of the observer answered, e.g. "index: queue_jobs_claim"
    # Below: None or empty where this kind of queue does not report it.
    by_type: Mapping[str, TypeReading] = field(default_factory=dict)
    # Attempts that failed, retried or not; `outcomes` counts jobs.
    failed_attempts_per_second: Reading[float] | None = None
    consumers: Reading[Consumers] | None = None
    notes: tuple[str, ...] = ()  # sentences for status: what a person should know of this queue
    held: HeldBack | None = None  # None: none, or not seen


def unread(why: Unknown) -> QueueReading:
    """A queue of which nothing is known, for one reason."""
    return QueueReading(
        waiting=why,
        scheduled=why,
        in_progress=why,
        failed=why,
        oldest_due_age=why,
        arrivals_per_second=why,
        throughput_per_second=why,
        outcomes=why,
    )
