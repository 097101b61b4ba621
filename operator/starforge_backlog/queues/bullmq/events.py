"""What happened on a queue lately, from the newest entries of its events (events.lua). Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_ENOUGH_ENTRIES = 50  # of events that stand for more than were read


@dataclass(frozen=True, slots=True)
class Slice:
    """Events since the slice before: all of them if `whole`, else the newest `entries`, which go
    back `seconds`."""

    seconds: float
    whole: bool
    entries: int
    of: int | None = None  # how many there were; None: Redis before 7 does not count them
    added: int = 0
    again: int = 0  # adds of a job that was there already
    replaced: int = 0  # adds that removed a job
    completed: int = 0
    failed: int = 0  # for good
    retried: int = 0  # failed attempts after which the job is tried again
    restarted: int = 0  # put back by hand after they had ended
    removed: int = 0
    heavy: int = 0  # bytes of an entry on average, so many that none was read; 0: they were read
    over: bool = False  # one entry was far larger than all together may be

    @property
    def ended(self) -> int:
        """Jobs that ended, well or badly."""
        return self.completed + self.failed

    @property
    def failed_attempts(self) -> int:
        """Attempts that failed, for good or not."""
        return self.failed + self.retried

    @property
    def representative(self) -> bool:
        """Whether it is enough to stand for all."""
        return self.whole or self.entries >= _ENOUGH_ENTRIES

    @property
    def scale(self) -> float | None:
        """By how much there was more than was read; None where that is not known. Not by time:
        after a burst and a rest the newest events go back far and are few."""
        if self.whole:
            return 1.0
        return None if self.of is None else max(1.0, self.of / max(1, self.entries))


@dataclass(frozen=True, slots=True)
class EventMark:
    """How far the event stream was read."""

    newest: str = ""  # id of the newest entry; "0-0": there was none
    ever: int | None = None  # entries that were ever added


def parse_slice(answer: str, before: EventMark, step: float | None) -> tuple[Slice, EventMark]:
    """From events.lua: the slice, and the mark for the next time.

    `step`: seconds since the sample before.
    """
    said: dict[str, Any] = json.loads(answer)
    if "heavy" in said:
        heavy = Slice(seconds=0.0, whole=False, entries=0, heavy=int(said["heavy"]))
        return heavy, EventMark(before.newest)
    ever = int(said["ever"]) if said["ever"] is not False else None
    of = None if ever is None or before.ever is None else ever - before.ever
    entries, whole = int(said["entries"]), bool(said["whole"])
    if of is not None:
        whole = of == entries
        of = of if of >= entries else None  # another stream than before
    counts = {name: max(0, int(said[name])) for name in _COUNTS}
    return (
        Slice(
            seconds=(int(said["now"]) - int(said["from"])) / 1000,
            whole=whole and step is not None,
            entries=entries,
            of=of,
            over=bool(said["over"]),
            **counts,
        ),
        EventMark(said["newest"], ever),
    )


_COUNTS = (
    "added",
    "again",
    "replaced",
    "completed",
    "failed",
    "retried",
    "restarted",
    "removed",
)
