"""Which producers stand still, whoever paused them, and which entry is about which producer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from starforge_backlog.api.policy import Producer, QueueBacklogPolicySpec
from starforge_backlog.api.producer import PLANNED
from starforge_backlog.api.status import PauseState, PauseStatus
from starforge_backlog.decide.pauses.server_identity import elsewhere, made_at, same_server
from starforge_backlog.decide.pauses.ways import carries_token
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading

# A pause of ours is in force, or may be.
OURS = frozenset({PauseState.HELD, PauseState.INTENDED})
# Whoever paused it: the operator does not resume it, and no probe is one while it is paused.
BY_HAND = frozenset({PauseState.FOREIGN, PauseState.CHANGED, PauseState.UNRECORDED})

_NO_RECORD: Final = "paused by the operator, and status.memory has no record of that pause"


@dataclass(frozen=True, slots=True)
class Stopped:
    """Producers that do not run, whoever paused them; and those that others let go just now."""

    paused: frozenset[str]
    freed: frozenset[str]


def stopped(
    entries: tuple[PauseStatus, ...],
    readings: Mapping[str, Reading[ProducerReading]],
    released_at: datetime | None,
) -> Stopped:
    """A breaker's probe is none while one of its producers is paused by anybody."""
    remembered = {entry.producer: entry for entry in entries}
    paused, freed = set[str](), set[str]()
    for name in remembered.keys() | readings.keys():
        entry = remembered.get(name)
        reading = after_our_write(readings.get(name), entry, released_at)
        says = reading.value.value if isinstance(reading, Known) else None
        theirs = entry is not None and entry.state in BY_HAND
        ours = entry is not None and entry.state in OURS
        if ours or says is FlagValue.PAUSED or (theirs and says is None):
            paused.add(name)
        elif theirs:
            freed.add(name)
    return Stopped(frozenset(paused), frozenset(freed))


def after_our_write(
    reading: Reading[ProducerReading] | None,
    entry: PauseStatus | None,
    released_at: datetime | None,
) -> Reading[ProducerReading] | None:
    """The reading, unless it is older than what we wrote last: a shared or slow one would call our
    own pause another client's override, and our own release another client's pause."""
    wrote_at = entry.since if entry is not None else released_at
    if isinstance(reading, Known) and wrote_at is not None and reading.at <= wrote_at:
        return None
    return reading


def made_elsewhere(
    entry: PauseStatus | None, producer: Producer, reading: Reading[ProducerReading] | None
) -> PauseStatus | None:
    """The entry of a pause of ours that was made at another server than the one that was read, with
    the fix; None: the reading is about it."""
    if entry is None or entry.state not in OURS or not isinstance(reading, Known):
        return None
    seen = reading.value
    if same_server(made_at(entry), seen.where):
        return None
    if carries_token(producer) and seen.value is FlagValue.PAUSED and seen.token == entry.token:
        return None  # the same one under another name, or moved with all it holds
    message = elsewhere(made_at(entry), seen.where)
    return entry.model_copy(update={"message": message, "failed": True})


def renamed(
    spec: QueueBacklogPolicySpec,
    producer: Producer,
    reading: Reading[ProducerReading] | None,
    forgotten: Mapping[str, PauseStatus],
) -> PauseStatus | None:
    """The entry of a producer that has another name now: what is at the same place, or is paused
    under the entry's token. Released under the old name, it would run in the middle of the storm.

    `forgotten` holds the entries whose producers the spec does not name.
    """
    here = spec.locator(producer)
    token, where = None, None
    if isinstance(reading, Known):
        token, where = reading.value.token, reading.value.where
    for entry in forgotten.values():
        # An entry of an older version does not say behind which Secret its database is.
        same_place = {**here, **entry.locator} == here and bool(entry.locator)
        shown = token and token == entry.token and same_server(made_at(entry), where)
        if same_place or (shown and entry.state in OURS):
            return entry
    return None


def turned(
    entry: PauseStatus, state: PauseState, message: str = "", **changes: object
) -> PauseStatus:
    """The entry in another state. What was said of the one before is over."""
    update = {"state": state, "message": message, "failed": False, **changes}
    return entry.model_copy(update=update)


def with_unrecorded(entries: tuple[PauseStatus, ...]) -> tuple[PauseStatus, ...]:
    """The entries, with each pause of ours whose record is gone as `Unrecorded`.

    Every pause of ours has a token before it is made. Without it (somebody edited or cleared
    `status.memory`) nothing proves that a pause there is still ours, and nothing says what to put
    back: it is neither made again nor resumed.
    """
    return tuple(
        turned(entry, PauseState.UNRECORDED, no_record("")) if _lacks_record(entry) else entry
        for entry in entries
    )


def _lacks_record(entry: PauseStatus) -> bool:
    """What a pause of rows covers is stored before and with it: without, it covers nothing."""
    planned = bool(PLANNED & entry.locator.keys())
    uncovered = entry.state is PauseState.HELD and planned and entry.previous is None
    return entry.state in OURS and (not entry.token or uncovered)


def no_record(release: str) -> str:
    """The sentence for an `Unrecorded` pause. `release`: how a person releases it, where known."""
    how = release or "When it is safe, resume it in its own place"
    return f"{_NO_RECORD}; it is not resumed. {how}"
