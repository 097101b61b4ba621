"""The console of a PgBouncer: its pools, and who waits for them.

One connection per console, shared by all policies. It is no database: the simple protocol only, no
transactions, no parameters, and no time limit but ours.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg.rows import dict_row

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.connections.pool import Hub
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases.explained import explained
from starforge_backlog.databases.faults import (
    DatabaseFault,
    NoAnswer,
    statement_fault,
)
from starforge_backlog.databases.pgbouncer_pools import Row, Shown, Workers, pooler
from starforge_backlog.databases.session import Session, open_session
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.databases.url import ServerUrl, parse_url
from starforge_backlog.snapshot import Known, Pooler, Reading, Unknown, Why

AT = "database.pgbouncer"
"""Where it is in a spec."""


@dataclass(frozen=True, slots=True)
class ConsoleLimits:
    """How long we wait for a console, and how often we ask."""

    connect_within: timedelta = timedelta(seconds=2)
    answer_within: timedelta = timedelta(seconds=1)  # all questions; it answers from memory
    # After a failure nobody reconnects for this long: all clients of a restarted pooler come back.
    retry_after: timedelta = timedelta(seconds=5)
    shared_for: timedelta = timedelta(seconds=1)  # more recent answers are shared
    # Two samples further apart are not "in a row".
    most_apart: timedelta = timedelta(minutes=2)


# What the pooler says itself; the rest is said as by a server.
_AT_CONNECT: tuple[tuple[re.Pattern[str], Why, str], ...] = (
    (
        re.compile("not allowed"),
        Why.NO_PERMISSION,
        "role {user} may not read the console; add it to stats_users in pgbouncer.ini",
    ),
    (
        re.compile("no such database"),
        Why.DATABASE_NOT_FOUND,
        "the URL leads past the console; its database must be pgbouncer",
    ),
    (
        re.compile("unsupported startup parameter"),
        Why.SECRET_MALFORMED,
        "the console refuses a parameter of the URL (options, for example); remove it",
    ),
    (
        re.compile("timeout expired"),
        Why.UNREACHABLE,
        (
            "no login in time; check that PgBouncer runs, and that role {user} is in its auth_file"
            " and stats_users: one that only auth_query knows is never answered"
        ),
    ),
)
# PostgreSQL's answer to SHOW POOLS, and an old PgBouncer's to what it does not know.
_NOT_A_CONSOLE = frozenset({"42704", "42601", "08P01"})


@dataclass(frozen=True, slots=True)
class Samples:
    """Two samples in a row."""

    now: Shown
    before: Shown | None


def workers_pools(
    samples: Reading[Samples], workers: Workers | None, replicas: int
) -> Reading[Pooler]:
    """The pools of the workers. `workers` is None when their role is not known."""
    if isinstance(samples, Unknown):
        return samples
    if workers is None:
        message = f"{AT}: the role of the workers is not known; set spec.database.workerRole"
        return Unknown(Why.NOT_CONFIGURED, message, samples.at)
    try:
        found = pooler(samples.value.now, samples.value.before, workers, replicas)
    except (KeyError, ValueError) as strange:
        message = f"{AT}: the console shows something unknown ({type(strange).__name__} {strange})"
        return Unknown(Why.BAD_SHAPE, message, samples.at)
    return Known(found, samples.at)


class Console:
    """One console under one login.

    Its session is no `Reconnecting`: all questions are one, so nobody waits for a turn, and after
    any fault the answer stands until the next attempt. A new password is for the next session.
    """

    def __init__(self, url: ServerUrl, clock: Clock, limits: ConsoleLimits) -> None:
        self._url = url
        self._clock = clock
        self._limits = limits
        self._session: Session | None = None
        self._shared = SharedAnswer(self._ask, limits.shared_for, from_end=True)
        self._last: Reading[Shown] | None = None
        self._before: Known[Shown] | None = None  # the read before the last

    def update_url(self, url: ServerUrl) -> None:
        """Use another password from the next connection on; it may be tried at once."""
        self._url = url
        if isinstance(self._last, Unknown):
            self._last = None
            self._shared.expire()

    async def close(self) -> None:
        await self._shared.settle()
        await self._drop()

    async def sample(self) -> Reading[Samples]:
        """What it shows now, and what it showed before. Expected faults are `Unknown`."""
        last = await self._shared.get()
        if isinstance(last, Unknown):
            return last
        before = self._before
        if before is not None and last.at - before.at > self._limits.most_apart:
            before = None
        return Known(Samples(last.value, before.value if before else None), last.at)

    async def _ask(self) -> Reading[Shown]:
        at = self._clock()
        found: Reading[Shown]
        try:
            found = Known(await self._shown(), at)
        except DatabaseFault as fault:
            found = Unknown(fault.why, f"{AT}: {fault.message}", at)
            self._shared.rest(self._limits.retry_after.total_seconds())
        if isinstance(self._last, Known):
            self._before = self._last
        self._last = found
        return found

    async def _shown(self) -> Shown:
        """Raises DatabaseFault; the connection is then closed."""
        session = await self._connected()
        limit = self._limits.answer_within.total_seconds()
        try:
            async with asyncio.timeout(limit):
                return Shown(
                    pools=await _show(session, "pools"),
                    databases=await _show(session, "databases"),
                    users=await _show(session, "users"),
                    lists=await _show(session, "lists"),
                    config=await _show(session, "config"),
                )
        except TimeoutError:
            await self._drop()
            raise NoAnswer(limit) from None
        except psycopg.Error as error:
            await self._drop()
            if error.sqlstate in _NOT_A_CONSOLE:
                message = "what answers is no PgBouncer console; the URL's database is pgbouncer"
                raise DatabaseFault(Why.BAD_SHAPE, message) from None
            raise statement_fault(error, user=self._url.key.user) from None

    async def _connected(self) -> Session:
        """Raises DatabaseFault."""
        if (
            self._session is not None
            and not self._session.closed
            and not await self._session.ended()
        ):
            return self._session
        await self._drop()
        url = self._url
        try:
            self._session = await open_session(url, self._limits.connect_within)
        except (psycopg.Error, OSError, UnicodeError) as error:
            key, text = url.key, str(error).lower()
            for pattern, why, message in _AT_CONNECT:
                if pattern.search(text):
                    raise DatabaseFault(why, message.format(user=key.user)) from None
            # From None: libpq's message repeats parts of the URL.
            raise await explained(error, url) from None
        return self._session

    async def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class ConsoleHub(Hub[ServerUrl, Console]):
    """One `Console` per host, port and user, however many policies ask for it (P7)."""

    def __init__(self, clock: Clock = utc_now, *, limits: ConsoleLimits | None = None) -> None:
        limits = limits or ConsoleLimits()
        super().__init__(lambda url: Console(url, clock, limits))

    def get(self, url: str, *, owner: str, ca: str = "") -> Console:
        """The console of a URL; nothing is opened yet. Raises DatabaseFault(SECRET_MALFORMED)."""
        return self.shared(parse_url(url, ca=ca), owner=owner)


async def _show(session: Session, what: str) -> tuple[Row, ...]:
    cursor = psycopg.AsyncClientCursor(session, row_factory=dict_row)
    await cursor.execute(load_sql(__package__, f"pgbouncer_{what}.sql"))
    return tuple(await cursor.fetchall())
