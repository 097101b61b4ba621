"""Fills the `.sql` files with a table's own names. Nothing here, or there, names `payload`.

Identifiers are quoted by psycopg; status words are literals, because with a parameter the planner
cannot use the partial indexes that make these statements cheap.
"""

from __future__ import annotations

from datetime import timedelta

from psycopg import sql

from starforge_backlog.databases import held_back
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.queues.postgres.catalog import JobTable
from starforge_backlog.queues.postgres.words import Group

Statement = sql.Composed

# More job types than any queue had; a table with more is read from the head of its line instead.
MOST_TYPES = 100
# Rows of one answer, each a status word and a type: what an application that puts an id into the
# type, or a sentence into the status, must not turn into megabytes.
MOST_GROUPS = 5_000
# More status words than any queue had.
MOST_WORDS = 100
# Characters of a word or a type that leave the database: `text` holds a gigabyte. More than a
# policy can name, so what is cut equals nothing that it names.
_LONGEST_NAME = 200

_NOW = sql.SQL("extract(epoch FROM now())::float8")
_TRUE = sql.SQL("true")
_FALSE = sql.SQL("false")
_NO_AGE = sql.SQL("NULL::float8")


def count_all(table: JobTable) -> Statement:
    """Exact counts of every word and type."""
    return _fill(
        "count_all.sql",
        **_names(table),
        is_due=_is_due(table),
        is_ageless=_is_ageless(table),
        oldest=_oldest(table),
        is_held=_is_held(table),
        held_oldest=_held_oldest(table),
    )


def sample(table: JobTable, percent: float) -> Statement:
    """Counts in `percent` of the table's blocks."""
    return _fill(
        "sample.sql",
        **_names(table),
        is_due=_is_due(table),
        is_held=_is_held(table),
        percent=sql.Literal(percent),
    )


def by_type(table: JobTable, group: Group, limit: int) -> Statement | None:
    """Counts per type up to `limit` each, through an index that starts with the type.

    None when the table has no type, or nothing to order waiting jobs by.
    """
    if table.type is None or table.age is None or not table.words.of(group):
        return None
    waiting = group is Group.WAITING
    age = sql.Identifier(table.age.name)
    names = {
        **_names(table),
        "type": sql.Identifier(table.type.name),
        "most_types": sql.Literal(MOST_TYPES),
        "limit": sql.Literal(limit),
    }
    ranges = {
        **_ranges(table, group),
        "age": age,
        "age_of_row": _age_of(age),
        "age_of_held": _age_of(held_back.original(age)) if table.run_after else _NO_AGE,
        # A due time of -infinity is "at once", not an age; the range keeps it out by the index.
        "oldest_range": sql.SQL("{age} > '-infinity' AND {age} <= now()").format(age=age),
    }
    blocks: list[sql.Composable] = []
    for word in table.words.of(group):
        extra = ranges if waiting else {}
        file = "waiting_by_type.sql" if waiting else "count_by_type.sql"
        blocks.append(_fill(file, **names, **extra, word=sql.Literal(word)))
        if table.type.nullable:
            untyped = sql.SQL("{type} IS NULL AND ").format(type=names["type"])
            blocks.append(
                _fill(
                    "count_capped.sql",
                    **_names(table),
                    **{key: untyped + part for key, part in _ranges(table, group).items()},
                    part=sql.Literal("type"),
                    word=sql.Literal(word),
                    limit=sql.Literal(limit),
                    least=sql.Literal(limit),
                )
            )
    return _all(blocks)


def head(table: JobTable, group: Group, limit: int, *, ordered: bool) -> Statement | None:
    """The first `limit` rows of a group, in the order of the line or as they come."""
    due = table.run_after
    if ordered and group is Group.WAITING and due is not None and not due.nullable:
        # Without the jobs that are held back: thousands of them would count as a long queue.
        before = _beside_held(due.name, "<")
        return _first(table, group, limit, ordered=True, part="front", and_range=before)
    return _first(table, group, limit, ordered=ordered, part="head", and_range=sql.SQL(""))


