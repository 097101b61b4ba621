"""A look at the catalog: does the table exist, may we read it, and which column means what.

All three published variants of `queue_jobs` are recognised without mapping.
What a table cannot tell stays None in `JobTable`, and the readings that need it say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starforge_backlog.api.queue import ColumnNames, PostgresQueue
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.queues.postgres.fetches import Fetches
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.queues.postgres.words import Words, resolve_words
from starforge_backlog.snapshot import Why

# Columns that say when a job ended, where the policy names none: StarForge's first
# migration has processed_at and no updated_at.
ENDED_COLUMNS = ("updated_at", "processed_at")
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}
_TIMES = ("timestamp with time zone", "timestamp without time zone")
_PLAIN = re.compile(r"^[a-z_][a-z0-9_]*$")
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
# A CHECK is a list of words when it compares with = only; <>, ~ or LIKE do not list what may occur.
_LIST_OF_WORDS = re.compile(r"^CHECK \(\(+(?:(?!<>|!=|~|LIKE|NOT ).)*\)+\)(?: NOT VALID)?$", re.S)


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
        """Whether a new row has no value here, so that any value tells of a change."""
        return self.nullable and self.default_value is None

    @property
    def allowed(self) -> tuple[str, ...] | None:
        """The words that an enum or a CHECK constraint permits; None for free text."""
        if self.labels:
            return self.labels
        checks = [check.replace("IS NOT NULL", "") for check in self.checks]
        lists = [literals(check) for check in checks if _LIST_OF_WORDS.match(check)]
        return next((words for words in lists if words), None)


@dataclass(frozen=True, slots=True)
class Index:
    """One valid B-tree index as `indexes.sql` describes it."""

    name: str
    predicate: str | None
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobTable:
    """A table that can be read as a queue. Names are from the catalog, columns None if absent."""

    oid: int
    schema: str
    name: str
    role: str
    status: str
    words: Words
    type: Column | None
    run_after: Column | None
    created_at: Column | None
    ended_at: Column | None
    indexes: tuple[Index, ...]

    @property
    def age(self) -> Column | None:
        """The column that a waiting job's age is counted from (and the line is ordered by)."""
        return self.run_after or self.created_at

    @property
    def ended_index(self) -> Index | None:
        """An index that delivers the jobs that ended last, without reading others."""
        if self.ended_at is None:
            return None
        name = self.ended_at.name
        return next(
            (i for i in self.indexes if i.columns[:1] == (name,) and _covers_all(i, name)), None
        )


def _covers_all(index: Index, column: str) -> bool:
    # A predicate other than "is set" would hide jobs, and we cannot tell which.
    return index.predicate is None or index.predicate == f"({column} IS NOT NULL)"


async def read_catalog(database: Fetches, spec: PostgresQueue) -> JobTable | Problem:
    """Find the table and resolve columns and words. A few catalog rows, no row of the table.

    Raises DatabaseFault when the database does not answer.
    """
    *schemas, name = spec.table.split(".", 1)
    schema = schemas[0] if schemas else None
    found = await _fetch(database, "relation.sql", name=name, schema=schema)
    relation = _usable(spec.table, found)
    if isinstance(relation, Problem):
        return relation
    columns = [
        Column(**{**row, "labels": tuple(row["labels"]), "checks": tuple(row["checks"])})
        for row in await _fetch(database, "columns.sql", oid=relation["oid"])
    ]
    indexes = tuple(
        Index(**{**row, "columns": tuple(row["columns"])})
        for row in await _fetch(database, "indexes.sql", oid=relation["oid"])
    )
    picked = pick_columns(spec.columns, columns)
    if isinstance(picked, Problem):
        return picked
    qualified = f"{relation['schema']}.{relation['name']}"
    refused = [column.name for column in picked.values() if not column.readable]
    if refused:
        return Problem(
            Why.NO_PERMISSION,
            f"role {relation['role']} may not read {qualified}; run GRANT SELECT"
            f" ({', '.join(quoted(c) for c in refused)}) ON {_qualified(relation)}"
            f" TO {quoted(relation['role'])}",
        )
    status = picked["status"]
    allowed = status.allowed
    seen: set[str] = set()
    if allowed is None:
        seen = set(literals(status.default_value or ""))
        for index in indexes:
            seen.update(literals(index.predicate or ""))
        rows = await _fetch(
            database,
            "common_words.sql",
            schema=relation["schema"],
            table=relation["name"],
            column=status.name,
        )
        seen.update(word for row in rows for word in row["words"] or ())
    words = resolve_words(spec.statuses, allowed=allowed, seen=seen)
    if isinstance(words, Problem):
        return words
    return JobTable(
        oid=relation["oid"],
        schema=relation["schema"],
        name=relation["name"],
        role=relation["role"],
        status=status.name,
        words=words,
        type=picked.get("type"),
        run_after=picked.get("run_after"),
        created_at=picked.get("created_at"),
        ended_at=picked.get("ended_at"),
        indexes=indexes,
    )


