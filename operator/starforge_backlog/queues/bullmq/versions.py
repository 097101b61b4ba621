"""Which BullMQ works on a queue, by what it leaves there; and when several do. Pure.

The version in the queue's meta hash is only a hint: whoever opened a Queue last wrote it, and a
dashboard does that too. 5 (and 4) pause a queue by moving all waiting jobs to another list, 6 by a
field alone. Each takes the other's way for something else and then overwrites one list by the
other: 3 of 4 waiting jobs were lost from every list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starforge_backlog.queues.bullmq.queue_state import QueueState

_VERSION = re.compile(r"^bullmq:(\d+)\.")
_LISTED = 5  # the last major that pauses by a list of its own
_MOST_REMEMBERED = 8  # changes of the hint; an upgrade is one

_DANGER = (
    "do not pause or resume it with pause() until all of them run the same major: jobs would be"
    " lost from its lists. The operator's own pause (global concurrency) is safe"
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of the BullMQ versions on a queue."""

    major: int | None = None
    mixed: str = ""  # the evidence that there are several
    stranded: int = 0  # jobs in a list that no worker reads
    hints: tuple[int, ...] = ()  # majors in meta.version, in order of time, without repetitions

    @property
    def text(self) -> str:
        """For people: "BullMQ 5"."""
        return "BullMQ" if self.major is None else f"BullMQ {self.major}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about danger."""
        found = []
        if self.mixed:
            found.append(f"Several majors of BullMQ work on this queue ({self.mixed}); {_DANGER}.")
        if self.stranded:
            found.append(
                f"{self.stranded} jobs are in the list of a paused queue, but the queue is not"
                " paused: no worker takes them. A resume by BullMQ 5 or 6 brings them back; check"
                " first whether both majors work on the queue."
            )
        return tuple(found)


def updated_fleet(state: QueueState, before: Fleet) -> Fleet:
    """What this reading adds to what was known."""
    found = _VERSION.match(state.version)
    hint = int(found[1]) if found else None
    hints = before.hints
    if hint is not None and hints[-1:] != (hint,):
        hints = (*hints, hint)[-_MOST_REMEMBERED:]
    return Fleet(
        major=_major(state, hint),
        mixed=_contradiction(state, hint, hints),
        stranded=0 if state.meta_paused else state.paused,
        hints=hints,
    )


def _major(state: QueueState, hint: int | None) -> int | None:
    newer = state.marker or state.new_style > 0
    if (state.old_style or state.markers) and not newer:
        return 4
    if hint is not None:
        return hint
    return _LISTED if state.paused else None


def _contradiction(state: QueueState, hint: int | None, hints: tuple[int, ...]) -> str:
    if state.meta_paused and state.wait and state.paused:
        return "it is paused, and jobs wait both where 5 and where 6 keep them"
    if state.meta_paused and state.paused and hint is not None and hint > _LISTED:
        return f"{hint} wrote the queue's version, and it is paused in the way of 5"
    if state.meta_paused and state.wait and hint is not None and hint <= _LISTED:
        return f"{hint} wrote the queue's version, and it is paused in the way of 6"
    if len(hints) > len(set(hints)):
        return "they take turns in writing the queue's version: " + ", ".join(map(str, hints))
    if state.markers and state.marker:
        return "4 and a later one each left their sign for idle workers"
    return ""