def held(table: JobTable, limit: int) -> Statement | None:
    """The first `limit` jobs from those that are held back on: they stand behind all others."""
    if table.run_after is None:
        return None
    behind = _beside_held(table.run_after.name, ">=")
    return _first(table, Group.WAITING, limit, ordered=True, part="held", and_range=behind)


def _beside_held(due: str, operator: str) -> sql.Composed:
    return sql.SQL(" AND {due} {operator} {first}").format(
        due=sql.Identifier(due),
        operator=sql.SQL(operator),
        first=held_back.from_now(held_back.FIRST),
    )


def _first(
    table: JobTable,
    group: Group,
    limit: int,
    *,
    ordered: bool,
    part: str,
    and_range: sql.Composable,
) -> Statement | None:
    if not table.words.of(group) or (ordered and table.age is None):
        return None
    columns = {
        column.name: sql.Identifier(column.name)
        for column in (table.type, table.run_after, table.created_at)
        if column is not None
    }
    columns.setdefault(table.status, sql.Identifier(table.status))  # never an empty list
    order: sql.Composable = sql.SQL("")
    if ordered and table.age is not None:
        order = sql.SQL("ORDER BY {}").format(sql.Identifier(table.age.name))
    return _all(
        [
            _fill(
                "head_of_line.sql",
                **_names(table),
                word=sql.Literal(word),
                is_due=_is_due(table),
                is_ageless=_is_ageless(table),
                oldest=_oldest(table),
                is_held=_is_held(table),
                held_oldest=_held_oldest(table),
                part=sql.Literal(part),
                and_range=and_range,
                head_columns=sql.SQL(", ").join(columns.values()),
                in_order=order,
                limit=sql.Literal(limit),
            )
            for word in table.words.of(group)
        ]
    )


def words_by_index(table: JobTable, limit: int) -> Statement:
    """Status words that are not understood, with their jobs up to `limit` each, through an index
    that starts with the status."""
    return _fill("words_by_index.sql", **_names(table), limit=sql.Literal(limit))


def capped(table: JobTable, group: Group, limit: int, least: int) -> Statement | None:
    """How many of a group, up to `limit` due and `limit` scheduled; and as many that are held back
    as are left of `limit` after those that are due, but `least` in any case."""
    if not table.words.of(group):
        return None
    return _all(
        [
            _fill(
                "count_capped.sql",
                **_names(table),
                **_ranges(table, group),
                part=sql.Literal("total"),
                word=sql.Literal(word),
                limit=sql.Literal(limit),
                least=sql.Literal(least),
            )
            for word in table.words.of(group)
        ]
    )


def ended_lately(
    table: JobTable, *, window: timedelta, slice_seconds: int, limit: int
) -> Statement | None:
    """The rows that changed in `window`, newest first, by slices of age. None without a column."""
    if table.ended_at is None:
        return None
    ended = sql.Identifier(table.ended_at.name)
    changed: sql.Composable = _TRUE
    # Only updated_at is also set when a row is made; a processed_at appears only with a change.
    if table.created_at is not None and not table.ended_at.set_later:
        changed = sql.SQL("{} > {}").format(ended, sql.Identifier(table.created_at.name))
    return _fill(
        "ended_lately.sql",
        **_names(table),
        ended_at=ended,
        now=_NOW,
        changed=changed,
        window=sql.Literal(window.total_seconds()),
        slice=sql.Literal(slice_seconds),
        limit=sql.Literal(limit),
    )


def counters(table: JobTable) -> tuple[sql.SQL, dict[str, int | str]]:
    """The table's activity counters and size, with their parameters."""
    of: dict[str, int | str] = {"oid": table.oid, "schema": table.schema, "name": table.name}
    return load_sql(__package__, "counters.sql"), of


def explain(statement: sql.Composable) -> Statement:
    """Ask for the plan, run nothing."""
    return sql.SQL("EXPLAIN (FORMAT JSON) ") + statement


def union(statements: list[Statement]) -> Statement:
    """Several of the above as one statement, for one moment and one round trip."""
    return _all(list(statements))


def _fill(file: str, **parts: sql.Composable) -> Statement:
    return load_sql(__package__, file).format(**parts)


def _all(blocks: list[sql.Composable]) -> Statement:
    return sql.SQL("\nUNION ALL\n").join(blocks)