def literals(expression: str) -> tuple[str, ...]:
    """The string literals of an SQL expression, e.g. the words of a CHECK constraint."""
    return tuple(text.replace("''", "'") for text in _LITERAL.findall(expression))


def pick_columns(names: ColumnNames, columns: Sequence[Column]) -> Mapping[str, Column] | Problem:
    """Which column plays which part: status, type, run_after, created_at, ended_at.

    A default name that the table has not got is left out; a name that the policy wrote must
    exist. Problem: COLUMN_NOT_FOUND, or BAD_SHAPE for a time column of another type.
    """
    by_name = {column.name: column for column in columns}
    picked: dict[str, Column] = {}
    parts = (
        ("status", names.status, "status"),
        ("type", names.type, "type"),
        ("run_after", names.run_after, "runAfter"),
        ("created_at", names.created_at, "createdAt"),
        ("ended_at", names.updated_at, "updatedAt"),
    )
    for part, name, field in parts:
        written = name != ColumnNames.model_fields[_model_field(part)].default
        candidates = ENDED_COLUMNS if part == "ended_at" and not written else (name,)
        column = next((by_name[c] for c in candidates if c in by_name), None)
        if column is None:
            if written or part == "status":
                existing = ", ".join(by_name)
                return Problem(
                    Why.COLUMN_NOT_FOUND,
                    f"the table has no column {name}, it has {existing}",
                    field=f"columns.{field}",
                )
            continue
        if part not in ("status", "type") and not column.is_time:
            return Problem(
                Why.BAD_SHAPE,
                f"column {column.name} is {column.type}, not a timestamp",
                field=f"columns.{field}",
            )
        picked[part] = column
    return picked


def _model_field(part: str) -> str:
    return "updated_at" if part == "ended_at" else part


def _usable(table: str, found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | Problem:
    """The one relation that `table` means, if its rows can be counted."""
    visible = [row for row in found if row["visible"] or "." in table]
    if not visible:
        elsewhere = [f"{row['schema']}.{row['name']}" for row in found]
        hint = f"; there is {_either(elsewhere)}" if elsewhere else ""
        return Problem(Why.TABLE_NOT_FOUND, f"table {table} does not exist{hint}", field="table")
    row = visible[0]
    qualified = f"{row['schema']}.{row['name']}"
    if row["kind"] in _KINDS:
        return Problem(
            Why.BAD_SHAPE,
            f"{qualified} is a {_KINDS[row['kind']]}, which has no counters: name its table",
            field="table",
        )
    if not row["schema_usable"]:
        return Problem(
            Why.NO_PERMISSION,
            f"role {row['role']} may not use schema {row['schema']}; run"
            f" GRANT USAGE ON SCHEMA {quoted(row['schema'])} TO {quoted(row['role'])}",
        )
    if row["rows_hidden"]:
        return Problem(
            Why.NO_PERMISSION,
            f"row security may hide rows of {qualified} from role {row['role']}, so counts would"
            f" be too low; run ALTER ROLE {quoted(row['role'])} BYPASSRLS",
        )
    return row


def quoted(name: str) -> str:
    """An identifier as a person would type it: with quotes only where SQL needs them."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def _qualified(relation: Mapping[str, Any]) -> str:
    return f"{quoted(relation['schema'])}.{quoted(relation['name'])}"


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


async def _fetch(database: Fetches, file: str, **params: object) -> list[dict[str, Any]]:
    return await database.fetch(load_sql(__package__, file), params)
