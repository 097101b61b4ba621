"""Pauses in words: what was paused, how far it has come, and what a person should know. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from starforge_backlog.api.pausing import WorkloadKind
from starforge_backlog.api.policy import Breaker, Producer
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


def how_to_resume(producer: Producer) -> str:
    """What a person does in the producer's own place."""
    if producer.feature_flag is not None:
        flag = producer.feature_flag
        return f"set {'.'.join(flag.path)} of row {flag.name} in {flag.table} to false"
    if producer.config_map is not None:
        key = producer.config_map
        return f"set key {key.key} of ConfigMap {key.name} to another value than {key.paused}"
    if producer.workload is not None:
        kind, name = producer.workload.kind, producer.workload.name
        if kind is WorkloadKind.CRON_JOB:
            return f"set spec.suspend of CronJob {name} to false"
        return f"run `kubectl scale {kind.lower()}/{name} --replicas=N`"
    if producer.queue is not None:
        return f"resume the BullMQ queue {producer.queue.name}, or lift its global concurrency"
    if producer.webhook is not None:
        return f"let the API at {producer.webhook.url} run again"
    if producer.backfill_jobs is not None:
        jobs = producer.backfill_jobs
        return f"set {jobs.status_column} of its rows in {jobs.table} back to {jobs.running}"
    return "give its jobs their due times back"


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
