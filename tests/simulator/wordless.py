"""The same values in other words, or in none: what people read is replaced, the rest stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, cast

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import SENTENCE, Shown

T = TypeVar("T")
Change = Callable[[str], str]

# Texts for people in readings, plans and results. A status says of each field what it is.
_TEXTS: Final = frozenset(
    {
        *("message", "why", "how", "notes", "note", "evidence", "scaling_message", "would"),
        *("pressure", "unreadable", "missing", "limited", "limited_by", "longest_is", "blocker"),
        *("not_created_why", "source", "added_up", "complaint", "beside", "shared"),
    }
)
_NOTHING_INSIDE: Final = frozenset({str, int, float, bool, type(None), datetime, timedelta})
# Words that would mislead whoever reads a sentence instead of a value. No semicolon: parts of a
# summary are counted by it.
_TRAPS: Final = (
    "no step needed",
    "system 1/a at b:5432",
    "the queue at 5 at night",
    "spec.queues[].prometheus",
    "Secret db, key K",
    "Unknown: 3/s in",
    "ProducerStorm (earlier)",
    "etl-a: CrashLoopBackOff",
    "a person",
    "Steady",
    "HoldDown",
)


def garbled(value: T, salt: str = "") -> T:
    """The value with other texts. The same text becomes the same one, and none stays none."""

    def other(text: str) -> str:
        digest = hashlib.blake2b(f"{salt}{text}".encode(), digest_size=4)
        trap = _TRAPS[digest.digest()[0] % len(_TRAPS)]
        return f"{trap} {digest.hexdigest()}"

    return cast(T, _changed(value, other))


def without_semicolons(value: T) -> T:
    """The value in our own words, so that parts of a summary can be counted."""
    return cast(T, _changed(value, lambda text: text.replace(";", ",")))


def wordless(value: T) -> T:
    """The value without its texts. Whether there is one stays to be seen."""
    return cast(T, _changed(value, lambda _: "…"))


def _changed(value: Any, change: Change) -> Any:
    kind = type(value)
    if kind in _NOTHING_INSIDE:
        return value
    if issubclass(kind, tuple):
        return tuple(_changed(part, change) for part in value)
    if issubclass(kind, Mapping):
        return {key: _changed(part, change) for key, part in value.items()}
    texts = _texts(kind)
    found = {name: getattr(value, name) for name in texts}
    changed = {
        name: (_text if texts[name] else _changed)(part, change) for name, part in found.items()
    }
    update = {name: part for name, part in changed.items() if part is not found[name]}
    if not update:
        return value
    return (
        value.model_copy(update=update)
        if issubclass(kind, StatusModel)
        else replace(value, **update)
    )


def _texts(kind: type) -> Mapping[str, bool]:
    """The parts of a value of that type, and whether each is text for people."""
    if kind not in _known:
        _known[kind] = _resolved(kind)
    return _known[kind]


_known: dict[type, Mapping[str, bool]] = {}


def _resolved(kind: type) -> Mapping[str, bool]:
    if issubclass(kind, StatusModel):
        return {
            name: any(isinstance(m, Shown) and m.characters >= SENTENCE for m in field.metadata)
            for name, field in kind.model_fields.items()
        }
    if is_dataclass(kind):
        return {field.name: field.name in _TEXTS for field in fields(kind)}
    return {}


def _text(value: Any, change: Change) -> Any:
    """A text, several, or something else under the name of one: a reason that is an enum."""
    if type(value) is str:
        return change(value) if value else value
    if isinstance(value, tuple) and all(type(part) is str for part in value):
        return tuple(change(part) for part in value)
    if isinstance(value, Mapping) and all(type(part) is str for part in value.values()):
        return {key: change(part) for key, part in value.items()}
    return _changed(value, change)
