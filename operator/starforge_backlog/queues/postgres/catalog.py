"""A read of the catalog: whether the table exists and may be read, and which column means what.

All three published variants of `queue_jobs` are recognised without mapping.
What a table does not contain stays None in `JobTable`, and the readings that need it say so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starforge_backlog.api.queue import ColumnPart, PostgresQueue
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.queues.postgres.columns import Column, literals, pick_columns, unusable
from starforge_backlog.queues.postgres.fetches import Fetches
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.queues.postgres.words import Words, resolve_words
from starforge_backlog.snapshot import Why

_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}
_PLAIN = re.compile(r"^[a-z_][a-z0-9_]*$")


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
    # Share of all rows that each word had at the last ANALYZE, by the planner's statistics.
    common: Mapping[str, float] = field(default_factory=dict)
    # Parts whose column has another type than a time, with that type.
    unusable: Mapping[ColumnPart, Column] = field(default_factory=dict)
    absent: frozenset[ColumnPart] = frozenset()  # by the policy

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
    # A predicate other than "is set" would hide jobs, and which is not known.
    return index.predicate is None or index.predicate == f"({column} IS NOT NULL)"


async def read_catalog(
    database: Fetches, spec: PostgresQueue, observed: Collection[str] = ()
) -> JobTable | Problem:
    """Find the table and resolve columns and words. A few catalog rows, no row of the table.
    `observed` are status words that rows were seen to hold.

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
    refused = [column.name for column in picked.values() if not column.readable]
    if refused:
        return Problem(
            Why.NO_PERMISSION,
            f"role {quoted(relation['role'])} may not read {_qualified(relation)}; run GRANT SELECT"
            f" ({', '.join(quoted(c) for c in refused)}) ON {_qualified(relation)}"
            f" TO {quoted(relation['role'])}",
        )
    status = picked["status"]
    holds = status.holds
    if holds is None:
        return Problem(
            Why.BAD_SHAPE,
            f"column {status.name} is {status.type}: no text, no enum, no number, no boolean",
            field="columns.status",
        )
    rows = await _fetch(
        database,
        "common_words.sql",
        schema=relation["schema"],
        table=relation["name"],
        column=status.name,
    )
    common = {holds.written(row["word"]): row["share"] for row in rows if row["word"] is not None}
    named = [*literals(status.default_value or "")]
    for index in indexes:
        named += literals(index.predicate or "")
    seen = {*map(holds.written, named), *common, *observed}
    words = resolve_words(spec.statuses, holds=holds, seen=seen)
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
        common=common,
        unusable=unusable(spec.columns, columns),
        absent=frozenset(spec.columns.absent or ()),
    )


def _usable(table: str, found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | Problem:
    """The one relation that `table` means, if its rows can be counted."""
    visible = [row for row in found if row["visible"] or "." in table]
    if not visible:
        elsewhere = [_qualified(row) for row in found]
        hint = f"; there is {_either(elsewhere)}" if elsewhere else ""
        return Problem(Why.TABLE_NOT_FOUND, f"table {table} does not exist{hint}", field="table")
    row = visible[0]
    qualified = _qualified(row)
    if row["kind"] in _KINDS:
        return Problem(
            Why.BAD_SHAPE,
            f"table {qualified} is a {_KINDS[row['kind']]}, which has no counters: name its table",
            field="table",
        )
    if row["inherited"]:
        return Problem(
            Why.BAD_SHAPE,
            f"table {qualified} has children by INHERITS, whose rows would be counted without their"
            " indexes and counters: make it a partitioned table, or watch each child as a queue",
            field="table",
        )
    if not row["schema_usable"]:
        return Problem(
            Why.NO_PERMISSION,
            f"role {quoted(row['role'])} may not use schema {quoted(row['schema'])}; run"
            f" GRANT USAGE ON SCHEMA {quoted(row['schema'])} TO {quoted(row['role'])}",
        )
    if row["rows_hidden"]:
        return Problem(
            Why.NO_PERMISSION,
            f"row security may hide rows of {qualified} from role {quoted(row['role'])}, so counts"
            f" would be too low; run ALTER ROLE {quoted(row['role'])} BYPASSRLS",
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
