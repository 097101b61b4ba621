"""What a trip rule reads, and how that compares with its value.

A breaker whose scope is a job type reads the jobs of that type alone, in every queue of its scope
that can distinguish them. A queue that never can is left out; one that cannot be read now may hold
jobs of the type, so the signal is unknown (P2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Breaker, Scope, Trip
from starforge_backlog.decide.assess.need import NEVER_REPORTED, reported
from starforge_backlog.snapshot import (
    Confidence,
    Known,
    Outcomes,
    QueueReading,
    Reading,
    TypeReading,
    Unknown,
    Why,
)

# The trip value itself, in percent of the trip value.
TRIPPED = 100
# Before every moment that a status can hold; earlier than any comparison needs.
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Level:
    """Where a rule's signal stands. `percent_of_trip` is 100 at the trip value.

    `enough` is false for a ratio of too few samples: that neither trips nor holds a breaker open,
    or a paused queue, where nothing ends, could never be probed. `estimated` says that it was not
    counted: it may trip, and hold open, but alone it resumes nothing (P2).
    """

    percent_of_trip: float
    text: str
    at: datetime  # when it was read
    covers_since: datetime  # a ratio covers the time from here to `at`; others only `at`
    estimated: bool = False
    enough: bool = True

    @property
    def exceeds(self) -> bool:
        """At or above the trip value, by enough samples."""
        return self.enough and self.percent_of_trip >= TRIPPED


Signal = Level | Unknown
Part = QueueReading | TypeReading
Rules = Sequence[tuple[Trip, Signal]]
"""Each rule of a breaker with what it sees."""


def name(trip: Trip) -> str:
    """The signal a rule reads, with its value: the key under which its memory is kept."""
    what, value = trips_at(trip)
    return f"{what}>={format_duration(value) if isinstance(value, timedelta) else value}"


def trips_at(trip: Trip) -> tuple[str, int | timedelta]:
    """The signal, named as in the spec, and the value at which it trips."""
    if trip.waiting is not None:
        return "waiting", trip.waiting
    if trip.oldest_age is not None:
        return "oldestAge", trip.oldest_age
    if trip.failed_percent is not None:
        return "failedPercent", trip.failed_percent
    return "databaseUtilizationPercent", trip.database_utilization_percent or 0


def signals(
    breaker: Breaker, queues: Mapping[str, QueueReading], utilization: Reading[float]
) -> Rules:
    """Each rule of a breaker with what it sees."""
    return tuple((trip, signal(trip, breaker, queues, utilization)) for trip in breaker.trip)


def signal(
    trip: Trip,
    breaker: Breaker,
    queues: Mapping[str, QueueReading],
    utilization: Reading[float],
) -> Signal:
    """The rule's signal over the queues of the breaker (all, when it names none)."""
    value = trip.database_utilization_percent
    if value is None:
        parts = _parts(breaker.scope, queues)
        if isinstance(parts, Unknown):
            return parts
        return _of_jobs(trip, parts, f" {breaker.scope.type}" if breaker.scope.type else "")
    match utilization:
        case Known(used, at):
            text = f"database connections {used:.0f}% (trips at {value}%)"
            return Level(100 * used / value, text, at=at, covers_since=at)
        case Unknown() as unknown:
            return unknown


def _parts(scope: Scope, queues: Mapping[str, QueueReading]) -> list[Part] | Unknown:
    """What the rules count: whole queues, or one job type of each."""
    chosen = [q for name, q in queues.items() if not scope.queues or name in scope.queues]
    if not chosen:
        return _no_queue()
    if scope.type is None:
        return list(chosen)
    parts: list[Part] = []
    for queue in chosen:
        part = queue.by_type.get(scope.type)
        if part is not None:
            parts.append(part)
        elif isinstance(queue.waiting, Unknown) and queue.waiting.why not in NEVER_REPORTED:
            parts.append(TypeReading(queue.waiting, queue.waiting, queue.waiting))
    if parts:
        return parts
    message = (
        f"no queue of the breaker counts jobs of type {scope.type} separately; correct scope.type,"
        " or choose queues that have it in scope.queues"
    )
    return Unknown(Why.NO_SOURCE, message, LONG_AGO)


