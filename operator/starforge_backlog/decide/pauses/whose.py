"""What the producer's own state makes of its entry: whose pause is it (P4)? Pure.

The rows are those of the table in `pausing.py`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from starforge_backlog.api.breaker_status import FOREIGN_TOKEN_CHARACTERS
from starforge_backlog.api.policy import Producer
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.status import PausedBy, PauseProgress, PauseState, PauseStatus
from starforge_backlog.decide.pauses.server_identity import stored
from starforge_backlog.decide.pauses.standing import no_record, turned
from starforge_backlog.decide.pauses.ways import carries_token
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading

# The token of any policy: `<owner uid>/<producer>/<time>`, see `pausing.py`. People write no
# such thing, and a longer text that was cut for status does not end in a time.
_POLICYS_TOKEN: Final = re.compile(r"[^/\s]+/[^/\s]+/\d{4}[-0-9T:.+Z]*")


def observed(
    entry: PauseStatus | None,
    producer: Producer,
    reading: Reading[ProducerReading] | None,
    owner: str,
    wanted: bool,
    now: datetime,
) -> PauseStatus | None:
    """What the producer's own state makes of the entry."""
    if not isinstance(reading, Known):
        return entry
    seen = reading.value
    if lacks_record(entry, seen, owner):
        return _unrecorded(entry, producer.name, seen, now)
    if entry is None:
        return None if seen.value is FlagValue.RUNNING else _of_others(producer.name, seen, now)
    if entry.state in {PauseState.INTENDED, PauseState.REFUSED}:
        return entry
    if seen.value is FlagValue.RUNNING:
        return _found_running(entry, seen, wanted, now)
    if entry.state is PauseState.HELD:
        return _still_ours(entry, producer, seen)
    if entry.state is PauseState.OVERRIDDEN:
        if seen.token is not None and seen.token == entry.token:
            # Paused under our token after all: forgetting it would leave it paused for ever.
            return _still_ours(turned(entry, PauseState.HELD, by=PausedBy.US), producer, seen)
        return _foreign(
            entry, seen, "paused by another client after the operator's pause was removed"
        )
    if entry.state is PauseState.UNRECORDED:
        return _foreign(entry, seen, "it has another owner's token now")
    if entry.state is PauseState.FOREIGN and entry.foreign_token != _theirs(seen):
        return entry.model_copy(update={"foreign_token": _theirs(seen)})
    return entry


def lacks_record(entry: PauseStatus | None, seen: ProducerReading, owner: str) -> bool:
    """Whether what is paused there is ours, and status has no record of it.

    A token that begins with the policy's uid proves whose pause it was, and not what became of it:
    the record may have been settled since. So it is not resumed (see `Unrecorded` in `pausing.py`).
    """
    ours = seen.token is not None and seen.token.startswith(f"{owner}/")
    if seen.value is FlagValue.RUNNING:
        return False
    match entry.state if entry is not None else None:
        case None:
            return ours
        case PauseState.UNRECORDED:
            return ours or not seen.token
        case PauseState.FOREIGN:  # it was not read before it was to be paused
            return ours and entry is not None and seen.token != entry.token
        case _:
            return False


def _unrecorded(
    entry: PauseStatus | None, producer: str, seen: ProducerReading, now: datetime
) -> PauseStatus:
    message = no_record(seen.release)
    if entry is None:
        return PauseStatus(
            producer=producer,
            by=PausedBy.US,
            state=PauseState.UNRECORDED,
            since=now,
            message=message,
        )
    if entry.state is PauseState.UNRECORDED:
        return entry.model_copy(update={"message": message})
    return turned(entry, PauseState.UNRECORDED, message, by=PausedBy.US, foreign_token="")


def _of_others(producer: str, seen: ProducerReading, now: datetime) -> PauseStatus:
    return PauseStatus(
        producer=producer,
        by=PausedBy.OTHER,
        state=PauseState.FOREIGN,
        since=now,
        foreign_token=_theirs(seen),
        message=f"paused by {seen.writer or 'another client'}, which has to resume it",
    )


def _found_running(
    entry: PauseStatus, seen: ProducerReading, wanted: bool, now: datetime
) -> PauseStatus | None:
    if not wanted:
        return None
    # A policy takes its token along; one that stays behind is left by a person's own UPDATE.
    if (
        entry.state is PauseState.FOREIGN
        and _POLICYS_TOKEN.fullmatch(entry.foreign_token)
        and _theirs(seen) != entry.foreign_token
    ):
        return None  # nobody holds it any more: paused again, under a token of ours
    if entry.state is PauseState.OVERRIDDEN:
        return entry
    lost = seen.leaves_token and seen.token != entry.token
    if entry.state is PauseState.HELD and lost and entry.progress is not PauseProgress.RENEWED:
        message = (
            "the operator's pause was lost (a failover, or a Redis restart without its data) and is"
            " set again"
        )
        return turned(entry, PauseState.INTENDED, message, progress=PauseProgress.RENEWED)
    if entry.state is PauseState.UNRECORDED:
        message = (
            "it runs, and status.memory has no record of its pause; it is not paused again until"
            " the breaker has closed"
        )
        return turned(entry, PauseState.OVERRIDDEN, message, by=PausedBy.OTHER, since=now)
    message = (
        f"{seen.writer or 'another client'} resumed it while the breaker is open; respected until"
        " it closes"
    )
    return turned(entry, PauseState.OVERRIDDEN, message, by=PausedBy.OTHER, since=now)


def _still_ours(entry: PauseStatus, producer: Producer, seen: ProducerReading) -> PauseStatus:
    if seen.token is not None and seen.token != entry.token:
        return _foreign(entry, seen, "it has another owner's token now")
    if not entry.version and seen.token:
        return entry.model_copy(update={"version": seen.version})
    if seen.version != entry.version:
        message = (
            f"{seen.writer or 'another client'} overwrote the operator's pause; resume it by hand"
            " when it is safe"
        )
        return turned(entry, PauseState.CHANGED, message)
    if not entry.server and seen.where and seen.token and carries_token(producer):
        # An entry of an older version.
        return entry.model_copy(update={"server": stored(seen.where)})
    return entry


def _foreign(entry: PauseStatus, seen: ProducerReading, message: str) -> PauseStatus:
    return turned(
        entry, PauseState.FOREIGN, message, by=PausedBy.OTHER, foreign_token=_theirs(seen)
    )


def _theirs(seen: ProducerReading) -> str:
    """Their token, as status can hold it: anybody may have written any text there."""
    return shortened(seen.token or "", FOREIGN_TOKEN_CHARACTERS)
