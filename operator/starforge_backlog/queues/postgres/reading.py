"""From a table's reading to one queue's: pure, and explicit about what is missing and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from starforge_backlog.api.shown import shortened
from starforge_backlog.decide.numbers import digits
from starforge_backlog.queues.postgres import rates
from starforge_backlog.queues.postgres.ages import oldest, recommended_index
from starforge_backlog.queues.postgres.catalog import JobTable, quoted
from starforge_backlog.queues.postgres.depth import Depth, at_least
from starforge_backlog.queues.postgres.gate import Tier, describe
from starforge_backlog.queues.postgres.history import History
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.strange import strange_words_text
from starforge_backlog.queues.postgres.table import TableReading
from starforge_backlog.queues.postgres.words import Group, listed
from starforge_backlog.snapshot import (
    Count,
    HeldBack,
    Known,
    QueueReading,
    Reading,
    TypeReading,
    Unknown,
    Why,
    unread,
)

T = TypeVar("T")

_TYPES_SHOWN = 64  # types of one reading, as many as a queue's history keeps
_IN_WORDS = {group: str(group) for group in Group} | {Group.IN_PROGRESS: "running"}


class Remembered(Protocol):
    """What a table's observer keeps between readings."""

    history: History
    updates_per_job: float


def queue_reading(
    queue: str,
    types: tuple[str, ...],
    memory: Remembered,
    seen: TableReading,
    window: timedelta,
    settings: ObserverSettings,
) -> QueueReading:
    """What `queue` gets. `window`: of its rates."""
    table = seen.table
    if table is None:
        return unread(_reason(queue, seen))
    if types and table.type is None:
        return unread(_no_types(queue, seen))
    view = _view(queue, types, memory, seen, window)
    no_counters, no_counts = _gone(seen)
    groups = _Groups(queue, types, table, seen, no_counts)
    waiting = groups.of(Group.WAITING)
    unclear = _not_understood(queue, types, seen)
    no_ends = no_counters or no_counts or unclear
    throughput, source = rates.throughput(view)
    how = describe(seen.tier or Tier.STATISTICS, _indexes(seen))

    def count(depth: Depth | Unknown, take: Callable[[Depth], Count]) -> Reading[Count]:
        return _map(depth, seen.at, lambda d: at_least(take(d)) if unclear else take(d))

    return QueueReading(
        waiting=count(waiting, lambda depth: depth.due),
        scheduled=_scheduled(queue, table, waiting, seen.at),
        in_progress=count(groups.of(Group.IN_PROGRESS), lambda depth: depth.total),
        failed=count(groups.of(Group.FAILED), lambda depth: depth.total),
        oldest_due_age=unclear or oldest(queue, table, waiting, seen),
        arrivals_per_second=no_counters or rates.arrivals(view),
        throughput_per_second=no_ends or throughput,
        outcomes=no_ends or rates.outcomes(view, settings.outcome_window),
        types={} if isinstance(waiting, Unknown) else _shown_types(waiting),
        how=f"{how}; {source}" if source and not unclear else how,
        notes=_notes(queue, table, seen, waiting, unclear),
        held=_held(waiting),
    )


def type_reading(
    queue: str,
    name: str,
    memory: Remembered,
    seen: TableReading,
    window: timedelta,
    settings: ObserverSettings,
) -> TypeReading:
    """One job type of `queue`, as `queue_reading` would report a queue of that type alone."""
    table = seen.table
    if table is None:
        reason = _reason(queue, seen)
        return TypeReading(reason, reason, reason)
    if table.type is None:
        reason = _no_types(queue, seen)
        return TypeReading(reason, reason, reason)
    no_counters, no_counts = _gone(seen)
    waiting = _Groups(queue, (name,), table, seen, no_counts).of(Group.WAITING)
    unclear = _not_understood(queue, (name,), seen)
    ends = rates.outcomes(_view(queue, (name,), memory, seen, window), settings.outcome_window)
    return TypeReading(
        waiting=_map(waiting, seen.at, lambda d: at_least(d.due) if unclear else d.due),
        oldest_due_age=unclear or oldest(queue, table, waiting, seen),
        outcomes=no_counters or no_counts or unclear or ends,
    )


def _not_understood(queue: str, types: tuple[str, ...], seen: TableReading) -> Unknown | None:
    """Jobs with words that mean nothing to us may be waiting: what is counted is a lower bound
    then, and what left the line may not have left (P2)."""
    found = [part for part in seen.strange if part.concerns(types)]
    return (
        Unknown(Why.STATUS_NOT_MAPPED, strange_words_text(found, queue), seen.at) if found else None
    )


def _shown_types(waiting: Depth) -> dict[str, Count]:
    """Types with jobs that wait, the longest ones; a type may be a gigabyte of text."""
    due = {name: part.due for name, part in waiting.by_type.items() if part.due.value}
    most = sorted(due.items(), key=lambda item: -item[1].value)[:_TYPES_SHOWN]
    return {shortened(name): count for name, count in most}


