"""Reads a status that another client may have edited by hand: keeps what parses, drops the rest."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from starforge_backlog.api.memory import together
from starforge_backlog.api.status import QueueBacklogPolicyStatus

# Each round removes at least one wrong part; deeper damage than this is no longer a status.
ROUNDS = 50


def parse_status(raw: object) -> tuple[QueueBacklogPolicyStatus, tuple[str, ...]]:
    """The status, and the paths that had to be dropped to read it.

    A field that is wrong falls back to its default; where it has none (the state of a pause), the
    item that holds it goes as a whole, because half a memory is worse than none.
    """
    dropped: list[str] = []
    if raw is None:
        return QueueBacklogPolicyStatus(), ()
    if not isinstance(raw, dict):
        return QueueBacklogPolicyStatus(), ("status",)
    rest: Any = together(raw)
    for _ in range(ROUNDS):
        try:
            return QueueBacklogPolicyStatus.model_validate(rest), tuple(dropped)
        except ValidationError as error:
            bad = [
                _dropped_path(rest, e["loc"], missing=e["type"] == "missing")
                for e in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        # Only the deepest paths, and list items from the back, so that indices stay true.
        for path in sorted(
            set(bad), key=lambda p: [str(part).rjust(9) for part in p], reverse=True
        ):
            rest = _without(rest, path)
            dropped.append(".".join(map(str, path)))
    return QueueBacklogPolicyStatus(), (*dropped, "status")


_Path = tuple[int | str, ...]


def _dropped_path(raw: Any, loc: _Path, *, missing: bool) -> _Path:
    """The part to drop: where the error is, or what holds a required field that is missing."""
    path: list[int | str] = []
    here = raw
    for part in loc[:-1] if missing else loc:
        # A location may go deeper than the data ("paused.0.since" where paused.0 is a word).
        known = isinstance(here, dict) and part in here
        if not known and not (isinstance(here, list) and isinstance(part, int)):
            break
        path.append(part)
        here = here[part]
    return tuple(path)


def _without(raw: Any, path: _Path) -> Any:
    """A copy of the data without that part; the original belongs to whoever gave it."""
    if not path:
        return {}
    first, rest = path[0], path[1:]
    if isinstance(raw, dict):
        kept = {key: value for key, value in raw.items() if key != first or rest}
        if rest and first in kept:
            kept[str(first)] = _without(kept[str(first)], rest)
        return kept
    if isinstance(raw, list) and isinstance(first, int) and first < len(raw):
        if not rest:
            return raw[:first] + raw[first + 1 :]
        return [*raw[:first], _without(raw[first], rest), *raw[first + 1 :]]
    return raw
