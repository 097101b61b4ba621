"""All database connections of the operator: found by URL, shared by policies, closed when idle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.connections import IDLE_AFTER, SharedConnections
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.headroom import HeadroomReader
from starforge_backlog.databases.url import ServerUrl, parse_url

T = TypeVar("T")


class DatabaseHub:
    """One `Database` per host, port, database and user, however many policies ask for it (P7).

    See `SharedConnections` for who shares a connection with whom.
    """

    def __init__(
        self,
        clock: Clock = utc_now,
        *,
        pacing: Pacing | None = None,
        idle_after: timedelta = IDLE_AFTER,
    ) -> None:
        self._clock = clock
        self._shared: SharedConnections[ServerUrl, Database] = SharedConnections(
            lambda url: Database(url, pacing=pacing), idle_after=idle_after
        )

    def get(self, url: str, *, owner: str, ca: str = "") -> Database:
        """The database of a URL as it stands in a Secret; `owner` is the policy that asks, `ca` the
        authorities that it trusts.

        Nothing is opened yet. Raises DatabaseFault(SECRET_MALFORMED).
        """
        return self._shared.get(parse_url(url, ca=ca), owner=owner)

    def headroom(self, database: Database) -> HeadroomReader:
        """The reader of its connections: one per database, so that its samples are shared."""
        return self.attached(
            database, HeadroomReader, lambda: HeadroomReader(database, self._clock)
        )

    def attached(self, database: Database, kind: type[T], make: Callable[[], T]) -> T:
        """What somebody keeps beside a connection (readers with their samples): made once, and
        gone with the connection."""
        return self._shared.attached(database, kind, make)

    def release(self, owner: str) -> None:
        """`owner` is gone (its policy was deleted): close what only it used."""
        self._shared.release(owner)

    async def close(self) -> None:
        """Close everything. The hub can be used again and then connects anew."""
        await self._shared.close()
