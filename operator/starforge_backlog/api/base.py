"""What every model of the API shares: camelCase on the wire, frozen in memory, durations as text."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
DURATION_PATTERN = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"


def parse_duration(value: object) -> timedelta:
    """Read `90s`, `15m`, `1h30m` as the Kubernetes API writes durations (no fractions, no days).

    Raises ValueError with the mend when the text is anything else.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and value:
        match = _DURATION.fullmatch(value)
        if match is not None:
            hours, minutes, seconds = (int(part or 0) for part in match.groups())
            return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    msg = f"{value!r} is not a duration; write it like 90s, 15m or 1h30m"
    raise ValueError(msg)


def format_duration(value: timedelta) -> str:
    """Write a duration the shortest way that `parse_duration` reads back: `90s` becomes `1m30s`."""
    total = int(value.total_seconds())
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = [f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if n]
    return "".join(parts) or "0s"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": 32}),
]


class Model(BaseModel):
    """A frozen part of a spec. Unknown fields are refused: a typo must not become a default."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


class StatusModel(BaseModel):
    """A frozen part of a status. Unknown fields are dropped: an older operator may read a newer
    status after a roll-back and must go on."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )
