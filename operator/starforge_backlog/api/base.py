"""What every model of the API shares: camelCase on the wire, frozen, durations as text."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")

# Digits are limited so that the API server's `duration()` cannot overflow (292 years): an
# overflow would be reported as a broken rule, not as a wrong value.
DURATION_PATTERN = r"^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$"
DURATION_MAX_LENGTH = len("9999h999999m99999999s")


def parse_duration(value: object) -> timedelta:
    """Read `90s`, `15m`, `1h30m` as the Kubernetes API writes durations (no fractions, no days).

    Raises ValueError with the fix when the text is anything else.
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
    # The pattern is part of the CEL rule that also holds the bounds (`terms.span`): one rule
    # gives one message with the fix, where a schema pattern would only quote itself.
    WithJsonSchema({"type": "string", "maxLength": DURATION_MAX_LENGTH}),
]


def wire_name(name: str) -> str:
    """The field's name in YAML: camelCase, and `for_` (a Python keyword) is `for`."""
    return to_camel(name.rstrip("_"))


class Model(BaseModel):
    """A frozen part of a spec.

    Bounds and rules are only in the schema: the API server refuses what breaks them, and models
    parse whatever it once accepted, so that a rule tightened later cannot keep the operator from
    releasing a pause it holds. For the same reason unknown fields are dropped: the server refuses
    or prunes typos, and after a roll-back of the operator a newer CRD's defaults are in every
    policy.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=wire_name,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


class StatusModel(BaseModel):
    """A frozen part of a status. Unknown fields are dropped: an older operator may read a
    newer status after a roll-back and must continue. So a field that is added later needs a
    default."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=wire_name,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )
