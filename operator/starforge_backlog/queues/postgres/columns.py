"""Which column of a job table plays which part, and what it can hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from starforge_backlog.api.queue import ColumnNames, ColumnPart
from starforge_backlog.api.shown import shortened
from starforge_backlog.queues.postgres.holds import Holds, holds_of
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.snapshot import Why

# Columns that say when a job ended, where the policy names none: StarForge's first
# migration has processed_at and no updated_at.
ENDED_COLUMNS = ("updated_at", "processed_at")
_MOST_NAMED = 32  # columns that a message lists
_TIMES = ("timestamp with time zone", "timestamp without time zone")
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
# A CHECK is a list of words when it compares with = only; <>, ~ or LIKE do not list what may occur.
_LIST_OF_WORDS = re.compile(r"^CHECK \(\(+(?:(?!<>|!=|~|LIKE|NOT ).)*\)+\)(?: NOT VALID)?$", re.S)
_PARTS = {
    "type": ColumnPart.TYPE,
    "run_after": ColumnPart.RUN_AFTER,
    "created_at": ColumnPart.CREATED_AT,
    "ended_at": ColumnPart.UPDATED_AT,
}
# Parts without which a job is counted all the same; without the due time a job of next week would
# count as due.
_OPTIONAL_TIMES = frozenset({"created_at", "ended_at"})


@dataclass(frozen=True, slots=True)
class Column:
    """One column as `columns.sql` describes it."""

    name: str
    type: str
    nullable: bool
    readable: bool
    default_value: str | None
    labels: tuple[str, ...]
    checks: tuple[str, ...]

    @property
    def is_time(self) -> bool:
        """Whether it can be compared with now()."""
        return self.type in _TIMES

    @property
    def set_later(self) -> bool:
        """Whether a new row has no value here, so that any value proves a change."""
        return self.nullable and self.default_value is None

    @property
    def allowed(self) -> tuple[str, ...] | None:
        """The words that an enum or a CHECK constraint permits; None for free text."""
        if self.labels:
            return self.labels
        checks = [check.replace("IS NOT NULL", "") for check in self.checks]
        lists = [literals(check) for check in checks if _LIST_OF_WORDS.match(check)]
        return next((words for words in lists if words), None)

    @property
    def holds(self) -> Holds | None:
        """What it can hold as a status column; None: no words."""
        return holds_of(self.type, self.labels, self.allowed)


def literals(expression: str) -> tuple[str, ...]:
    """The string literals of an SQL expression, e.g. the words of a CHECK constraint."""
    return tuple(text.replace("''", "'") for text in _LITERAL.findall(expression))


def pick_columns(names: ColumnNames, columns: Sequence[Column]) -> Mapping[str, Column] | Problem:
    """Which column plays which part: status, type, run_after, created_at, ended_at.

    A default name that the table has not got is left out, and so is one that the policy declares
    absent; a name that the policy wrote must exist. Problem: COLUMN_NOT_FOUND, or BAD_SHAPE for a
    column of a type that cannot play its part.
    """
    by_name = {column.name: column for column in columns}
    picked: dict[str, Column] = {}
    for part, name, written in _named_parts(names):
        candidates = ENDED_COLUMNS if part == "ended_at" and not written else (name,)
        column = next((by_name[c] for c in candidates if c in by_name), None)
        if column is None:
            if written or part == "status":
                return _no_column(name, part, columns)
            continue
        if _fits(part, column):
            picked[part] = column
        elif written or part not in _OPTIONAL_TIMES | {"type"}:
            kind = "a type of jobs" if part == "type" else "a timestamp"
            return Problem(
                Why.BAD_SHAPE,
                f"column {column.name} is {column.type}, not {kind}; name another column, or list"
                f" {_field(part)} in columns.absent",
                field=f"columns.{_field(part)}",
            )
    return picked


def _named_parts(names: ColumnNames) -> Iterator[tuple[str, str, bool]]:
    """Part, name of its column, and whether the policy wrote that name; without absent parts."""
    absent = frozenset(names.absent or ())
    for part in ("status", *_PARTS):
        if part in _PARTS and _PARTS[part] in absent:
            continue
        model_field = _model_field(part)
        name: str = getattr(names, model_field)
        yield part, name, name != ColumnNames.model_fields[model_field].default


def _fits(part: str, column: Column) -> bool:
    if part == "status":
        return True
    # Types are distinguished with an index, in order: json, for example, has none.
    return column.holds is not None or column.type == "uuid" if part == "type" else column.is_time


def unusable(names: ColumnNames, columns: Sequence[Column]) -> dict[ColumnPart, Column]:
    """Columns that were left out because of their type."""
    by_name = {column.name: column for column in columns}
    return {
        _PARTS[part]: by_name[name]
        for part, name, _ in _named_parts(names)
        if part in _PARTS and name in by_name and not _fits(part, by_name[name])
    }


def _no_column(name: str, part: str, columns: Sequence[Column]) -> Problem:
    existing = [shortened(column.name) for column in columns]
    more = f" and {len(existing) - _MOST_NAMED} more" if len(existing) > _MOST_NAMED else ""
    text = f"the table has no column {name}, it has {', '.join(existing[:_MOST_NAMED])}{more}"
    if part == "status":
        text += (
            ". If none of them says which jobs wait (Laravel, Que and delayed_job delete or lock"
            " their rows), it cannot be read as postgres: count its rows with an exporter and use"
            " queues[].prometheus. If one does, name it"
        )
    return Problem(Why.COLUMN_NOT_FOUND, text, field=f"columns.{_field(part)}")


def _field(part: str) -> str:
    return _PARTS[part].value if part in _PARTS else part


def _model_field(part: str) -> str:
    return "updated_at" if part == "ended_at" else part