def _held(waiting: Depth | Unknown) -> HeldBack | None:
    if isinstance(waiting, Unknown) or not waiting.held.value:
        return None
    oldest = waiting.held_oldest
    return HeldBack(waiting.held, None if oldest is None else timedelta(seconds=max(0.0, oldest)))


def _notes(
    queue: str,
    table: JobTable,
    seen: TableReading,
    waiting: Depth | Unknown,
    unclear: Unknown | None,
) -> tuple[str, ...]:
    notes = [] if unclear is None else [unclear.message]
    if seen.depths is not None and seen.depths.ignored:
        notes.append(f"Jobs with status {listed(seen.depths.ignored)} are not counted.")
    if seen.unsought is not None:
        notes.append(f"Other status words could not be searched for: {seen.unsought.message}")
    for part, column in table.unusable.items():
        notes.append(
            f"Column {quoted(column.name)} is {column.type} and is not read; name another one in"
            f" spec.queues[{queue}].postgres.columns.{part.value}, or list {part.value} in"
            " columns.absent."
        )
    held = _held(waiting)
    if held is not None:
        # Rounded: a status that changes with each job that arrives would be written with every
        # pass.
        about = replace(held.count, value=int(digits(held.count.value, 2)))
        notes.append(
            f"{about} jobs are held back by a pause (jobTypes) and get their due times back."
        )
    return tuple(notes)


def _view(
    queue: str, types: tuple[str, ...], memory: Remembered, seen: TableReading, window: timedelta
) -> rates.View:
    return rates.View(
        history=memory.history,
        ended=seen.ended,
        types=types,
        seconds=window.total_seconds(),
        at=seen.at,
        updates_per_job=memory.updates_per_job,
        queue=queue,
    )


def _gone(seen: TableReading) -> tuple[Unknown | None, Unknown | None]:
    """Why there are no counters, and why there are no counts."""
    fault = None if seen.fault is None else seen.fault.unknown(seen.at)
    return fault if seen.counters is None else None, fault if seen.depths is None else None


def _no_types(queue: str, seen: TableReading) -> Unknown:
    return Unknown(
        Why.COLUMN_NOT_FOUND,
        f"The table has no column for types; set spec.queues[{queue}].postgres.columns.type"
        " or leave types out.",
        seen.at,
    )


@dataclass(frozen=True, slots=True)
class _Groups:
    """Depths of one queue, or the reason why there is none."""

    queue: str
    types: tuple[str, ...]
    table: JobTable
    seen: TableReading
    fault: Unknown | None

    def of(self, group: Group) -> Depth | Unknown:
        if self.fault is not None:
            return self.fault
        if not self.table.words.of(group):
            return Unknown(
                Why.STATUS_NOT_MAPPED,
                f"The status column has no word for it; set"
                f" spec.queues[{self.queue}].postgres.statuses.{group} if there is one.",
                self.seen.at,
            )
        depth = None if self.seen.depths is None else self.seen.depths.of(group, self.types)
        if depth is not None and (depth.all_types or not self.types or depth.due.value):
            return depth
        return Unknown(Why.NO_INDEX, self._index_needed(group), self.seen.at)

    def _index_needed(self, group: Group) -> str:
        if self.seen.tier is Tier.STATISTICS:
            return (
                "Counting took too long again and again, so only activity counters are read for a"
                f" while; to fix it, create an index: {recommended_index(self.table)}."
            )
        whose = " by type" if self.types else ""
        return (
            f"No index counts {_IN_WORDS[group]} jobs{whose}; run {recommended_index(self.table)}."
        )


def _reason(queue: str, seen: TableReading) -> Unknown:
    if seen.problem is not None:
        return seen.problem.unknown(queue, seen.at)
    if seen.fault is not None:
        return seen.fault.unknown(seen.at)
    raise AssertionError("a reading has a table, a problem or a fault")


def _map(depth: Depth | Unknown, at: datetime, value: Callable[[Depth], T]) -> Reading[T]:
    return depth if isinstance(depth, Unknown) else Known(value(depth), at)


def _scheduled(
    queue: str, table: JobTable, waiting: Depth | Unknown, at: datetime
) -> Reading[Count]:
    if isinstance(waiting, Depth) and table.run_after is None:
        return Unknown(
            Why.NOT_IN_TABLE,
            "The table has no due time, so every waiting job counts as due; if it has one, set"
            f" spec.queues[{queue}].postgres.columns.runAfter.",
            at,
        )
    return _map(waiting, at, lambda depth: depth.scheduled)


def _indexes(seen: TableReading) -> tuple[str, ...]:
    plan = None if seen.access is None else seen.access.groups.get(Group.WAITING)
    if plan is None:
        return ()
    match seen.tier:
        case Tier.BY_TYPE:
            return plan.type_indexes
        case Tier.HEAD:
            return plan.line_indexes
        case _:
            return ()
