"""What the observer needs of a database: one short read-only statement at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from psycopg import sql


class Fetches(Protocol):
    """`databases.connection.Database`, or a double that counts."""

    async def fetch(
        self, query: str | sql.SQL | sql.Composed, params: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """Rows of one statement in a read-only transaction of its own. Raises DatabaseFault."""
