"""A pause is made only if all that its resume needs fits into status (P6). Pure.

Memory is never cut: half of the rows that a pause covers, or half of a value, could not be put
back. So a pause that might not fit is refused before anything is paused, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from starforge_backlog.api.bounds import MOST_MEMORY_BYTES, MOST_PREVIOUS_BYTES
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import MOST_PAUSES, PauseState, PauseStatus
from starforge_backlog.decide.pauses.items import count
from starforge_backlog.decide.pauses.pausing import Producers
from starforge_backlog.decide.pauses.standing import OURS
from starforge_backlog.decide.plan import Pause, Resume

# What a backfill that may be paused becomes once it is: a version and two fingerprints instead of
# null, with their quotes escaped.
MARK_BYTES: Final = 64
# The names of fields, states, times and numbers of one entry.
_ENTRY_BYTES: Final = 600
_KB: Final = 1024
# The API server writes these in six bytes.
_ESCAPED: Final = "<>&"
_MORE_BYTES: Final = 5


def storable(
    spec: QueueBacklogPolicySpec,
    pauses: Producers,
    before: tuple[PauseStatus, ...],
    most: int = MOST_MEMORY_BYTES,
) -> Producers:
    """Without the pauses whose memory might not fit beside that of the others: those are Refused,
    or, where a part of them is held already, stay as they were in `before`."""
    old = {entry.producer: entry for entry in before}
    pausing = {a.producer: a for a in pauses.actions if isinstance(a, Pause)}
    standing = [e for e in pauses.entries if e.producer not in pausing]
    used = sum(_bytes_of(spec, entry) for entry in standing)
    # A held part has to be released one day: it has its place before anything new.
    used += sum(_bytes_of(spec, old[name]) for name in pausing if _is_ours(old.get(name)))
    places = MOST_PAUSES - sum(e.state in OURS for e in standing)
    refused: dict[str, PauseStatus] = {}
    for entry in pauses.entries:
        if entry.producer not in pausing:
            continue
        past = old.get(entry.producer)
        needs = _bytes_of(spec, entry) + _growth(entry, pausing[entry.producer])
        freed = _bytes_of(spec, past) if past is not None and _is_ours(past) else 0
        if used - freed + needs > most:
            refused[entry.producer] = _refused(entry, past, _too_large(needs, used - freed, most))
        elif places <= 0:
            refused[entry.producer] = _refused(entry, past, _too_many())
        else:
            used += needs - freed
            places -= 1
    if not refused:
        return pauses
    actions: Iterable[Pause | Resume] = (
        a for a in pauses.actions if not (isinstance(a, Pause) and a.producer in refused)
    )
    entries = tuple(refused.get(entry.producer, entry) for entry in pauses.entries)
    return Producers(tuple(actions), entries)


def _is_ours(entry: PauseStatus | None) -> bool:
    return entry is not None and entry.state in OURS


def _bytes_of(spec: QueueBacklogPolicySpec, entry: PauseStatus) -> int:
    """What the memory of a pause takes in a status."""
    texts = [entry.token, entry.version, entry.server, entry.previous or ""]
    producer = spec.producer(entry.producer)
    if entry.locator:
        texts += entry.locator.values()
    elif producer is not None:
        texts += spec.locator(producer).values()  # as it will be noted
    return _ENTRY_BYTES + sum(map(_stored, texts))


def _stored(text: str) -> int:
    return len(json.dumps(text)) + _MORE_BYTES * sum(text.count(sign) for sign in _ESCAPED)


def _growth(entry: PauseStatus, pause: Pause) -> int:
    """What is known only when it is paused: the marks of rows, or the value that stood there."""
    if pause.way == "backfillJobs":
        return MARK_BYTES * count(entry.previous)
    return MOST_PREVIOUS_BYTES


def _refused(entry: PauseStatus, past: PauseStatus | None, why: str) -> PauseStatus:
    if past is not None and _is_ours(past):
        return past.model_copy(update={"message": f"no further part is paused: {why}"})
    update = {"state": PauseState.REFUSED, "previous": None, "failed": False, "message": why}
    return entry.model_copy(update=update)


def _too_large(needs: int, used: int, most: int) -> str:
    return (
        f"what a resume has to put back takes {needs // _KB + 1} kB of status, and {used // _KB} kB"
        f" of {most // _KB} kB are taken by other pauses; nothing was paused. Let fewer things run"
        " under one producer, or split the policy"
    )


def _too_many() -> str:
    return (
        f"status.paused holds {MOST_PAUSES} pauses at most, and is full of those that wait for"
        " their release; nothing was paused. Check their messages"
    )
