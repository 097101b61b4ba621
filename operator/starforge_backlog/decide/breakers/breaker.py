"""Circuit breakers: closed → open → half-open → closed (runbook, *Add circuit breakers*).

A rule trips when its signal has been at or above its value for its time. An open breaker dares a
probe (half-open) when every rule has been at or below `recover.belowPercent` of its value for
`recover.for` - connections in use already when they are below the database's pressure threshold,
because pools that the budget allows stay open when the work is done. The probe lets producers run
and judges by readings taken since they really run. An unknown reading neither trips nor recovers,
and the time without a reading, or without a running operator, counts as nothing (P2). What can
never be read is in `unreadable.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Breaker, Trip
from starforge_backlog.api.status import BreakerState, BreakerStatus, RuleStatus
from starforge_backlog.decide.breakers.signals import LONG_AGO, Level, Rules, Signal, name
from starforge_backlog.decide.breakers.unreadable import decisive
from starforge_backlog.snapshot import Unknown

# No signal recovers closer to its trip value than this, in percent of it, or it would flap.
NEAR_TRIP = 90
# An open breaker waits this much longer before each further probe that failed.
PROBE_BACKOFF = 2
# ... but never longer: at 3 a.m. a pause must end by itself once the cause is gone.
# Openings in a row; more of them make the next probe wait no longer.
MOST_TRIPS = 16
LONGEST_OPEN = timedelta(minutes=30)
# While a rule's time runs, status says this often that the rules were evaluated: a write to the API
# server each time, but only then (P7).
SEEN_EVERY = timedelta(seconds=30)
# Longer than that and this many intervals without a pass is a gap: the operator was down, or the
# clock jumped. A restart or a slow pass is none.
GAP_INTERVALS = 3
# A breaker that stayed closed for this long has had its calm: the next opening counts as first.
CALM = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Producing:
    """Whether the producers of a breaker run: a probe is none before all of them do."""

    held: bool = False  # one is still paused, by us or by another client
    freed: bool = False  # others released one just now
    released_at: datetime | None = None  # when we released one last


@dataclass(frozen=True, slots=True)
class Limits:
    """What the policy says beside the breaker."""

    interval: timedelta  # between two passes
    pressure_percent: int = 0  # utilization from which on the database is under pressure


def step(
    breaker: Breaker,
    before: BreakerStatus | None,
    found: Rules,
    producing: Producing,
    limits: Limits,
    now: datetime,
) -> BreakerStatus:
    """The breaker's next state. Pure: everything it remembers is in `before`.

    `found` is what its rules see now (`signals`).
    """
    status = _after_a_gap(before or BreakerStatus(name=breaker.name), limits.interval, now)
    remembered = {rule.signal: rule for rule in status.rules}
    rules = tuple(
        _remember(
            trip,
            remembered.get(name(trip)),
            sig,
            recovers_at(trip, breaker.recover.below_percent, limits.pressure_percent),
            now,
        )
        for trip, sig in found
    )
    status = status.model_copy(update={"rules": rules})
    match status.state:
        case BreakerState.CLOSED:
            after = _closed(status, found, now)
        case BreakerState.OPEN:
            after = _open(breaker, status, found, now)
        case BreakerState.HALF_OPEN:
            if producing.freed:
                status = status.model_copy(update={"since": now})
            after = _half_open(breaker, status, found, producing, now)
    return _seen(after, found, now)


def with_owners(status: BreakerStatus, owners: tuple[str, ...]) -> BreakerStatus:
    """Whom the breaker concerns is named while it is not closed."""
    named = owners if status.state is not BreakerState.CLOSED else ()
    return status if status.owners == named else status.model_copy(update={"owners": named})


def _after_a_gap(status: BreakerStatus, interval: timedelta, now: datetime) -> BreakerStatus:
    """If no pass ran for longer than between two passes, that time is one without a reading."""
    seen_at = status.seen_at
    if seen_at is None or now - seen_at <= SEEN_EVERY + GAP_INTERVALS * interval:
        return status
    rules = tuple(_gap(rule, seen_at) for rule in status.rules)
    return status.model_copy(update={"rules": rules, "seen_at": None})


def _seen(status: BreakerStatus, found: Rules, now: datetime) -> BreakerStatus:
    """Note the time of this pass, while a time runs that would end without one."""
    runs = {
        BreakerState.CLOSED: any(
            rule.exceeded_since is not None and rule.unknown_since is None for rule in status.rules
        ),
        BreakerState.OPEN: all(
            rule.recovered_since is not None
            for rule, (_, sig) in zip(status.rules, found, strict=True)
            if isinstance(sig, Level)
        )
        and decisive(found),
        BreakerState.HALF_OPEN: False,  # judged by fresh readings, not by how long they lasted
    }[status.state]
    seen_at = status.seen_at if runs else None
    if runs and (seen_at is None or now - seen_at >= SEEN_EVERY):
        seen_at = now
    return status if seen_at == status.seen_at else status.model_copy(update={"seen_at": seen_at})


def stop_clocks(status: BreakerStatus, interval: timedelta, now: datetime) -> BreakerStatus:
    """No signal is read (suspended, held by annotation): the time is a gap, as if unknown."""
    status = _after_a_gap(status, interval, now)
    rules = tuple(_gap(rule, now) for rule in status.rules)
    return status if rules == status.rules else status.model_copy(update={"rules": rules})


def recovers_at(trip: Trip, below: int, pressure_percent: int) -> float:
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
    recovered = not sig.enough or sig.percent_of_trip <= below
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


def _closed(status: BreakerStatus, found: Rules, now: datetime) -> BreakerStatus:
    for rule, (trip, sig) in zip(status.rules, found, strict=True):
        if isinstance(sig, Unknown) or rule.exceeded_since is None:
            continue
        if now - rule.exceeded_since >= trip.for_:
            calm = status.since is not None and now - status.since >= CALM
            trips = 1 if calm else _once_more(status.trips)
            why = f"{sig.text} for {format_duration(now - rule.exceeded_since)}"
            return _to(status, BreakerState.OPEN, why, now, trips)
    # Without a breaker's past nothing is remembered of a calm one: `recovered_since` of a closed
    # breaker would be rewritten with every wobble.
    return status.model_copy(
        update={
            "rules": tuple(r.model_copy(update={"recovered_since": None}) for r in status.rules)
        }
    )


def _open(breaker: Breaker, status: BreakerStatus, found: Rules, now: datetime) -> BreakerStatus:
    if not decisive(found):
        return status
    since = [
        rule.recovered_since
        for rule, (_, sig) in zip(status.rules, found, strict=True)
        if isinstance(sig, Level)
    ]
    if any(moment is None for moment in since):
        return status
    calm_since = max(moment for moment in since if moment is not None)
    longest = breaker.recover.for_ * PROBE_BACKOFF ** max(0, min(status.trips, MOST_TRIPS) - 1)
    open_for = max(breaker.recover.for_, min(longest, LONGEST_OPEN))
    opened = status.since or now
    if now - calm_since >= breaker.recover.for_ and now - opened >= open_for:
        calm = format_duration(now - calm_since)
        why = f"below {breaker.recover.below_percent}% for {calm}; probing"
        return _to(status, BreakerState.HALF_OPEN, why, now, status.trips)
    return status


def _half_open(
    breaker: Breaker, status: BreakerStatus, found: Rules, producing: Producing, now: datetime
) -> BreakerStatus:
    began = max(m for m in (status.since, producing.released_at, LONG_AGO) if m is not None)
    known = [sig for _, sig in found if isinstance(sig, Level)]
    levels = [sig for sig in known if sig.at > began]
    # A window that began before the probe still holds the failures that opened the breaker: it
    # cannot condemn the probe, but while it is bad it cannot acquit it either.
    bad = [level for level in levels if level.exceeds]
    for level in bad:
        if level.covers_since >= began:
            why = f"the probe failed: {level.text}"
            return _to(status, BreakerState.OPEN, why, now, _once_more(status.trips))
    if producing.held or now - began < breaker.recover.probe_for:
        return status
    if bad or len(levels) < len(known) or not decisive(found):
        return status  # not judged yet: unknown never closes a breaker
    why = f"the probe of {format_duration(breaker.recover.probe_for)} passed"
    return _to(status, BreakerState.CLOSED, why, now, status.trips)


def _once_more(trips: int) -> int:
    """Counted as far as it makes the next probe wait longer; status may have been edited."""
    return min(trips, MOST_TRIPS) + 1


def _to(
    status: BreakerStatus, state: BreakerState, why: str, now: datetime, trips: int
) -> BreakerStatus:
    """A transition: clocks start again."""
    return BreakerStatus(
        name=status.name,
        state=state,
        since=now,
        message=why,
        trips=trips,
        rules=tuple(RuleStatus(signal=rule.signal) for rule in status.rules),
    )
