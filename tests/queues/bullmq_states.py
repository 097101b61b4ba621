"""What queue_state.lua could answer, made by hand."""

from __future__ import annotations

import json
from typing import Any

from starforge_backlog.queues.bullmq.queue_state import QueueState, parse_state

NOW = 1_800_000_000_000  # ms since 1970

_EMPTY: dict[str, Any] = {
    "now": NOW,
    "meta": True,
    "events": True,
    "bull_paused": False,
    "marker": False,
    "has_id": True,
    "id": "0",
    "wait": 0,
    "paused": 0,
    "active": 0,
    "delayed": 0,
    "due": 0,
    "prioritized": 0,
    "completed": 0,
    "failed": 0,
    "children": 0,
    "completed_lately": 0,
    "failed_lately": 0,
    "failed_since": 0,
    "metrics_completed": False,
    "metrics_failed": False,
    "meta_paused": False,
    "concurrency": False,
    "token": False,
    "version": False,
    "markers": 0,
    "jobs": {},
    "all_priorities": True,
    "long_ids": False,
    "groups": 0,
    "groups_read": 0,
    "grouped": 0,
    "active_read": 0,
    "orphaned": 0,
    "stalled_active": 0,
    "old_style": 0,
    "new_style": 0,
}


def state(**given: Any) -> QueueState:
    """The state of an empty queue, but for what is given."""
    unknown = given.keys() - _EMPTY.keys() - {"first_completed", "limit_max", "limit_duration"}
    assert not unknown, unknown
    found = parse_state(json.dumps(_EMPTY | given))
    assert isinstance(found, QueueState)
    return found
