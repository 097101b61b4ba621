"""Pauses in words: what was paused, how far it has come, and what a person should know. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from starforge_backlog.api.policy import Breaker
from starforge_backlog.api.status import (
    BreakerState,
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.pauses.items import count
from starforge_backlog.decide.pauses.standing import BY_HAND
from starforge_backlog.decide.plan import Pause
from starforge_backlog.decide.results import Paused

_STATES: Final = {
    BreakerState.CLOSED: "closed",
    BreakerState.OPEN: "open",
    BreakerState.HALF_OPEN: "half-open",
}


def owners(contacts: Sequence[str]) -> str:
    """Who is responsible. The operator sends nothing: an on-call engineer has to know that."""
    noun = "owner" if len(contacts) == 1 else "owners"
    return f"{noun} {', '.join(contacts)} (no message was sent)"


def what_was_paused(action: Pause, paused: Paused) -> str:
    """`3 running backfills`; empty where the producer's name says it all."""
    match action.way:
        case "backfillJobs":
            return _number(count(paused.previous), "running backfill")
        case "jobTypes":
            return f"{_number(_held(paused.previous), 'waiting job')} held back"
        case "queue":
            return "its workers are given no more jobs"
        case "workload":
            before = _value(paused.previous)
            if isinstance(before, int) and not isinstance(before, bool):
                return f"{_number(before, 'replica')} scaled to none"
            return "suspended"
        case _:
            return ""


def waits_for(breaker: Breaker, status: QueueBacklogPolicyStatus) -> tuple[PauseStatus, ...]:
    """Producers of a breaker that others keep paused: none of its probes is one meanwhile."""
    return tuple(e for e in status.paused if e.producer in breaker.pause and e.state in BY_HAND)


def progress(entry: PauseStatus) -> str:
    """`; in part so far: 50000 jobs are held back`; empty for what is done."""
    if entry.progress is PauseProgress.RESUMING:
        return f"; being resumed in parts: {entry.message}" if entry.message else "; being resumed"
    if entry.progress is PauseProgress.PARTIAL:
        return f"; in part so far: {entry.message}" if entry.message else "; in part so far"
    return f"; {entry.message}" if entry.message else ""


def concerned(status: QueueBacklogPolicyStatus) -> str:
    """`breaker backfill is open; owner #team-backfill (no message was sent)`, for each breaker
    that is not closed."""
    return ", ".join(
        f"breaker {breaker.name} is {_STATES[breaker.state]}; {owners(breaker.owners)}"
        for breaker in status.breakers
        if breaker.owners and breaker.state is not BreakerState.CLOSED
    )


def paused_names(status: QueueBacklogPolicyStatus) -> str:
    """`ingestion`, with `(other)` for another client's pause; the PAUSED column."""
    paused = {PauseState.HELD, *BY_HAND}
    return ",".join(
        entry.producer + ("" if entry.by is PausedBy.US else "(other)")
        for entry in status.paused
        if entry.state in paused
    )


def _number(many: int, word: str) -> str:
    return f"{many} {word}{'' if many == 1 else 's'}"


def _held(previous: str | None) -> int:
    found = _value(previous)
    held = found.get("held") if isinstance(found, dict) else None
    return held if isinstance(held, int) else 0


def _value(previous: str | None) -> object:
    try:
        return json.loads(previous or "null")
    except (ValueError, RecursionError):
        return None
