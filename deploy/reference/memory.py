"""The schema of `status.memory`: what `starforge_backlog/api/memory.py` writes apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.memory import MEMORY, Json, fields_of
from starforge_backlog.api.rules import MAP_TYPE
from starforge_backlog.api.status import QueueBacklogPolicyStatus

_DESCRIPTION: Final = (
    "Internal: what the operator remembers for its next pass and for a restart, under the paths of"
    " the fields above. Do not edit it. It takes at most 512 KiB together with the rest of the"
    " status; 256 KiB of these are for pauses, and a pause that does not fit is refused before it"
    " is made. Without it no pause is made a second time and none is resumed: the condition"
    " ProducersRunning names what is still paused, and the statement that releases it."
)


def apart_in(schema: Mapping[str, Any]) -> Json:
    """The schema of a status with its memory apart."""
    shown, memory = _split_schema(QueueBacklogPolicyStatus, schema, "status")
    memory["description"] = _DESCRIPTION
    return {**shown, "properties": {**shown["properties"], MEMORY: memory}}


def _split_schema(
    kind: type[StatusModel], schema: Mapping[str, Any], path: str
) -> tuple[Json, Json]:
    """People's part of the schema at this path, and that of its memory; `{}` where it has none."""
    shown: Json = {}
    memory: Json = {}
    for field in fields_of(kind):
        part, below = schema["properties"][field.name], f"{path}.{field.name}"
        if field.remembered:
            memory[field.name] = part
        elif field.model is None:
            shown[field.name] = part
        elif field.key:
            people, inner = _split_schema(field.model, part["items"], f"{below}[]")
            shown[field.name] = {**part, "items": people}
            if inner:
                key = {field.key: people["properties"][field.key]}
                items = {**inner, "required": [field.key]}
                items["properties"] = {**key, **inner["properties"]}
                memory[field.name] = {**part, "description": _about(below), "items": items}
        else:
            shown[field.name], inner = _split_schema(field.model, part, below)
            if inner:
                memory[field.name] = inner
    atomic = {MAP_TYPE: schema[MAP_TYPE]} if MAP_TYPE in schema else {}
    inner = {"type": "object", "description": _about(path), "properties": memory, **atomic}
    return {**schema, "properties": shown}, inner if memory else {}


def _about(path: str) -> str:
    return f"What is remembered of {path}."
