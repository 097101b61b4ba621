"""Circuit breakers: closed → open → half-open → closed (runbook, *Add circuit breakers*).

A rule trips when its signal has been at or above its value for its time. An open breaker dares a
probe (half-open) when every rule has been at or below `recover.below` percent of its value for
`recover.for` - connections in use already when they are below the database's pressure threshold,
because pools that the budget allows stay open when the work is done. The probe lets producers run
and judges by readings taken since they really run. An unknown reading neither trips nor recovers,
and the time without a reading counts as nothing (P2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Breaker, Trip
from starforge_backlog.api.status import BreakerState, BreakerStatus, RuleStatus
from starforge_backlog.snapshot import (
    Confidence,
    Known,
    Outcomes,
    QueueReading,
    Reading,
    Unknown,
    Why,
)

# The trip value itself, in percent of the trip value.
TRIPPED = 100
# No signal recovers closer to its trip value than this, in percent of it, or it would flap.
NEAR_TRIP = 90
# An open breaker waits this much longer before each further probe that failed.
PROBE_BACKOFF = 2
# ... but never longer: at 3 a.m. a pause must end by itself once the cause is gone.
LONGEST_OPEN = timedelta(minutes=30)
# A breaker that stayed closed for this long has had its calm: the next opening counts as first.
CALM = timedelta(minutes=30)
# Before every moment that a status can hold; earlier than any comparison needs.
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Level:
    """Where a rule's signal stands. `percent_of_trip` is 100 at the trip value.

    `enough` is false for a ratio of too few samples: that neither trips nor holds a breaker open,
    or a paused queue, where nothing ends, could never be probed.
    """

    percent_of_trip: float
    text: str
    at: datetime  # when it was read
    covers_since: datetime  # a ratio covers the time from here to `at`; others only `at`
    at_least: bool = False
    enough: bool = True

    @property
    def exceeds(self) -> bool:
        """At or above the trip value, by enough samples."""
        return self.enough and self.percent_of_trip >= TRIPPED


Signal = Level | Unknown


def step(
    breaker: Breaker,
    before: BreakerStatus | None,
    queues: Mapping[str, QueueReading],
    utilization: Reading[float],
    now: datetime,
    *,
    held: bool = False,
    released_at: datetime | None = None,
    pressure_percent: int = 0,
) -> BreakerStatus:
    """The breaker's next state. Pure: everything it remembers is in `before`.

    `held` says that one of its producers is still paused by us, and `released_at` when we released
    one last: a probe is none before all of them run. `pressure_percent` is the utilization from
    which on the database counts as under pressure.
    """
    status = before or BreakerStatus(name=breaker.name)
    signals = [signal(trip, breaker, queues, utilization) for trip in breaker.trip]
    remembered = {rule.signal: rule for rule in status.rules}
    rules = tuple(
        _remember(
            trip,
            remembered.get(name(trip)),
            sig,
            _recovers_at(trip, breaker.recover.below, pressure_percent),
            now,
        )
        for trip, sig in zip(breaker.trip, signals, strict=True)
    )
    status = status.model_copy(update={"rules": rules})
    match status.state:
        case BreakerState.CLOSED:
            return _closed(breaker, status, signals, now)
        case BreakerState.OPEN:
            return _open(breaker, status, signals, now)
        case BreakerState.HALF_OPEN:
            began = max(m for m in (status.since, released_at, _LONG_AGO) if m is not None)
            return _half_open(breaker, status, signals, now, began=began, held=held)


def stop_clocks(status: BreakerStatus, now: datetime) -> BreakerStatus:
    """Nobody looks (suspended, held by annotation): time that passes is a gap, as if unknown."""
    rules = tuple(_gap(rule, now) for rule in status.rules)
    return status if rules == status.rules else status.model_copy(update={"rules": rules})


def readable(
    breaker: Breaker, queues: Mapping[str, QueueReading], utilization: Reading[float]
) -> bool:
    """Whether every signal is known now: nothing is resumed while one is not (P2)."""
    return not any(
        isinstance(signal(trip, breaker, queues, utilization), Unknown) for trip in breaker.trip
    )


def name(trip: Trip) -> str:
    """The signal a rule looks at, with its value: the key under which its memory is kept."""
    if trip.waiting is not None:
        return f"waiting>={trip.waiting}"
    if trip.oldest_age is not None:
        return f"oldestAge>={format_duration(trip.oldest_age)}"
    if trip.failed_percent is not None:
        return f"failedPercent>={trip.failed_percent}"
    return f"databaseUtilizationPercent>={trip.database_utilization_percent}"


def signal(
    trip: Trip,
    breaker: Breaker,
    queues: Mapping[str, QueueReading],
    utilization: Reading[float],
) -> Signal:
    """The rule's signal over the queues of the breaker (all, when it names none)."""
    chosen = [q for n, q in queues.items() if not breaker.queues or n in breaker.queues]
    if trip.waiting is not None:
        return _waiting(trip.waiting, chosen)
    if trip.oldest_age is not None:
        return _oldest(trip.oldest_age, chosen)
    if trip.failed_percent is not None:
        return _failed(trip.failed_percent, trip.min_samples, chosen)
    value = trip.database_utilization_percent or 0
    match utilization:
        case Known(used, at):
            text = f"database connections {used:.0f}% (trips at {value}%)"
            return Level(100 * used / value, text, at=at, covers_since=at)
        case Unknown() as unknown:
            return unknown


