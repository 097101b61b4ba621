"""How long the oldest due job has waited, or which of the reasons hides it. Pure."""

from __future__ import annotations

from datetime import timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.queue import ColumnPart
from starforge_backlog.queues.postgres.catalog import JobTable, quoted
from starforge_backlog.queues.postgres.depth import Depth
from starforge_backlog.queues.postgres.gate import COUNTED, Tier
from starforge_backlog.queues.postgres.table import TableReading
from starforge_backlog.snapshot import Confidence, Known, Reading, Unknown, Why

# What waits for longer has no due time but a filler: Go's zero time is the year 1, an epoch of 0 is
# 1970. As an age it would trip every breaker.
_LONGEST = timedelta(days=3650)
# By which the clocks of producers and of the database may differ.
_CLOCKS_DIFFER = timedelta(minutes=5)


def oldest(
    queue: str, table: JobTable, waiting: Depth | Unknown, seen: TableReading
) -> Reading[timedelta]:
    """The age of the oldest due job, or why it is not known: a table without the columns, rows
    without a value, or no index."""
    if isinstance(waiting, Unknown):
        return waiting
    # An estimate of no jobs is no proof that there is none.
    sure = waiting.due.confidence is not Confidence.ESTIMATED
    if table.age is None and not (sure and not waiting.due.value):
        return _no_age(queue, table, seen)
    if waiting.undated:
        return Unknown(Why.NOT_IN_TABLE, _undated(table, seen), seen.at)
    if waiting.oldest is None or not sure:
        return Unknown(Why.NO_INDEX, _age_needs(table, seen), seen.at)
    age = timedelta(seconds=waiting.oldest)
    if not -_CLOCKS_DIFFER <= age <= _LONGEST:
        return Unknown(Why.BAD_SHAPE, _impossible(table, age, seen), seen.at)
    return Known(max(timedelta(0), age), seen.at)


def _impossible(table: JobTable, age: timedelta, seen: TableReading) -> str:
    """A time at which no job can have been waiting."""
    names = " or ".join(
        quoted(c.name) for c in (table.run_after, table.created_at) if c is not None
    )
    if age < timedelta(0):
        return (
            f"The oldest waiting job has a time in the future ({names}, by more than"
            f" {format_duration(_CLOCKS_DIFFER)}), so its age is not known; correct the producer's"
            " clock, or its time zone where the column has none."
        )
    return (
        f"A waiting job has a time of more than {_LONGEST.days // 365} years ago ({names}), which"
        " is a filler, so how long the oldest one waits is not known; store the time from which it"
        " may run."
    )


def _no_age(queue: str, table: JobTable, seen: TableReading) -> Unknown:
    if {ColumnPart.RUN_AFTER, ColumnPart.CREATED_AT} <= table.absent:
        return Unknown(
            Why.NO_SOURCE, "The policy says that the table has no time of a job (absent).", seen.at
        )
    column = table.unusable.get(ColumnPart.CREATED_AT)
    why = (
        f"Column {quoted(column.name)} is {column.type}, not a timestamp"
        if column is not None
        else "The table has neither a due time nor a time of creation"
    )
    return Unknown(
        Why.NOT_IN_TABLE,
        f"{why}, so the age of jobs is not known; set"
        f" spec.queues[{queue}].postgres.columns.createdAt, or list runAfter and createdAt in"
        " columns.absent to be judged by what waits alone.",
        seen.at,
    )


def _undated(table: JobTable, seen: TableReading) -> str:
    # In a big table an index on the due time delivers the jobs, and does not hold their creation.
    parts = (table.run_after, table.created_at if seen.tier is Tier.ALL else None)
    names = " and ".join(quoted(part.name) for part in parts if part is not None)
    return (
        f"Waiting jobs have no time that their age could be counted from ({names} is NULL); store"
        " one with each job."
    )


def _age_needs(table: JobTable, seen: TableReading) -> str:
    what = "No index leads to the oldest waiting job (or jobs without a due time hide its age)"
    if seen.counters is not None and seen.counters.outdated_statistics:
        name = f"{quoted(table.schema)}.{quoted(table.name)}"
        return (
            f"{what}, as far as the planner's statistics tell, which are from before most of these"
            f" jobs; run ANALYZE {name}, and if that does not help {recommended_index(table)}."
        )
    return f"{what}; run {recommended_index(table)}."


def recommended_index(table: JobTable) -> str:
    """The index that makes every count cheap. The operator never
    creates it: in an incident an index build is one more load (runbook, slow processing)."""
    columns = [c for c in (table.type, table.age) if c is not None]
    names = ", ".join(quoted(name) for name in (table.status, *(c.name for c in columns)))
    live = ", ".join(f"'{word}'" for group in COUNTED for word in table.words.of(group))
    return (
        f"CREATE INDEX CONCURRENTLY ON {quoted(table.schema)}.{quoted(table.name)} ({names})"
        f" WHERE {quoted(table.status)} IN ({live})"
    )
