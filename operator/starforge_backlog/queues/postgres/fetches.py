"""What the observer needs of a database: one short read-only statement at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from psycopg import sql

from starforge_backlog.databases.faults import DatabaseFault, NoAnswer, NoTurn
from starforge_backlog.databases.session import Rows
from starforge_backlog.snapshot import Why


class Fetches(Protocol):
    """`databases.connection.Database`, or a double that counts."""

    async def fetch(
        self,
        query: str | sql.SQL | sql.Composed,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        by_index: bool = False,
    ) -> list[dict[str, Any]]:
        """Rows of one statement in a read-only transaction of its own; `by_index` where its LIMITs
        bound what an index delivers. Raises DatabaseFault."""


class Metered:
    """Passes statements on and adds up what they cost the server, in seconds."""

    def __init__(self, database: Fetches, timer: Callable[[], float]) -> None:
        self._database = database
        self._timer = timer
        self.seconds = 0.0

    async def fetch(
        self,
        query: str | sql.SQL | sql.Composed,
        params: Sequence[Any] | Mapping[str, Any] = (),
        *,
        by_index: bool = False,
    ) -> list[dict[str, Any]]:
        began = self._timer()
        try:
            rows = await self._database.fetch(query, params, by_index=by_index)
        except DatabaseFault as fault:
            # No answer that could say it: the server worked until its limit, or was never asked.
            if fault.why is Why.TIMEOUT and not isinstance(fault, NoTurn | NoAnswer):
                self.seconds += self._timer() - began
            raise
        self.seconds += rows.seconds if isinstance(rows, Rows) else self._timer() - began
        return rows