def _waiting(value: int, queues: list[QueueReading]) -> Signal:
    total, at_least, oldest_reading = 0, False, None
    for queue in queues:
        match queue.waiting:
            case Known(count, at):
                total += count.value
                at_least = at_least or count.confidence is Confidence.AT_LEAST
                oldest_reading = at if oldest_reading is None else min(oldest_reading, at)
            case Unknown() as unknown:
                return unknown
    if oldest_reading is None:
        return _no_queue()
    text = f"{total} waiting (trips at {value})"
    return Level(
        100 * total / value, text, at=oldest_reading, covers_since=oldest_reading, at_least=at_least
    )


def _oldest(value: timedelta, queues: list[QueueReading]) -> Signal:
    worst, oldest_reading = timedelta(0), None
    for queue in queues:
        match queue.oldest_due_age:
            case Known(age, at):
                worst = max(worst, age)
                oldest_reading = at if oldest_reading is None else min(oldest_reading, at)
            case Unknown() as unknown:
                return unknown
    if oldest_reading is None:
        return _no_queue()
    text = f"oldest job {format_duration(worst)} (trips at {format_duration(value)})"
    return Level(100 * (worst / value), text, at=oldest_reading, covers_since=oldest_reading)


def _failed(value: int, min_samples: int, queues: list[QueueReading]) -> Signal:
    ended: list[tuple[Outcomes, datetime]] = []
    for queue in queues:
        match queue.outcomes:
            case Known(outcomes, at):
                ended.append((outcomes, at))
            case Unknown(Why.NO_SAMPLES, _, at):
                # Nothing ended: a fact, not a gap. A drained queue under a pause has no outcomes,
                # and waiting for some would be a pause that never ends.
                ended.append((Outcomes(0, 0, timedelta(0)), at))
            case Unknown() as unknown:
                return unknown
    if not ended:
        return _no_queue()
    samples = sum(outcomes.samples for outcomes, _ in ended)
    percent = 100 * sum(outcomes.failed for outcomes, _ in ended) / samples if samples else 0.0
    return Level(
        100 * percent / value,
        f"{percent:.1f}% of {samples} jobs failed (trips at {value}%)",
        at=min(at for _, at in ended),
        covers_since=min(at - outcomes.window for outcomes, at in ended),
        enough=samples >= min_samples,
    )


def _no_queue() -> Unknown:
    """The rules of the CRD forbid a breaker over a queue that the policy has not got."""
    return Unknown(Why.NOT_CONFIGURED, "the breaker names no queue of the policy", _LONG_AGO)


def _recovers_at(trip: Trip, below: int, pressure_percent: int) -> float:
    """The level at which a rule has recovered, in percent of its trip value.

    Half of the connections can be other clients' for good, and workers within their budget fill
    the rest up to the pressure threshold: waiting for less than that is a pause that never ends.
    """
    if trip.database_utilization_percent is None:
        return below
    calm = 100 * (pressure_percent - 1) / trip.database_utilization_percent
    return max(below, min(calm, NEAR_TRIP))


