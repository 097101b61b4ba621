"""The mark on an object whose field we changed: whose pause it is, and what stood there before.

One annotation holds the marks of all fields of an object as JSON, so that each is written in the
same request as its field, and people see with `kubectl describe` who paused what, since when and
why. It is only read together with `managedFields`: an annotation alone can be copied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from starforge_backlog.api import GROUP
from starforge_backlog.cluster.client import Json

ANNOTATION = f"{GROUP}/paused"
# The reason is for people and may quote any number of readings; more would drown the object.
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Mark:
    """One pause of ours."""

    token: str
    by: str  # namespace/name of the policy
    at: str  # ISO 8601
    why: str
    previous: str | None  # JSON text of the value before; None: there was none

    @classmethod
    def of(cls, *, token: str, by: str, at: datetime, why: str, previous: str | None) -> Mark:
        """A new mark."""
        moment = at.isoformat(timespec="seconds")
        return cls(token, by, moment, " ".join(why.split())[:REASON_CHARACTERS], previous)


def mark_of(found: Json, field: str) -> Mark | None:
    """The mark of a field; None where there is none, or none that we can have written."""
    entry = _entries(found).get(field)
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return None
    previous = entry.get("previous")
    if previous is not None and not _is_json(previous):
        return None
    by, at, why = (str(entry.get(name, "")) for name in ("by", "at", "why"))
    return Mark(entry["token"], by, at, why, previous)


def annotation_with(found: Json, field: str, mark: Mark | None) -> str | None:
    """The annotation with that mark set or gone, those of other fields as they are.

    None: nothing is left of it.
    """
    entries = {name: entry for name, entry in _entries(found).items() if name != field}
    if mark is not None:
        entries[field] = {name: value for name, value in asdict(mark).items() if value is not None}
    return json.dumps(entries, sort_keys=True, ensure_ascii=False) if entries else None


def _is_json(text: object) -> bool:
    try:
        json.loads(text if isinstance(text, str) else "")
    except (ValueError, RecursionError):  # the second for thousands of brackets
        return False
    return True


def _entries(found: Json) -> Mapping[str, object]:
    text = (found["metadata"].get("annotations") or {}).get(ANNOTATION)
    try:
        entries = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        entries = None  # a person's edit: it proves nothing, and the next pause writes it again
    return entries if isinstance(entries, dict) else {}
