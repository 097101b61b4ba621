"""One connection per database, shared by all policies: short statements, nothing that can hang.

P7: one connection however many policies; read-only statements with time limits. P2: whatever goes
wrong is a `DatabaseFault`, never an empty result.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg.pq import TransactionStatus

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.connections import reconnecting
from starforge_backlog.connections.reconnecting import Reconnecting
from starforge_backlog.databases.explained import explained
from starforge_backlog.databases.faults import (
    NoAnswer,
    NoTurn,
    lost_fault,
    statement_fault,
)
from starforge_backlog.databases.server_identity import BELIEVED_FOR, read_server_place
from starforge_backlog.databases.session import Rows, Session, open_session
from starforge_backlog.databases.sql import Params, Query, load_sql
from starforge_backlog.databases.url import ServerKey, ServerUrl
from starforge_backlog.snapshot import Why

READ_LIMIT = timedelta(milliseconds=800)  # server's statement_timeout of a read
WRITE_LIMIT = timedelta(seconds=2)  # of a write: one row by its key, but it waits for the disk
LOCK_LIMIT = timedelta(milliseconds=100)  # lock_timeout of both: never queue before a worker


# Another login gets no connection for the moment; the one that we have works on.
_NO_SLOT = frozenset({Why.DATABASE_FULL, Why.ROLE_LIMIT})
_READ = b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
# Without READ WRITE: that would overrule default_transaction_read_only, a switch that people and
# failover tools use to keep writers out.
_WRITE = b"BEGIN ISOLATION LEVEL READ COMMITTED"


@dataclass(frozen=True, slots=True)
class _Transaction:
    """How a statement is wrapped."""

    begin: bytes
    limits: str  # file with the statement that sets the limits
    limit: timedelta  # statement_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing(reconnecting.Pacing):
    """See the base."""

    connect_within: timedelta = timedelta(seconds=3)
    # Beyond the server's own limit: what a slow network needs to bring the answer.
    answer_grace: timedelta = timedelta(seconds=1)
    turn_within: timedelta = timedelta(seconds=5)  # for the statements of others before ours
    retry_first: timedelta = timedelta(seconds=5)


class Database:
    """The shared connection to one server, database and user.

    Statements run one at a time. While the database cannot be reached, callers get the last fault
    at once instead of an attempt each. An open connection is kept as long as it works: when the
    database is full, a dropped one could not come back.
    """

    def __init__(self, url: ServerUrl, *, pacing: Pacing | None = None) -> None:
        self._pacing = pacing or Pacing()
        self._connection: Reconnecting[ServerUrl, Session] = Reconnecting(
            url,
            self._connect,
            self._pacing,
            no_turn=NoTurn,
            lost=lost_fault,
            survived=_NO_SLOT,
        )
        self._where: ServerPlace | None = None  # see `where`
        self._where_by: Session | None = None  # asked again for each session
        self._where_until = 0.0  # loop time

    def __repr__(self) -> str:
        return f"Database({self.key.host}:{self.key.port}, {self.key.user})"

    @property
    def key(self) -> ServerKey:
        return self._connection.wanted.key

    def update_url(self, url: ServerUrl) -> None:
        """Use `url` from the next statement on, e.g. after the password was rotated.

        A changed URL may be tried at once; the same one changes nothing. Raises ValueError when
        the URL is of another server, database or user.
        """
        if url.key != self.key:
            raise ValueError("another server, database or user needs a Database of its own")
        self._connection.want(url)

    async def fetch(
        self,
        query: Query,
        params: Params = (),
        *,
        timeout: timedelta = READ_LIMIT,  # noqa: ASYNC109 - the server's limit, not ours
        by_index: bool = False,
    ) -> Rows:
        """Rows of one read-only statement in a transaction of its own.

        `timeout` is the server's statement_timeout. A `%` is literal when there are no `params`.
        `by_index`: take an index where there is one, whatever the statistics say.
        Raises DatabaseFault; after TIMEOUT or UNREACHABLE the next call connects again.
        """
        limits = "index_limits.sql" if by_index else "read_limits.sql"
        return await self._run(_Transaction(_READ, limits, timeout), query, params)

    async def execute_write(
        self,
        query: Query,
        params: Params = (),
        *,
        timeout: timedelta = WRITE_LIMIT,  # noqa: ASYNC109 - the server's limit, not ours
    ) -> Rows:
        """Rows that one writing statement returns, committed and on disk.

        Raises DatabaseFault; after TIMEOUT or UNREACHABLE it may have happened all the same, so
        the statement must be one that can be repeated. READ_ONLY on a server that takes no writes.
        """
        return await self._run(_Transaction(_WRITE, "write_limits.sql", timeout), query, params)

    async def where(self) -> ServerPlace:
        """Which server and database this is, without the login (`decide/pauses/`).

        Raises DatabaseFault.
        """
        clock, by = asyncio.get_running_loop().time, self._connection.session
        if self._where is None or self._where_by is not by or clock() >= self._where_until:
            found = self._where = await read_server_place(self)
            self._where_by = self._connection.session
            self._where_until = clock() + BELIEVED_FOR.total_seconds()
            return found
        return self._where

    async def close(self) -> None:
        """Close the connection. The object can be used again and then connects again."""
        await self._connection.close()

    async def _run(self, transaction: _Transaction, query: Query, params: Params) -> Rows:
        return await self._connection.run(
            lambda session: self._transact(session, transaction, query, params)
        )

    async def _transact(
        self, session: Session, transaction: _Transaction, query: Query, params: Params
    ) -> Rows:
        settings = {
            "statement_timeout": _milliseconds(transaction.limit),
            "lock_timeout": _milliseconds(LOCK_LIMIT),
            "search_path": ", ".join(_quoted(schema) for schema in self.key.schemas),
        }
        limits = load_sql(__package__, transaction.limits)
        statement = query.encode() if isinstance(query, str) else query
        answer_within = transaction.limit + self._pacing.answer_grace
        try:
            # The server's limit comes first; ours is for a server that no longer keeps time.
            async with asyncio.timeout(answer_within.total_seconds()):
                return await session.run(
                    (transaction.begin, None),
                    (limits, settings),
                    (statement, params or None),
                )
        except TimeoutError:
            raise NoAnswer(answer_within.total_seconds()) from None
        except psycopg.Error as error:
            # From None: the server's message may repeat values of the row.
            raise statement_fault(error, user=self.key.user) from None
        finally:
            await self._end_transaction(session)

    async def _end_transaction(self, session: Session) -> None:
        """Leave an idle session, or none: its state is unknown after anything but a clean end."""
        status = session.info.transaction_status
        if status is TransactionStatus.INERROR:
            try:
                async with asyncio.timeout(self._pacing.answer_grace.total_seconds()):
                    await session.rollback()
                    status = session.info.transaction_status
            except (psycopg.Error, TimeoutError):
                status = (
                    TransactionStatus.UNKNOWN
                )  # dropped below; the statement's fault is reported
        if status is not TransactionStatus.IDLE:
            await self._connection.drop()

    async def _connect(self, url: ServerUrl) -> Session:
        try:
            return await open_session(url, self._pacing.connect_within)
        except (psycopg.Error, OSError, UnicodeError) as error:
            # From None: libpq's message repeats parts of the URL.
            raise await explained(error, url) from None


def _quoted(schema: str) -> str:
    return '"' + schema.replace('"', '""') + '"'


def _milliseconds(limit: timedelta) -> str:
    return f"{round(limit.total_seconds() * 1000)}ms"
