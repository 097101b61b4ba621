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
from starforge_backlog.connections.backoff import retry_delay
from starforge_backlog.databases.explained import explained
from starforge_backlog.databases.faults import (
    DatabaseFault,
    NoAnswer,
    NoTurn,
    lost_fault,
    statement_fault,
)
from starforge_backlog.databases.server_identity import BELIEVED_FOR, read_server_place
from starforge_backlog.databases.session import Rows, Session, open_session
from starforge_backlog.databases.sql import Params, Query, load_sql
from starforge_backlog.databases.url import ServerKey, ServerUrl
from starforge_backlog.shared_tasks import await_shared, retrieve_exception
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


@dataclass(frozen=True, slots=True)
class Pacing:
    """How long we wait for a server that misbehaves, and how often we reconnect."""

    connect_within: timedelta = timedelta(seconds=3)
    # Beyond the server's own limit: what a slow network needs to bring the answer.
    answer_grace: timedelta = timedelta(seconds=1)
    turn_within: timedelta = timedelta(seconds=5)  # for the statements of others before ours
    # Attempts to connect are at least this far apart (every client of a
    # restarted server reconnects at once; we must not be one more in that stampede) …
    retry_first: timedelta = timedelta(seconds=5)
    # … and never further than one default interval, so that recovery is seen with the next pass.
    retry_most: timedelta = timedelta(seconds=15)
    retry_jitter: float = 0.3  # share of the delay that is random, upwards


class Database:
    """The shared connection to one server, database and user.

    Statements run one at a time. While the database cannot be reached, callers get the last fault
    at once instead of an attempt each. An open connection is kept as long as it works: when the
    database is full, a dropped one could not come back.
    """

    def __init__(self, url: ServerUrl, *, pacing: Pacing | None = None) -> None:
        self._url = url
        self._pacing = pacing or Pacing()
        self._turn = asyncio.Lock()
        self._running: asyncio.Task[Rows] | None = None  # asyncio keeps weak references
        self._session: Session | None = None
        self._session_url: ServerUrl | None = None  # what the session was opened with
        self._fault: DatabaseFault | None = None  # why there is no session
        self._failures = 0  # attempts that failed, since the last that did not
        self._retry_at = 0.0  # loop time of the next attempt, seconds
        self._where: ServerPlace | None = None  # see `where`; asked anew for each session
        self._where_until = 0.0  # loop time

    def __repr__(self) -> str:
        return f"Database({self.key.host}:{self.key.port}, {self.key.user})"

    @property
    def key(self) -> ServerKey:
        """Which connection this is."""
        return self._url.key

    def update_url(self, url: ServerUrl) -> None:
        """Use `url` from the next statement on, e.g. after the password was rotated.

        A changed URL may be tried at once; the same one changes nothing. Raises ValueError when
        the URL is of another server, database or user.
        """
        if url.key != self.key:
            raise ValueError("another server, database or user needs a Database of its own")
        if url == self._url:
            return
        self._url = url
        self._fault, self._failures, self._retry_at = None, 0, 0.0

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
        clock = asyncio.get_running_loop().time
        if self._where is None or clock() >= self._where_until:
            found = await read_server_place(self)
            self._where, self._where_until = found, clock() + BELIEVED_FOR.total_seconds()
            return found
        return self._where

    async def close(self) -> None:
        """Close the connection. The object can be used again and then connects anew."""
        async with self._turn:
            await self._drop()

    async def _run(self, transaction: _Transaction, query: Query, params: Params) -> Rows:
        await self._take_turn()
        # A task of its own: a pass that runs out of time must not cost everybody the connection,
        # which a full database would not give back. The statement ends at its own limit.
        running = asyncio.create_task(self._in_turn(transaction, query, params))
        self._running = running
        running.add_done_callback(retrieve_exception)
        return await await_shared(running)

    async def _in_turn(self, transaction: _Transaction, query: Query, params: Params) -> Rows:
        try:
            session = await self._connected()
            return await self._transact(session, transaction, query, params)
        except DatabaseFault as fault:
            if self._session is None:
                self._fault = fault  # for everybody, until the next attempt to connect
            raise
        finally:
            self._turn.release()

    async def _take_turn(self) -> None:
        if self._fault is not None and self._session is None and self._turn.locked():
            raise self._fault  # somebody else is trying to connect right now
        try:
            async with asyncio.timeout(self._pacing.turn_within.total_seconds()):
                await self._turn.acquire()
        except TimeoutError:
            raise NoTurn from None

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
                status = TransactionStatus.UNKNOWN  # dropped below; the statement's fault is told
        if status is not TransactionStatus.IDLE:
            await self._drop()

    async def _connected(self) -> Session:
        """The open session, or a new one if it is time for an attempt. Raises DatabaseFault."""
        session = self._session
        if session is not None and (session.closed or await session.ended()):
            await self._drop()
            session = None
        if session is not None and self._session_url == self._url:
            return session
        clock = asyncio.get_running_loop().time
        if clock() < self._retry_at:
            if session is not None:
                return session  # a full database refused the rotated URL; the old session works
            raise self._fault or lost_fault()
        url = self._url
        self._retry_at = clock() + retry_delay(self._failures, self._pacing)
        try:
            fresh = await open_session(url, self._pacing.connect_within)
        except (psycopg.Error, OSError, UnicodeError) as error:
            fault = await explained(error, url)
            self._retry_at = clock() + retry_delay(
                self._failures, self._pacing
            )  # anew: the attempt took its time
            self._fault = fault
            self._failures += 1
            if session is not None and fault.why in _NO_SLOT:
                return session
            await self._drop()
            # From None: libpq's message repeats parts of the URL.
            raise fault from None
        await self._drop()
        self._session, self._session_url = fresh, url
        self._fault, self._failures = None, 0
        return fresh

    async def _drop(self) -> None:
        session, self._session, self._session_url = self._session, None, None
        self._where = None
        if session is not None:
            await session.close()


def _quoted(schema: str) -> str:
    return '"' + schema.replace('"', '""') + '"'


def _milliseconds(limit: timedelta) -> str:
    return f"{round(limit.total_seconds() * 1000)}ms"
