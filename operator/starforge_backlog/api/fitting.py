"""Cuts what a status shows until it fits into `MOST_STATUS_BYTES`; what it remembers stays.

The last line of defence: adapters shorten what they read. Two rounds: each text and list to its own
bound (`api/bounds.py`), then, where hostile input fills them all, to a part of it. What is cut
stays the same when it is cut again, so a steady status is written once.
"""

from __future__ import annotations

import json
import operator
from enum import Enum
from functools import cache
from typing import Final, TypeVar, get_args

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import MOST_STATUS_BYTES, Shown
from starforge_backlog.api.breaker_status import PauseState, PauseStatus
from starforge_backlog.api.memory import apart
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.status import MOST_PAUSES, QueueBacklogPolicyStatus

S = TypeVar("S", bound=StatusModel)

# The last part of their bounds to which texts are cut: 20 characters, two items.
LEAST_PART: Final = 64
LEAST_CHARACTERS: Final = 20
LEAST_ITEMS: Final = 2
# Lists whose items are distinguished by a field.
_KEYS: Final = {"queues": "name", "breakers": "name", "paused": "producer", "conditions": "type"}
# The API server writes these in six bytes, for the sake of browsers.
_ESCAPED: Final = b"<>&"
_ESCAPE_BYTES: Final = len("\\u003c")
# Which pauses stay where a list that others have filled is full: what has to be released first,
# then what a person decided. The others are seen again by the next pass.
_KEEP_FIRST: Final = (
    PauseState.HELD,
    PauseState.INTENDED,
    PauseState.OVERRIDDEN,
    PauseState.CHANGED,
    PauseState.UNRECORDED,
    PauseState.FOREIGN,
    PauseState.REFUSED,
)


def fitted(
    status: QueueBacklogPolicyStatus, most: int = MOST_STATUS_BYTES
) -> QueueBacklogPolicyStatus:
    """The status in at most `most` bytes, unless what it remembers alone takes more; itself where
    nothing has to be cut."""
    status = _without_repetitions(status)
    if len(status.paused) > MOST_PAUSES:
        status = status.model_copy(update={"paused": _first_pauses(status.paused)})
    part, cut = 1, _cut(status, 1)
    while part < LEAST_PART and size(cut) > most:
        part *= 2
        cut = _cut(status, part)
    return cut


def size(status: QueueBacklogPolicyStatus) -> int:
    """Bytes that the API server stores, at most: it writes other characters than ASCII shorter."""
    text = json.dumps(apart(status)).encode()
    return len(text) + (_ESCAPE_BYTES - 1) * sum(text.count(sign) for sign in _ESCAPED)


def _without_repetitions(status: QueueBacklogPolicyStatus) -> QueueBacklogPolicyStatus:
    """The API server refuses a list in which two items have the same key. The last one counts, as
    it does for every reader of a list by its keys."""
    changed = {}
    for name, key in _KEYS.items():
        items = getattr(status, name)
        by_key = {getattr(item, key): item for item in items}
        if len(by_key) < len(items):
            changed[name] = tuple(by_key.values())
    return status.model_copy(update=changed) if changed else status


def _first_pauses(entries: tuple[PauseStatus, ...]) -> tuple[PauseStatus, ...]:
    places = range(len(entries))
    by_need = sorted(places, key=lambda place: _KEEP_FIRST.index(entries[place].state))
    return tuple(entries[place] for place in sorted(by_need[:MOST_PAUSES]))


def _cut(model: S, part: int) -> S:
    """The model with each text and list cut to that part of its bound."""
    changed: dict[str, object] = {}
    for name, shown in _fields(type(model)):
        value = getattr(model, name)
        new = _fit(value, shown, part)
        if new is not value:
            changed[name] = new
    return model.model_copy(update=changed) if changed else model


@cache
def _fields(model: type[StatusModel]) -> tuple[tuple[str, Shown | None], ...]:
    """Those that are shown, or hold models; memory, numbers and times are not changed."""
    found = (
        (name, next((m for m in field.metadata if isinstance(m, Shown)), None), field.annotation)
        for name, field in model.model_fields.items()
    )
    return tuple((name, shown) for name, shown, kind in found if shown or _holds_models(kind))


def _holds_models(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, StatusModel):
        return True
    return any(_holds_models(part) for part in get_args(annotation))


def _fit(value: object, shown: Shown | None, part: int) -> object:
    """The value, or what is left of it. Without `shown` only what is in it may be cut."""
    match value:
        case StatusModel():
            return _cut(value, part)
        case tuple() if value and isinstance(value[0], StatusModel):
            kept = value if shown is None else value[: shown.items]
            models = tuple(_cut(item, part) for item in kept)
            same = len(kept) == len(value) and all(map(operator.is_, models, value))
            return value if same else models
        case Enum():
            return value
        case str() if shown is not None:
            return _text(value, _characters(shown, part))
        case tuple() if shown is not None and value:
            return _listed(value, shown, part)
        case dict() if shown is not None and value:
            return _mapped(value, shown, part)
        case _:
            return value


def _characters(shown: Shown, part: int) -> int:
    return max(LEAST_CHARACTERS, shown.characters // part)


def _items(shown: Shown, part: int) -> int | None:
    return None if shown.items is None else max(LEAST_ITEMS, shown.items // part)


def _text(text: str, most: int) -> str:
    return text if len(text) <= most and text.isprintable() else shortened(text, most)


def _listed(texts: tuple[str, ...], shown: Shown, part: int) -> tuple[str, ...]:
    most = _items(shown, part)
    kept = texts
    if most is not None and len(texts) > most:
        kept = (*texts[: most - 1], f"… and {len(texts) - most + 1} more")
    short = tuple(_text(text, _characters(shown, part)) for text in kept)
    return texts if short == texts else short


def _mapped(texts: dict[str, str], shown: Shown, part: int) -> dict[str, str]:
    most, characters = _items(shown, part), _characters(shown, part)
    kept = list(texts.items())
    if most is not None and len(texts) > most:
        kept = [*kept[: most - 1], ("…", f"and {len(texts) - most + 1} more")]
    short = {_text(key, characters): _text(text, characters) for key, text in kept}
    return texts if short == texts else short
