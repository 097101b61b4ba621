"""Opening a psycopg connection the way this operator needs it, and giving one up at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

import psycopg
from psycopg import sql, waiting
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from starforge_backlog.databases.authorities import ca_file
from starforge_backlog.databases.sql import Params
from starforge_backlog.databases.url import ServerUrl

T = TypeVar("T")

APPLICATION_NAME = "starforge-backlog"  # whose sessions these are, for admins and for `own`

# A peer that vanished without a word (node lost, NAT entry expired) is noticed within
# idle + interval × count = 60 s even between passes; the URL's own values win.
_KEEPALIVE = {
    "keepalives": "1",
    "keepalives_idle": "30",  # seconds of silence before the first probe
    "keepalives_interval": "10",  # seconds between probes
    "keepalives_count": "3",
}
LEAST_FOR_A_HOST = timedelta(seconds=2)  # libpq's rule; it counts whole seconds
# A list of hosts is for a failover: the second must be reached when the first is silent, and nobody
# waits for the tenth.
MOST_FOR_ALL_HOSTS = timedelta(seconds=10)
_POLL = 0.1  # seconds between psycopg's own polls of a socket that says nothing

# transaction_timestamp() is the moment of BEGIN.
_COST = b"SELECT extract(epoch FROM clock_timestamp() - transaction_timestamp())::float8 AS seconds"


class Rows(list[DictRow]):
    """Rows of a statement, and the seconds that the server was busy with its transaction.

    By the server's clock: the network, other statements' turns and a busy event loop are no work
    for the database, and a rest that was measured by them would stop readings.
    """

    def __init__(self, rows: Iterable[DictRow], seconds: float) -> None:
        super().__init__(rows)
        self.seconds = seconds


class Session(psycopg.AsyncConnection[DictRow]):
    """A connection that is closed, not rescued, when waiting for it is cancelled.

    psycopg asks the server to cancel and waits for it, up to 10 s: too long for a pass, and in
    vain with a frozen server. The server ends our statement by itself (statement_timeout).
    """

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = _POLL,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> T:
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval, timeout)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise

    async def ended(self) -> bool:
        """Whether the server, or something in between, has ended it while nothing was asked
        (idle_session_timeout, client_idle_timeout of a PgBouncer, a load balancer): the next
        statement would be lost, with every pass where passes are further apart than that. Ask only
        while no statement is under way; nothing is sent, and nothing is waited for."""
        try:
            for _ in range(2):  # its last words come first, then the end
                self.pgconn.consume_input()
        except psycopg.OperationalError:
            return True
        return self.closed

    async def run(self, *statements: tuple[bytes | sql.SQL | sql.Composed, Params | None]) -> Rows:
        """Send BEGIN …, a read of the clock, and COMMIT in one round trip; the rows of the last.

        One round trip, so no snapshot is held while our packets travel.
        Raises the first psycopg.Error; the transaction is then failed, and open.
        """
        first: psycopg.Error | None = None
        cursors: list[psycopg.AsyncCursor[DictRow]] = []
        try:
            async with self.pipeline():  # leaving it waits for the answers
                try:
                    for statement, params in (*statements, (_COST, None), (b"COMMIT", None)):
                        cursors.append(await self.execute(statement, params))
                except psycopg.Error as error:
                    # Kept, not raised: psycopg would log a warning of its own for the rest that
                    # the server skipped.
                    first = error
        except psycopg.Error as error:
            first = first or error
        if first is not None:
            raise first
        answer, cost = cursors[-3], await cursors[-2].fetchall()
        return Rows(await answer.fetchall() if answer.description else [], cost[0]["seconds"])


async def open_session(url: ServerUrl, within: timedelta) -> Session:
    """Connect, in `within` for each host of the URL and `MOST_FOR_ALL_HOSTS` for all of them.

    Raises psycopg.Error, or what the resolver raises. target_session_attrs is the URL's business.
    """
    each = max(LEAST_FOR_A_HOST, min(within, url.connect_timeout or within))
    # A single name may have several addresses.
    in_all = min(each * max(url.hosts, 2), MOST_FOR_ALL_HOSTS)
    with ca_file(url.ca) as authorities:
        parameters = (
            _KEEPALIVE
            | url.parameters
            | ({"sslrootcert": authorities} if authorities else {})
            | {
                "application_name": APPLICATION_NAME,
                "client_encoding": "utf8",  # statements are sent as UTF-8 bytes
                "connect_timeout": str(round(each.total_seconds())),  # libpq: per address
            }
        )
        try:
            async with asyncio.timeout(in_all.total_seconds()):
                return await Session.connect(
                    make_conninfo("", **parameters),
                    autocommit=True,
                    # Prepared statements live in a server session; PgBouncer hands it to others.
                    prepare_threshold=None,
                    row_factory=dict_row,
                )
        except TimeoutError:
            raise psycopg.errors.ConnectionTimeout("connection timeout expired") from None
