"""A producer of several things, each paused by itself: backfills, by their ids. Pure.

A *plan* and `previous` are JSON texts of an object: the keys are ids, the values prove the pause of
each, and null is the value of what may be paused and is not known to be. What runs goes into
`previous` before the write, so that a kill in between loses nothing (P6). What was paused once
under a token and runs now was resumed by a person: its proof stays, and it is not paused again
(P4).
"""

from __future__ import annotations

import json
from typing import Any

from starforge_backlog.api.status import PauseProgress, PauseStatus


def extended(entry: PauseStatus, plan: str | None) -> str | None:
    """What may be paused under the entry's token: what was in it before, and what runs now."""
    runs = dict.fromkeys(stored(plan))
    before = stored(entry.previous)
    if entry.progress is PauseProgress.RESUMING:
        # We resumed some of it ourselves: of what runs the proof is void, it may be paused again.
        return _text({**before, **runs})
    return _text({**runs, **before})


def count(text: str | None) -> int:
    """How many things stand in a plan or in what was stored of one."""
    return len(stored(text))


def stored(text: str | None) -> dict[str, Any]:
    """What stands in a plan or a `previous`; nothing in a text that was edited by hand until it is
    none."""
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(items: dict[str, Any]) -> str:
    return json.dumps(items, sort_keys=True)
