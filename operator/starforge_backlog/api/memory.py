"""`status.memory`: what later passes need, apart from what people read.

The models keep both together, so that every rule reads one entry of a pause and one of a breaker.
Only on the wire they are apart: a field that is marked `REMEMBERED` (`api/bounds.py`) is in
`status.memory`, under the same path, and an item of a list under the same key. What has its default
is left out, so a policy that holds nothing has no memory.

The operator is its only reader. Without it (edited by hand, cleared by a tool that restores) every
field has its default: clocks start again, and a pause without its token is `Unrecorded`, which is
neither carried on nor resumed (`decide/pauses/standing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import REMEMBERED
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.api.terms import MAP_KEYS, Schema

Json = dict[str, Any]

MEMORY: Final = "memory"


@dataclass(frozen=True, slots=True)
class Field:
    """How a field of a status model is written."""

    name: str
    remembered: bool
    default: object  # as JSON; None: absent
    model: type[StatusModel] | None  # of the value, or of the items of a list
    key: str  # by which the items differ; empty: no such list


def apart(status: QueueBacklogPolicyStatus) -> Json:
    """The status as it is written: people's part, and `memory` where there is any."""
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    shown, memory = _split(QueueBacklogPolicyStatus, dumped)
    return {**shown, MEMORY: memory} if memory else shown


def together(raw: Mapping[str, Any]) -> Json:
    """What was read, in the shape of the models. Memory of an item that is no longer
    there, and what is no memory at all, is left out."""
    shown = {name: value for name, value in raw.items() if name != MEMORY}
    memory = raw.get(MEMORY)
    if not isinstance(memory, Mapping):
        return shown
    return _joined(QueueBacklogPolicyStatus, shown, memory)


def _split(kind: type[StatusModel], dumped: Mapping[str, Any]) -> tuple[Json, Json]:
    shown: Json = {}
    memory: Json = {}
    for field in fields_of(kind):
        if field.name not in dumped:
            continue
        value = dumped[field.name]
        if field.remembered:
            if value != field.default:
                memory[field.name] = value
        elif field.model is None:
            shown[field.name] = value
        elif field.key:
            pairs = [_split(field.model, item) for item in value]
            shown[field.name] = [people for people, _ in pairs]
            kept = [{field.key: people[field.key], **inner} for people, inner in pairs if inner]
            if kept:
                memory[field.name] = kept
        else:
            shown[field.name], inner = _split(field.model, value)
            if inner:
                memory[field.name] = inner
    return shown, memory


def _joined(kind: type[StatusModel], shown: Mapping[str, Any], memory: Mapping[str, Any]) -> Json:
    joined = dict(shown)
    for field in fields_of(kind):
        value = memory.get(field.name)
        if field.remembered:
            if value is not None:
                joined[field.name] = value
        elif field.model is not None and field.key:
            joined.update(_joined_items(field, shown.get(field.name), value))
        elif field.model is not None and isinstance(value, Mapping):
            there = shown.get(field.name)
            if isinstance(there, Mapping):
                joined[field.name] = _joined(field.model, there, value)
    return joined


def _joined_items(field: Field, shown: object, memory: object) -> Json:
    if field.model is None or not isinstance(shown, list) or not isinstance(memory, list):
        return {}
    kept = [item for item in memory if isinstance(item, Mapping)]
    return {
        field.name: [
            _joined(field.model, item, _item(kept, field.key, item.get(field.key)))
            if isinstance(item, Mapping)
            else item
            for item in shown
        ]
    }


def _item(items: list[Mapping[str, Any]], key: str, value: object) -> Mapping[str, Any]:
    return next((item for item in items if item.get(key) == value), {})


@cache
def fields_of(kind: type[StatusModel]) -> tuple[Field, ...]:
    """How each field is written. A model with nothing remembered below it is written whole."""
    found = []
    for name, field in kind.model_fields.items():
        model = _model(field.annotation)
        if model is not None and not _remembers(model):
            model = None
        default = field.get_default(call_default_factory=True)
        found.append(
            Field(
                name=field.alias or name,
                remembered=REMEMBERED in field.metadata,
                default=list(default) if isinstance(default, tuple) else default,
                model=model,
                key=_key(field.metadata) if model is not None else "",
            )
        )
    return tuple(found)


def _key(metadata: Iterable[object]) -> str:
    """The field by which the items of a list differ; empty for what is no such list."""
    keywords = [part.keywords for part in metadata if isinstance(part, Schema)]
    return next((part[MAP_KEYS][0] for part in keywords if MAP_KEYS in part), "")


def _remembers(kind: type[StatusModel]) -> bool:
    return any(field.remembered or field.model is not None for field in fields_of(kind))


def _model(annotation: object) -> type[StatusModel] | None:
    """The status model of a field: itself, optional, or that of its items."""
    if isinstance(annotation, type) and issubclass(annotation, StatusModel):
        return annotation
    return next(filter(None, map(_model, get_args(annotation))), None)
