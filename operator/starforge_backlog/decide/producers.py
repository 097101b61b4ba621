"""What to pause and what to release, and whose pause it is (P4: undo only your own).

| entry in status | the producer says            | breaker wants a pause | no breaker wants one |
|-----------------|------------------------------|-----------------------|----------------------|
| none            | running or unknown           | pause (Intended)      | -                    |
| none            | paused by somebody           | Foreign               | Foreign              |
| none            | paused under a token of ours | Held (status was lost)| Held, then release   |
| Intended        | any                          | pause again           | settle, then release |
| Held            | running                      | Overridden            | forget               |
| Held            | paused, our token and version| -                     | release              |
| Held            | paused, other version        | Changed               | Changed              |
| Held            | paused, other token          | Foreign               | Foreign              |
| Foreign         | running, their token is gone | pause (Intended)      | forget               |
| Foreign, Changed| running                      | Overridden            | forget               |
| Overridden      | running                      | -                     | forget               |
| Overridden      | paused, our token            | Held or Changed       | the same             |
| Overridden      | paused, other token or none  | Foreign               | Foreign              |
| Refused         | any                          | pause again           | forget               |

A reading taken before our own last write says nothing about it and counts as none. Nothing is
released while a signal of a breaker that pauses the producer cannot be read (P2).

Several policies may pause one producer. The first one holds it, under its token; when it lets go,
the next one that still wants it paused must not take that for a person's decision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseState,
    PauseStatus,
)
from starforge_backlog.decide.numbers import digits
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.decide.standing import OURS, after_our_write, renamed
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading

# The token of any policy: `<owner uid>/<producer>/<time>`, see `_want`. People write no such thing.
_POLICYS_TOKEN = re.compile(r"[^/\s]+/[^/\s]+/\d{4}\S*")


@dataclass(frozen=True, slots=True)
class Producers:
    """Pauses and releases in order, and the entries to remember before they are carried out."""

    actions: tuple[Pause | Resume, ...]
    entries: tuple[PauseStatus, ...]


def decide_producers(
    spec: QueueBacklogPolicySpec,
    breakers: tuple[BreakerStatus, ...],
    entries: tuple[PauseStatus, ...],
    readings: Mapping[str, Reading[ProducerReading]],
    owner: str,
    arrivals: float | None,
    now: datetime,
    *,
    unreadable: frozenset[str] = frozenset(),
    released_at: datetime | None = None,
) -> Producers:
    """Walk the table above for each producer of the spec, and release what the spec forgot.

    `unreadable` names the breakers of which a signal cannot be read now, `released_at` is when we
    resumed a producer last.
    """
    wanted = _wanted(spec, breakers)
    waiting = {name for b in spec.breakers if b.name in unreadable for name in b.pause}
    names = {producer.name for producer in spec.producers}
    remembered = {entry.producer: entry for entry in entries if entry.producer in names}
    forgotten = {entry.producer: entry for entry in entries if entry.producer not in names}
    actions: list[Pause | Resume] = []
    kept: list[PauseStatus] = []
    for producer in spec.producers:
        breaker = wanted.get(producer.name)
        entry = remembered.get(producer.name)
        former = renamed(producer, readings.get(producer.name), forgotten)
        if entry is None and former is not None:
            entry = former.model_copy(update={"producer": producer.name})
            del forgotten[former.producer]
        reading = after_our_write(readings.get(producer.name), entry, released_at)
        entry = _observe(entry, producer.name, reading, owner, breaker is not None, now)
        if breaker is not None:
            entry, pause = _want(entry, producer.name, breaker, owner, arrivals, now)
            if pause is not None:
                actions.append(pause)
        elif entry is not None and producer.name not in waiting:
            flag = producer.feature_flag
            marked = flag is None or flag.write_owner
            entry, resume = _release(entry, reading, "the breaker let go", marked=marked)
            if resume is not None:
                actions.append(resume)
        if entry is not None:
            kept.append(entry)
    tokens = {entry.token for entry in kept}
    for entry in forgotten.values():
        # Taken out of the spec while paused: the entry says where it is.
        if entry.state in OURS and entry.token not in tokens:
            actions.append(Resume(entry, "the policy names this producer no more"))
            kept.append(entry)
    return Producers(tuple(actions), tuple(kept))


def release_all(entries: tuple[PauseStatus, ...], why: str) -> Producers:
    """Release whatever we paused: the policy is deleted or switched to `Observe` (P4).

    Does not wait for readings: the release itself is a compare-and-set. What could not be released
    before comes last, because the first failure keeps those after it waiting.
    """
    ours = [e for e in entries if e.state in OURS]
    ours.sort(key=lambda entry: bool(entry.message))
    return Producers(tuple(Resume(entry, why) for entry in ours), entries)


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


def _observe(
    entry: PauseStatus | None,
    producer: str,
    reading: Reading[ProducerReading] | None,
    owner: str,
    wanted: bool,
    now: datetime,
) -> PauseStatus | None:
    """What the producer's own state makes of the entry."""
    if not isinstance(reading, Known):
        return entry
    seen = reading.value
    if entry is None:
        if seen.value is FlagValue.RUNNING:
            return None
        return _found_paused(producer, seen, owner, now)
    if entry.state in {PauseState.INTENDED, PauseState.REFUSED}:
        return entry
    if seen.value is FlagValue.RUNNING:
        return _found_running(entry, seen, wanted, now)
    if entry.state is PauseState.HELD:
        return _still_ours(entry, seen)
    if entry.state is PauseState.OVERRIDDEN:
        if seen.token is not None and seen.token == entry.token:
            # Paused under our token after all: forgetting it would leave it paused for ever.
            return _still_ours(
                entry.model_copy(update={"by": "us", "state": PauseState.HELD}), seen
            )
        return _foreign(entry, seen, "paused by somebody else after our pause was lifted")
    if entry.state is PauseState.FOREIGN and entry.theirs != (seen.token or ""):
        return entry.model_copy(update={"theirs": seen.token or ""})
    return entry


