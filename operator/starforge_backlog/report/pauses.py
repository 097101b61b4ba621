"""Pauses in words: what was paused, how far it has come, and what a person should know. Pure."""

from __future__ import annotations

import json

from starforge_backlog.api.status import BreakerState, PauseStatus, QueueBacklogPolicyStatus
from starforge_backlog.decide.items import count
from starforge_backlog.decide.plan import Pause
from starforge_backlog.producers.protocol import Paused


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


def progress(entry: PauseStatus) -> str:
    """`; in part so far: 50000 jobs are held back`; empty for what is done."""
    if entry.resuming:
        return f"; being resumed in parts: {entry.message}" if entry.message else "; being resumed"
    if not entry.complete:
        return f"; in part so far: {entry.message}" if entry.message else "; in part so far"
    return f"; {entry.message}" if entry.message else ""


def concerned(status: QueueBacklogPolicyStatus) -> str:
    """`breaker backfill concerns #team-backfill`, for each breaker that is not closed."""
    return ", ".join(
        f"breaker {breaker.name} concerns {', '.join(breaker.owners)}"
        for breaker in status.breakers
        if breaker.owners and breaker.state is not BreakerState.CLOSED
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
    except ValueError:
        return None
