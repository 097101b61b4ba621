"""All database connections of the operator: found by URL, shared by policies, closed when idle."""

from __future__ import annotations

from datetime import timedelta

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.connections.pool import IDLE_AFTER, Hub
from starforge_backlog.databases.connection import Database, Pacing
from starforge_backlog.databases.headroom import HeadroomReader
from starforge_backlog.databases.url import ServerUrl, parse_url


class DatabaseHub(Hub[ServerUrl, Database]):
    """One `Database` per host, port, database and user, however many policies ask for it (P7).

    See `Hub` for who shares a connection with whom.
    """

    def __init__(
        self,
        clock: Clock = utc_now,
        *,
        pacing: Pacing | None = None,
        idle_after: timedelta = IDLE_AFTER,
    ) -> None:
        super().__init__(lambda url: Database(url, pacing=pacing), idle_after=idle_after)
        self._clock = clock

    def get(self, url: str, *, owner: str, ca: str = "") -> Database:
        """The database of a URL as it stands in a Secret; `owner` is the policy that asks, `ca` the
        authorities that it trusts.

        Nothing is opened yet. Raises DatabaseFault(SECRET_MALFORMED).
        """
        return self.shared(parse_url(url, ca=ca), owner=owner)

    def headroom(self, database: Database) -> HeadroomReader:
        """The reader of its connections: one per database, so that its samples are shared."""
        return self.attached(
            database, HeadroomReader, lambda: HeadroomReader(database, self._clock)
        )