def _found_paused(producer: str, seen: ProducerReading, owner: str, now: datetime) -> PauseStatus:
    if seen.token is not None and seen.token.startswith(f"{owner}/"):
        # The status was lost (restored from a backup, edited): the token still proves the pause.
        return PauseStatus(
            producer=producer,
            by="us",
            state=PauseState.HELD,
            since=now,
            token=seen.token,
            version=seen.version,
            message="found under our own token",
        )
    return PauseStatus(
        producer=producer,
        by="other",
        state=PauseState.FOREIGN,
        since=now,
        theirs=seen.token or "",
        message="paused by somebody else; it stays paused until they resume it",
    )


def _found_running(
    entry: PauseStatus, seen: ProducerReading, wanted: bool, now: datetime
) -> PauseStatus | None:
    if not wanted:
        return None
    # A policy takes its token along; one that stays behind is left by a person's own UPDATE.
    if (
        entry.state is PauseState.FOREIGN
        and _POLICYS_TOKEN.fullmatch(entry.theirs)
        and seen.token != entry.theirs
    ):
        return None  # nobody holds it any more: paused anew, under a token of ours
    if entry.state is PauseState.OVERRIDDEN:
        return entry
    return entry.model_copy(
        update={
            "by": "other",
            "state": PauseState.OVERRIDDEN,
            "since": now,
            "message": "somebody resumed it while the breaker is open; respected until it closes",
        }
    )


def _still_ours(entry: PauseStatus, seen: ProducerReading) -> PauseStatus:
    if seen.token is not None and seen.token != entry.token:
        return _foreign(entry, seen, "another owner's token stands there now")
    if seen.version != entry.version:
        return entry.model_copy(
            update={
                "state": PauseState.CHANGED,
                "message": "somebody wrote over our pause; resume it by hand when it is safe",
            }
        )
    return entry


def _foreign(entry: PauseStatus, seen: ProducerReading, message: str) -> PauseStatus:
    return entry.model_copy(
        update={
            "by": "other",
            "state": PauseState.FOREIGN,
            "theirs": seen.token or "",
            "message": message,
        }
    )


def _want(
    entry: PauseStatus | None,
    producer: str,
    breaker: BreakerStatus,
    owner: str,
    arrivals: float | None,
    now: datetime,
) -> tuple[PauseStatus | None, Pause | None]:
    """A breaker is open: pause, unless it is paused, or a person decided otherwise."""
    if entry is None:
        entry = PauseStatus(
            producer=producer,
            by="us",
            state=PauseState.INTENDED,
            since=now,
            breaker=breaker.name,
            # Unique without randomness: one policy cannot pause one producer twice at one moment.
            token=f"{owner}/{producer}/{now.isoformat(timespec='milliseconds')}",
            arrivals_before=None if arrivals is None else digits(arrivals, 2),
        )
    if entry.state in {PauseState.INTENDED, PauseState.REFUSED}:
        return entry, Pause(producer, breaker.name, entry.token, breaker.why)
    return entry, None


def _release(
    entry: PauseStatus, reading: Reading[ProducerReading] | None, why: str, *, marked: bool
) -> tuple[PauseStatus | None, Resume | None]:
    """No breaker wants it any more: release what is ours, keep what is others', forget the rest."""
    match entry.state:
        case PauseState.HELD:
            return entry, Resume(entry, why)
        case PauseState.INTENDED:
            return _settle(entry, reading, why, marked=marked)
        case PauseState.OVERRIDDEN | PauseState.REFUSED:
            return None, None
        case PauseState.FOREIGN | PauseState.CHANGED:
            return entry, None


def _settle(
    entry: PauseStatus, reading: Reading[ProducerReading] | None, why: str, *, marked: bool
) -> tuple[PauseStatus | None, Resume | None]:
    """Killed between intent and write, and the breaker recovered meanwhile: did it happen?"""
    if not isinstance(reading, Known):
        return entry, None
    seen = reading.value
    if seen.value is FlagValue.PAUSED and not marked:
        # Without a mark nothing proves whose it is: neither released nor forgotten in silence.
        message = "paused by us or by somebody else, which cannot be told; resume it by hand"
        return entry.model_copy(update={"state": PauseState.CHANGED, "message": message}), None
    if seen.value is FlagValue.RUNNING or seen.token != entry.token:
        return None, None
    held = entry.model_copy(update={"state": PauseState.HELD, "version": seen.version})
    return held, Resume(held, why)
