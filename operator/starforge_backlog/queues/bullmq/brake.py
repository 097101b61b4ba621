"""Whether a brake on a queue is the operator's own: the mark that the brake leaves (producers/)."""

from __future__ import annotations

import json


def token_of(mark: str | None) -> str:
    """Whose brake it is, from the field `starforge-backlog` of the queue's meta hash; "" for
    nobody's."""
    try:
        found = json.loads(mark or "null")
    except ValueError:
        return ""  # somebody else's writing
    token = found.get("token") if isinstance(found, dict) else None
    return token if isinstance(token, str) else ""