def _of_jobs(trip: Trip, parts: list[Part], kind: str) -> Signal:
    if trip.waiting is not None:
        return _waiting(trip.waiting, parts, kind)
    if trip.oldest_age is not None:
        return _oldest(trip.oldest_age, parts, kind)
    return _failed(trip.failed_percent or 0, trip.min_samples, parts, kind)


def _waiting(value: int, queues: list[Part], kind: str) -> Signal:
    total, room, found, oldest_reading = 0, 0, set[Confidence](), None
    for queue in queues:
        match queue.waiting:
            case Known(count, at):
                if count.confidence is Confidence.AT_MOST:
                    room += count.value
                else:
                    total += count.value
                found.add(count.confidence)
                oldest_reading = at if oldest_reading is None else min(oldest_reading, at)
            case Unknown() as unknown:
                return unknown
    assert oldest_reading is not None, "there is at least one queue"
    if Confidence.AT_LEAST in found and total < value:
        message = (
            f"jobs are not counted as far as {value}; lower waiting to what is counted, or see"
            " status.queues for what is not counted"
        )
        return Unknown(Why.CAPPED, message, oldest_reading)
    if total < value <= total + room:
        message = (
            f"a sample shows none{kind}, so there may be up to {room}; waiting {value} is detected"
            " once fewer jobs wait in total"
        )
        return Unknown(Why.NO_SAMPLES, message, oldest_reading)
    most = f" and at most {room} more" if room else ""
    return Level(
        100 * (total + room if total < value else total) / value,
        f"{total}{kind} waiting{most} (trips at {value})",
        at=oldest_reading,
        covers_since=oldest_reading,
        estimated=not found.isdisjoint({Confidence.ESTIMATED, Confidence.AT_MOST}),
    )


def _oldest(value: timedelta, queues: list[Part], kind: str) -> Signal:
    worst, oldest_reading = timedelta(0), None
    # A queue whose age the policy names no source for leaves the rule to the others.
    for queue in [q for q in queues if reported(q.oldest_due_age)] or queues:
        match queue.oldest_due_age:
            case Known(age, at):
                worst = max(worst, age)
                oldest_reading = at if oldest_reading is None else min(oldest_reading, at)
            case Unknown() as unknown:
                return unknown
    assert oldest_reading is not None, "there is at least one queue"
    text = f"oldest{kind} job {format_duration(worst)} (trips at {format_duration(value)})"
    return Level(100 * (worst / value), text, at=oldest_reading, covers_since=oldest_reading)


def _failed(value: int, min_samples: int, queues: list[Part], kind: str) -> Signal:
    ended: list[tuple[Outcomes, datetime]] = []
    missing: list[Unknown] = []
    for queue in queues:
        match queue.outcomes:
            case Known(outcomes, at):
                ended.append((outcomes, at))
            case Unknown(Why.NO_SAMPLES, _, at):
                # Nothing ended: a fact, not a gap. A drained queue under a pause has no outcomes,
                # and waiting for some would be a pause that never ends.
                ended.append((Outcomes(0, 0, timedelta(0)), at))
            case Unknown() as unknown:
                missing.append(unknown)
    if missing:
        # The one that may come back first: it counts as unknown, see `unreadable.py`.
        return min(missing, key=lambda unknown: unknown.why in NEVER_REPORTED)
    samples = sum(outcomes.samples for outcomes, _ in ended)
    percent = 100 * sum(outcomes.failed for outcomes, _ in ended) / samples if samples else 0.0
    return Level(
        100 * percent / value,
        f"{percent:.1f}% of {samples}{kind} jobs failed (trips at {value}%)",
        at=min(at for _, at in ended),
        covers_since=min(at - outcomes.window for outcomes, at in ended),
        enough=samples >= min_samples,
    )


def _no_queue() -> Unknown:
    """The rules of the CRD forbid a breaker over a queue that the policy has not got."""
    return Unknown(Why.NOT_CONFIGURED, "the breaker names no queue of the policy", LONG_AGO)