def _remember(
    trip: Trip, before: RuleStatus | None, sig: Signal, below: float, now: datetime
) -> RuleStatus:
    """Move a rule's clocks. A gap in the readings shifts them: it counts as nothing."""
    rule = before or RuleStatus(signal=name(trip))
    if isinstance(sig, Unknown):
        return _gap(rule, now)
    gap_length = now - rule.unknown_since if rule.unknown_since else timedelta(0)
    recovered = not sig.enough or (sig.percent_of_trip <= below and not sig.at_least)
    return RuleStatus(
        signal=rule.signal,
        exceeded_since=_since(rule.exceeded_since, sig.exceeds, gap_length, now),
        recovered_since=_since(rule.recovered_since, recovered, gap_length, now),
    )


def _gap(rule: RuleStatus, now: datetime) -> RuleStatus:
    """A rule that cannot be read: what it was counting waits from here."""
    counting = rule.exceeded_since or rule.recovered_since
    if rule.unknown_since is not None or counting is None:
        return rule
    return rule.model_copy(update={"unknown_since": now})


def _since(since: datetime | None, holds: bool, gap: timedelta, now: datetime) -> datetime | None:
    if not holds:
        return None
    # A clock that went back must not make a rule wait for the future.
    return now if since is None else min(now, since + gap)


def _closed(
    breaker: Breaker, status: BreakerStatus, signals: list[Signal], now: datetime
) -> BreakerStatus:
    for trip, rule, sig in zip(breaker.trip, status.rules, signals, strict=True):
        if isinstance(sig, Unknown) or rule.exceeded_since is None:
            continue
        if now - rule.exceeded_since >= trip.for_:
            calm = status.since is not None and now - status.since >= CALM
            trips = 1 if calm else status.trips + 1
            why = f"{sig.text} for {format_duration(now - rule.exceeded_since)}"
            return _to(status, BreakerState.OPEN, why, now, trips)
    # Without a breaker's past nothing is remembered of a calm one: `recovered_since` of a closed
    # breaker would be rewritten with every wobble.
    return status.model_copy(
        update={
            "rules": tuple(r.model_copy(update={"recovered_since": None}) for r in status.rules)
        }
    )


def _open(
    breaker: Breaker, status: BreakerStatus, signals: list[Signal], now: datetime
) -> BreakerStatus:
    if any(isinstance(sig, Unknown) for sig in signals):
        return status
    since = [rule.recovered_since for rule in status.rules]
    if any(moment is None for moment in since):
        return status
    calm_since = max(moment for moment in since if moment is not None)
    longest = breaker.recover.for_ * PROBE_BACKOFF ** max(0, min(status.trips, 16) - 1)
    open_for = max(breaker.recover.for_, min(longest, LONGEST_OPEN))
    opened = status.since or now
    if now - calm_since >= breaker.recover.for_ and now - opened >= open_for:
        why = f"below {breaker.recover.below}% for {format_duration(now - calm_since)}; probing"
        return _to(status, BreakerState.HALF_OPEN, why, now, status.trips)
    return status


def _half_open(
    breaker: Breaker,
    status: BreakerStatus,
    signals: list[Signal],
    now: datetime,
    *,
    began: datetime,
    held: bool,
) -> BreakerStatus:
    levels = [sig for sig in signals if isinstance(sig, Level) and sig.at > began]
    # A window that began before the probe still holds the failures that opened the breaker: it
    # cannot condemn the probe, but while it is bad it cannot acquit it either.
    bad = [level for level in levels if level.exceeds]
    for level in bad:
        if level.covers_since >= began:
            why = f"the probe failed: {level.text}"
            return _to(status, BreakerState.OPEN, why, now, status.trips + 1)
    if held or now - began < breaker.recover.probe_for:
        return status
    if bad or len(levels) < len(signals):
        return status  # not judged yet: unknown never closes a breaker
    why = f"the probe of {format_duration(breaker.recover.probe_for)} passed"
    return _to(status, BreakerState.CLOSED, why, now, status.trips)


def _to(
    status: BreakerStatus, state: BreakerState, why: str, now: datetime, trips: int
) -> BreakerStatus:
    """A transition: clocks start anew."""
    return BreakerStatus(
        name=status.name,
        state=state,
        since=now,
        why=why,
        trips=trips,
        rules=tuple(RuleStatus(signal=rule.signal) for rule in status.rules),
    )
