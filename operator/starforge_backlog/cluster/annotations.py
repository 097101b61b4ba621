"""What a person requests by `kubectl annotate`: to hold, or to release."""

from __future__ import annotations

from collections.abc import Mapping

from starforge_backlog.api import GROUP

# Any value holds; the value is the reason that the conditions quote. Absent: nobody holds.
HOLD = f"{GROUP}/hold"
# On a policy that is being deleted: let it go although what we paused could not be released. On
# any: forget the pauses that were made at a server which its Secret leads to no more.
RELEASE = f"{GROUP}/release"
# The only value that lets go, so that a leftover `release: "false"` does not orphan a pause.
RELEASE_ABANDON = "abandon"
# A hold's reason is quoted in conditions; more would drown the sentence.
REASON_CHARACTERS = 120
# `hold: "false"` is what people write who mean to end it; it must not stop every action.
_NOT_HELD = frozenset({"false", "off", "no"})


def hold_reason(annotations: Mapping[str, str]) -> str | None:
    """Why a person holds every action, or None when nobody does."""
    value = annotations.get(HOLD)
    if value is None or value.strip().lower() in _NOT_HELD:
        return None
    reason = " ".join(value.split())[:REASON_CHARACTERS]
    return reason or "no reason given"


def abandons_pauses(annotations: Mapping[str, str]) -> bool:
    """Whether a person lets a deleted policy go while its pauses are still in place."""
    return annotations.get(RELEASE, "").strip().lower() == RELEASE_ABANDON
