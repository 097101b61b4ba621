"""What to pause and what to release, and whose pause it is (P4: undo only your own).

| entry in status | the producer says            | breaker wants a pause | no breaker wants one |
|-----------------|------------------------------|-----------------------|----------------------|
| none            | running or unknown           | pause (Intended)      | -                    |
| none            | paused by another client     | Foreign               | Foreign              |
| none            | paused under a token of ours | Unrecorded            | Unrecorded           |
| Intended        | any                          | pause again           | settle, then release |
| Held            | running                      | Overridden            | forget               |
| Held            | running, our token is lost   | pause again, once     | forget               |
| Held            | paused, our token and version| -                     | release              |
| Held            | paused, but leaking          | pause again           | release              |
| Held, incomplete| any                          | pause again           | release              |
| Held, resuming  | any                          | pause again           | release the rest     |
| Held            | paused, other version        | Changed               | Changed              |
| Held            | paused, other token          | Foreign               | Foreign              |
| Foreign         | running, their token is gone | pause (Intended)      | forget               |
| Foreign, Changed, Unrecorded | running         | Overridden            | forget               |
| Unrecorded      | paused, other token          | Foreign               | Foreign              |
| Overridden      | running                      | -                     | forget               |
| Overridden      | paused, our token            | Held or Changed       | the same             |
| Overridden      | paused, other token or none  | Foreign               | Foreign              |
| Refused         | any                          | pause again           | forget               |
| Intended, Held  | (of another server)          | -                     | release, which fails |

Lost is a token that a person who resumes would have left there (a BullMQ queue's mark): a failover
to a replica that had not got our pause yet, or a Redis that came back empty. Lost a second time it
is Overridden: another client may take it away with all its traces, and is not fought (P9).

Unrecorded is a pause of ours whose token is not in status: `status.memory` was edited or cleared.
It is neither made again nor resumed; a person gets the statement that releases it. Where nothing
can be read of it any more (the spec has forgotten it, an API that answers no questions), it is
remembered until a person abandons it by annotation.

To pause again is to pause under the same token: nothing new to people, and idempotent.

What a pause covers of a producer of several things is in the entry before the write: ids
(`items.py`), or which due times are ours (jobTypes).

A reading of another server than the one where our pause was made (the value of a Secret changed)
says nothing about the pause; it is neither carried on there nor forgotten (`server_identity.py`).

A pause at a place that the spec names no more has an entry of its own (`moved.py`). It is released
first, and then the new place counts.

A reading taken before our own last write says nothing about it and counts as none. Nothing is
released while a signal of a breaker that pauses the producer cannot be read (P2). What the spec
says cannot be read (`ways.py`) is released by its compare-and-set alone; any other producer
without a reading keeps what is not yet settled.

Several policies may pause one producer. The first one holds it, under its token; when it lets go,
the next one that still wants it paused must not take that for a person's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from starforge_backlog.api.policy import Producer, QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
)
from starforge_backlog.decide.numbers import digits
from starforge_backlog.decide.pauses import items
from starforge_backlog.decide.pauses.moved import formerly, is_former
from starforge_backlog.decide.pauses.server_identity import stored
from starforge_backlog.decide.pauses.standing import (
    OURS,
    after_our_write,
    made_elsewhere,
    renamed,
    turned,
    with_unrecorded,
)
from starforge_backlog.decide.pauses.ways import (
    Proof,
    failed_before,
    in_order_of_mitigation,
    is_background,
    never_readable,
    proof,
)
from starforge_backlog.decide.pauses.whose import observed
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why


@dataclass(frozen=True, slots=True)
class Producers:
    """Pauses and releases in order, and the entries to remember before they are carried out."""

    actions: tuple[Pause | Resume, ...]
    entries: tuple[PauseStatus, ...]


@dataclass(frozen=True, slots=True)
class Pausing:
    """What every pause of a pass is made with."""

    owner: str  # the policy's uid, the first part of each token
    arrivals: float | None  # jobs per second before the pause
    released_at: datetime | None  # when we resumed a producer last
    now: datetime
    abandon: bool = False  # a person gives up what cannot be released, by annotation


def decide_producers(
    spec: QueueBacklogPolicySpec,
    breakers: tuple[BreakerStatus, ...],
    entries: tuple[PauseStatus, ...],
    readings: Mapping[str, Reading[ProducerReading]],
    pausing: Pausing,
    *,
    unreadable: frozenset[str] = frozenset(),
) -> Producers:
    """Walk the table above for each producer of the spec, and release what the spec forgot.

    `unreadable` names the breakers of which a signal cannot be read now.
    """
    owner, now = pausing.owner, pausing.now
    entries = with_unrecorded(entries)
    wanted = _wanted(spec, breakers)
    waiting = {name for b in spec.breakers if b.name in unreadable for name in b.pause}
    names = {producer.name for producer in spec.producers}
    remembered = {entry.producer: entry for entry in entries if entry.producer in names}
    forgotten = {entry.producer: entry for entry in entries if entry.producer not in names}
    for producer in spec.producers:
        if producer.name not in remembered:
            reading = readings.get(producer.name)
            before = renamed(spec, producer, reading, forgotten)
            if before is not None:
                del forgotten[before.producer]
                remembered[producer.name] = before.model_copy(update={"producer": producer.name})
    # The old place first; one that cannot be released keeps the new one from nothing.
    moving = {
        formerly(e)
        for e in forgotten.values()
        if is_former(e) and e.state in OURS and not failed_before(e)
    }
    actions: dict[str, Pause | Resume] = {}
    kept: list[PauseStatus] = []
    for producer in spec.producers:
        name, breaker = producer.name, wanted.get(producer.name)
        entry = remembered.get(name)
        reading = after_our_write(readings.get(name), entry, pausing.released_at)
        action: Pause | Resume | None = None
        elsewhere = made_elsewhere(entry, producer, reading)
        if elsewhere is None:
            entry = observed(entry, producer, reading, owner, breaker is not None, now)
        if elsewhere is not None:
            let_go = breaker is None and name not in waiting
            entry = elsewhere
            action = Resume(elsewhere, "no open breaker pauses it") if let_go else None
        elif breaker is not None:
            if name not in moving:  # else what is paused here stays, and nothing more is
                entry, action = _want(entry, producer, reading, breaker, pausing)
        elif pausing.abandon and _is_given_up(entry, producer):
            entry = None
        elif entry is not None and name not in waiting:
            entry, action = _release(entry, producer, reading, "no open breaker pauses it")
        if action is not None:
            actions[name] = action
        if entry is not None:
            kept.append(entry)
    ordered = [p.name for p in in_order_of_mitigation(spec.producers) if p.name in actions]
    pauses = [found for name in ordered if isinstance(found := actions[name], Pause)]
    releases = [found for name in reversed(ordered) if isinstance(found := actions[name], Resume)]
    tokens = {entry.token for entry in kept}
    for entry in forgotten.values():
        # Taken out of the spec while paused: the entry says where it is. At its former place it is
        # a pause of its own, also where a copy of that place came along with our token in it.
        if entry.state in OURS and (is_former(entry) or entry.token not in tokens):
            what = "place" if is_former(entry) else "producer"
            releases.append(Resume(entry, f"the policy names this {what} no more"))
            kept.append(entry)
        elif entry.state is PauseState.UNRECORDED and not pausing.abandon:
            kept.append(entry)
    return Producers((*pauses, *releases), tuple(kept))


def release_all(entries: tuple[PauseStatus, ...], why: str) -> Producers:
    """Release whatever we paused: the policy is deleted or switched to `Observe` (P4).

    Does not wait for readings: the release itself is a compare-and-set. Backwards as any recovery;
    what could not be released before comes last, because the first failure keeps those after it
    waiting.
    """
    entries = with_unrecorded(entries)
    ours = [e for e in entries if e.state in OURS]
    ours.sort(key=lambda entry: (failed_before(entry), not is_background(entry.locator)))
    return Producers(tuple(Resume(entry, why) for entry in ours), entries)


def _is_given_up(entry: PauseStatus | None, producer: Producer) -> bool:
    unrecorded = entry is not None and entry.state is PauseState.UNRECORDED
    return unrecorded and never_readable(producer)


def _wanted(
    spec: QueueBacklogPolicySpec, breakers: tuple[BreakerStatus, ...]
) -> dict[str, BreakerStatus]:
    """Producers that some open breaker pauses, with the first such breaker."""
    by_name = {breaker.name: breaker for breaker in breakers}
    wanted: dict[str, BreakerStatus] = {}
    for breaker in spec.breakers:
        status = by_name.get(breaker.name)
        if status is not None and status.state is BreakerState.OPEN:
            for producer in breaker.pause:
                wanted.setdefault(producer, status)
    return wanted


def _want(
    entry: PauseStatus | None,
    producer: Producer,
    reading: Reading[ProducerReading] | None,
    breaker: BreakerStatus,
    pausing: Pausing,
) -> tuple[PauseStatus | None, Pause | None]:
    """A breaker is open: pause, unless it is paused, or a person decided otherwise."""
    name, arrivals, now = producer.name, pausing.arrivals, pausing.now
    seen = reading.value if isinstance(reading, Known) else None
    if entry is None or (entry.state is PauseState.REFUSED and not entry.token):
        entry = PauseStatus(
            producer=name,
            by=PausedBy.US,
            state=PauseState.INTENDED,
            since=now,
            breaker=breaker.name,
            # Unique without randomness: one policy cannot pause one producer twice at one moment.
            token=f"{pausing.owner}/{name}/{now.isoformat(timespec='milliseconds')}",
            arrivals_before=None if arrivals is None else digits(arrivals, 2),
        )
    carried_on = entry.state is PauseState.HELD
    if carried_on and not _goes_on(entry, seen):
        if entry.failed and seen is not None:  # a release that failed, and is not wanted any more
            entry = entry.model_copy(update={"failed": False, "message": ""})
        return entry, None
    if not carried_on and entry.state not in {PauseState.INTENDED, PauseState.REFUSED}:
        return entry, None
    entry = _prepared(entry, producer, seen)
    return entry, Pause(
        producer=name,
        breaker=breaker.name,
        token=entry.token,
        why=breaker.message,
        plan=entry.previous if producer.planned else None,
        way=producer.way[0],
        # What was resumed in part and is paused again is news.
        again=carried_on and entry.progress is not PauseProgress.RESUMING,
    )


def _prepared(entry: PauseStatus, producer: Producer, seen: ProducerReading | None) -> PauseStatus:
    """What stands in status before the write: where it is made, and what it may cover."""
    update: dict[str, object] = {}
    here = stored(seen.where) if seen is not None else ""
    if entry.state is PauseState.REFUSED:
        # Nothing of it was done, wherever that was. What may be done now is remembered as such.
        update["server"] = here
        if _fixed(entry, producer, seen):
            update["state"] = PauseState.INTENDED
    elif not entry.server:
        update["server"] = here
    if seen is not None and seen.plan is not None:
        whole = seen.plan if producer.job_types is not None else items.extended(entry, seen.plan)
        update["previous"] = whole
    return entry.model_copy(update=update)


def _fixed(entry: PauseStatus, producer: Producer, seen: ProducerReading | None) -> bool:
    """Whether a pause that was refused may succeed now. Rows of a table read the same while
    they refuse: called intended, they would have the status written twice with every pass."""
    way, place = producer.way[0], producer.way[1].model_dump_json(by_alias=True)
    moved = bool(entry.locator) and entry.locator.get(way) != place
    return moved or (seen is not None and not producer.planned)


def _goes_on(entry: PauseStatus, seen: ProducerReading | None) -> bool:
    """Whether there is more to pause under the same token."""
    return not entry.progress.is_whole or (seen is not None and seen.leaking)


def _release(
    entry: PauseStatus, producer: Producer, reading: Reading[ProducerReading] | None, why: str
) -> tuple[PauseStatus | None, Resume | None]:
    """No breaker wants it any more: release what is ours, keep what is others', forget the rest."""
    match entry.state:
        case PauseState.HELD:
            return entry, Resume(entry, why)
        case PauseState.INTENDED:
            return _settle(entry, producer, reading, why)
        case PauseState.OVERRIDDEN | PauseState.REFUSED:
            return None, None
        case PauseState.FOREIGN | PauseState.CHANGED | PauseState.UNRECORDED:
            return entry, None


def _settle(
    entry: PauseStatus, producer: Producer, reading: Reading[ProducerReading] | None, why: str
) -> tuple[PauseStatus | None, Resume | None]:
    """Killed between intent and write, and the breaker recovered meanwhile: did it happen?"""
    if not isinstance(reading, Known):
        by_design = isinstance(reading, Unknown) and reading.why is Why.NOT_CONFIGURED
        if by_design and never_readable(producer):
            return entry, Resume(entry, why)
        return entry, None
    seen = reading.value
    if seen.value is FlagValue.RUNNING:
        return None, None
    if seen.token is not None and seen.token == entry.token:
        held = turned(entry, PauseState.HELD, version=seen.version)
        return held, Resume(held, why)
    if seen.token is not None:
        return None, None
    match proof(producer):
        case Proof.TOKEN:
            return None, None  # no mark of ours: paused by another client, or by the operator
        case Proof.BY_RESUMING:
            return entry, Resume(entry, why)
        case Proof.NOTHING:
            # Neither released nor forgotten in silence.
            message = (
                "paused by the operator or by another client, which is not known; resume it by hand"
            )
            return turned(entry, PauseState.CHANGED, message), None