def _names(table: JobTable) -> dict[str, sql.Composable]:
    longest = sql.Literal(_LONGEST_NAME)
    kind: sql.Composable = sql.SQL("NULL::text")
    if table.type is not None:
        kind = sql.SQL("left({}::text, {})").format(sql.Identifier(table.type.name), longest)
    return {
        "table": sql.Identifier(table.schema, table.name),
        "status": sql.Identifier(table.status),
        "type": kind,
        "known": sql.SQL("{}::text[]").format(sql.Literal(list(table.words.understood))),
        "longest_name": longest,
        "most_groups": sql.Literal(MOST_GROUPS),
        "most_words": sql.Literal(MOST_WORDS),
    }


def _is_due(table: JobTable) -> sql.Composable:
    """Whether a row may be claimed now. No due time at all: at once."""
    if table.run_after is None:
        return _TRUE
    due = sql.Identifier(table.run_after.name)
    if table.run_after.nullable:
        return sql.SQL("({due} IS NULL OR {due} <= now())").format(due=due)
    return sql.SQL("{due} <= now()").format(due=due)


def _is_ageless(table: JobTable) -> sql.Composable:
    """Whether a row has nothing that its age could be counted from. A table without such columns
    says so once, and not for each row."""
    times = [column for column in (table.run_after, table.created_at) if column is not None]
    if not times or not all(column.nullable for column in times):
        return _FALSE
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in times)
    return sql.SQL("coalesce({}) IS NULL").format(names)


def _ranges(table: JobTable, group: Group) -> dict[str, sql.Composable]:
    """The same as ranges of an index: due, later (before and beyond the jobs that are held back),
    held, undated. Only waiting jobs are distinguished."""
    if table.run_after is None or group is not Group.WAITING:
        none = dict.fromkeys(("later", "beyond", "held", "undated"), _FALSE)
        return {"due": _TRUE, **none}
    due = sql.Identifier(table.run_after.name)
    undated = sql.SQL("{} IS NULL").format(due) if table.run_after.nullable else _FALSE
    return {
        "due": sql.SQL("{} <= now()").format(due),
        "later": sql.SQL("{due} > now() AND {due} < {first}").format(
            due=due, first=held_back.from_now(held_back.FIRST)
        ),
        "beyond": sql.SQL("{due} >= {last}").format(
            due=due, last=held_back.from_now(held_back.LAST)
        ),
        "held": _is_held(table),
        "undated": undated,
    }


def _oldest(table: JobTable) -> sql.Composable:
    """Age of the oldest due row of a group of rows, in seconds."""
    if table.age is None:
        return _NO_AGE
    age: sql.Composable = sql.Identifier(table.age.name)
    if table.run_after is not None and table.run_after.nullable and table.created_at is not None:
        age = sql.SQL("coalesce({}, {})").format(age, sql.Identifier(table.created_at.name))
    return _age_of(
        sql.SQL("min({age}) FILTER (WHERE {is_due} AND {age} > '-infinity')").format(
            age=age, is_due=_is_due(table)
        )
    )


def _is_held(table: JobTable) -> sql.Composable:
    """Whether a row waits, but is held back by a pause of ours (producers/job_types.py)."""
    if table.run_after is None:
        return _FALSE
    return held_back.is_held(sql.Identifier(table.run_after.name))


def _held_oldest(table: JobTable) -> sql.Composable:
    """Age of the oldest held row of a group of rows by the due time it had before, in seconds."""
    if table.run_after is None:
        return _NO_AGE
    due = sql.Identifier(table.run_after.name)
    return _age_of(
        sql.SQL("min({original}) FILTER (WHERE {is_held})").format(
            original=held_back.original(due), is_held=_is_held(table)
        )
    )


def _age_of(time: sql.Composable) -> sql.Composable:
    # Through timestamptz: a timestamp without zone means the session's zone, as in now() <= it.
    # Epochs instead of intervals: PostgreSQL before 17 cannot subtract an infinite timestamp.
    return sql.SQL("{now} - extract(epoch FROM ({time})::timestamptz)::float8").format(
        now=_NOW, time=time
    )
