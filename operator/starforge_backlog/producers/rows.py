"""What producers that are many rows of a table have in common: names, and faults with a fix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from psycopg import sql

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.clock import Clock
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.decide.results import Paused, PauseOutcome, Resumed, ResumeOutcome
from starforge_backlog.snapshot import Unknown, Why

# What a table says to a write or a comparison that it cannot take, by SQLSTATE. `{place}` and
# `{field}` are filled in by the caller.
CHECK_REFUSED = "23514"
NOT_NULL = "23502"
NO_SUCH_WORD = "22P02"  # a word that the column's enum does not have
NO_SUCH_COLUMN = "42703"
NO_JSON = frozenset({"22P02", "22P05"})  # a text that cannot be cast to jsonb
OTHER_TYPE = frozenset({"42883", "42804", "42846"})  # no such operator, cannot be cast


def table_name(table: str) -> sql.Identifier:
    """A table of a spec, as `table` or `schema.table`."""
    return sql.Identifier(*table.split("."))


def column(name: str) -> sql.Composed:
    """A column of the row that the `.sql` files call `job`."""
    return sql.SQL("job.{}").format(sql.Identifier(name))


def listed(words: Iterable[str]) -> sql.Composed:
    """Words as literals. Without a cast they take the column's type, also that of an enum."""
    return sql.SQL(", ").join(sql.Literal(word) for word in words)


def keys(ids: Iterable[str]) -> sql.Composed:
    """The same of ids from status, for a statement with parameters, in which `%` has a meaning. A
    comparison with the column as text would read the whole table.

    NULL where there are none: `IN ()` is no SQL.
    """
    words = [sql.Literal(word.replace("%", "%%")) for word in sorted(ids)]
    return sql.SQL(", ").join(words or [sql.Literal(None)])


def unknown(fault: DatabaseFault, place: str, fixes: Mapping[str, str], at: datetime) -> Unknown:
    """The fault as a reading."""
    said = fixes.get(fault.sqlstate)
    if said is None:
        return Unknown(fault.why, f"{fault.message} ({place}.)", at)
    why = fault.why if fault.why is not Why.ERROR else Why.BAD_SHAPE
    return Unknown(why, said, at)


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few, for a sentence."""
    found = sorted(names)
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + rest


class Table:
    """A table whose rows are paused. What a fault of its rows means, `fixes` says by SQLSTATE."""

    def __init__(self, database: Database, table: str, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self.place = f"table {table}"

    def fixes(self, fault: DatabaseFault) -> Mapping[str, str]:
        """Sentences for faults that no second try fixes."""
        raise NotImplementedError

    async def where(self) -> ServerPlace | Unknown:
        """See `Pausable.where`."""
        try:
            return await self.database.where()
        except DatabaseFault as fault:
            return self.unknown(fault)

    def unknown(self, fault: DatabaseFault) -> Unknown:
        """The fault as a reading, with its fix."""
        return unknown(fault, self.place, self.fixes(fault), self.clock())

    def not_paused(self, fault: DatabaseFault) -> Paused | Unknown:
        """What a fault makes of a pause: refused, where no second try fixes it."""
        said = self.fixes(fault).get(fault.sqlstate)
        return self.unknown(fault) if said is None else Paused(PauseOutcome.BAD_SHAPE, message=said)

    def not_resumed(self, fault: DatabaseFault) -> Resumed | Unknown:
        """The same of a resume."""
        said = self.fixes(fault).get(fault.sqlstate)
        return self.unknown(fault) if said is None else Resumed(ResumeOutcome.BAD_SHAPE, said)

    def swallowed(self) -> Unknown:
        """A write that returned nothing."""
        message = (
            f"The UPDATE of {self.place} changed nothing; a trigger or a row-level security policy"
            " suppresses it. Let the operator's role write these rows."
        )
        return Unknown(Why.NO_PERMISSION, message, self.clock())
