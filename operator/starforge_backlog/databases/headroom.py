"""How many connections are left, and whether the database itself is the problem.

Everybody who shares the database shares one reader: its samples, and its memory of peaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.shown import shortened
from starforge_backlog.clock import Clock
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases.connection import READ_LIMIT, Database
from starforge_backlog.databases.faults import DatabaseFault, NoAnswer, NoTurn
from starforge_backlog.databases.peaks import Peaks
from starforge_backlog.databases.sql import load_sql
from starforge_backlog.snapshot import (
    Connections,
    DatabaseHealth,
    DatabaseReading,
    Known,
    Reading,
    Unknown,
    Why,
)

# Younger samples are shared in any case: no decision differs within a second.
LEAST_MAX_AGE = timedelta(seconds=1)
# At most one part in 50, 2 %, of the time may be spent in our statements.
REST_PER_WORK = 50
# … but never rest longer than one default interval: a slow moment must not stop it for minutes.
MOST_REST = timedelta(seconds=15)

# How long a server's name is kept where no backend shows a failover: shorter than people take to
# make a new policy after one.
IDENTITY_FOR = timedelta(minutes=1)


class HeadroomReader:
    """Reads connections and health of one database server."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._peaks = Peaks()
        self._server = ""
        self._server_pid = 0  # backend that named the server
        self._named_at = 0.0  # loop time, seconds; of `identity` alone
        self._work = 0.0  # seconds that the sample cost the server, by its own clock
        self._shared = SharedAnswer(self._sample, LEAST_MAX_AGE, from_end=True)

    async def read(self, max_age: timedelta = LEAST_MAX_AGE) -> DatabaseReading:
        """The newest sample, read now if the last one is older than `max_age` (1 s at least).

        Concurrent callers share one set of statements. A database that was slow is given time to
        rest, so the sample may be older than asked: its own time says so. Faults come back as
        `Unknown`, never as exceptions.
        """
        return await self._shared.get(max(max_age, LEAST_MAX_AGE))

    async def _sample(self) -> DatabaseReading:
        # Not by our clock: the network and a busy event loop are no work for the database.
        self._work = 0.0
        found = await self._statements()
        self._shared.rest(min(REST_PER_WORK * self._work, MOST_REST.total_seconds()))
        return found

    async def _statements(self) -> DatabaseReading:
        at = self._clock()
        try:
            row = (await self._database.fetch(load_sql(__package__, "headroom.sql")))[0]
            if row["unseen"]:
                hidden = Unknown(Why.MISSING_ROLE, _missing_role(row["quoted_role"]), at)
                return DatabaseReading(hidden, hidden)
            server = await self._server_identity(row["pid"])
        except DatabaseFault as fault:
            self._tire(fault)
            return DatabaseReading(fault.unknown(at), fault.unknown(at))
        self._work += row["seconds"]
        connections = self._connections(row, server, at)
        return DatabaseReading(Known(connections, at), await self._health())

    def _connections(self, row: Mapping[str, Any], server: str, at: datetime) -> Connections:
        by_role: dict[str, int] = row["by_role"]
        peak_by_role, window = self._peaks.add(server, by_role, at)
        return Connections(
            server=server,
            max_connections=row["max_connections"],
            superuser_reserved=row["superuser_reserved"],
            reserved=row["reserved"],
            provider_reserved=row["provider_reserved"],
            database_limit=row["database_limit"],
            role_limits=row["role_limits"],
            clients=sum(by_role.values()),
            by_role=by_role,
            peak_by_role=peak_by_role,
            peak_until=self._peaks.until,
            roles=None if row["roles"] is None else frozenset(row["roles"]),
            window=window,
            own=row["own"],
            own_role=row["own_role"],
            read_only=row["in_recovery"],
        )

    async def identity(self) -> str:
        """What the server calls itself, for whoever reads its connections elsewhere; asked again
        after `IDENTITY_FOR`, since a name can lead to another server (failover).

        Raises DatabaseFault.
        """
        now = asyncio.get_running_loop().time()
        if not self._server or now - self._named_at >= IDENTITY_FOR.total_seconds():
            self._server, self._named_at = await self._ask_identity(), now
        return self._server

    async def _server_identity(self, pid: int) -> str:
        """Asked once per backend: a new connection may lead to another server (failover).

        Raises DatabaseFault.
        """
        if self._server_pid != pid:
            self._server, self._server_pid = await self._ask_identity(), pid
        return self._server

    async def _ask_identity(self) -> str:
        try:
            rows = await self._database.fetch(load_sql(__package__, "server_identity.sql"))
        except DatabaseFault as fault:
            if fault.why is not Why.NO_PERMISSION:
                raise
            rows = await self._database.fetch(load_sql(__package__, "server_address.sql"))
        return str(rows[0]["server"])

    async def _health(self) -> Reading[DatabaseHealth]:
        at = self._clock()
        try:
            row = (await self._database.fetch(load_sql(__package__, "health.sql")))[0]
        except DatabaseFault as fault:
            self._tire(fault)
            return fault.unknown(at)
        self._work += row["seconds"]
        waiters: int = row["lock_waiters"]
        health = DatabaseHealth(
            lock_waiters=waiters,
            longest_transaction=timedelta(
                seconds=max(row["longest_transaction"], row["longest_prepared"])
            ),
            longest_is=_prepared(row),
            blocker=await self._blocker(waiters) if waiters else "",
        )
        return Known(health, at)

    def _tire(self, fault: DatabaseFault) -> None:
        """A statement that ran into its limit was work; a server that is not there has none."""
        if fault.why is Why.TIMEOUT and not isinstance(fault, NoTurn | NoAnswer):
            self._work += READ_LIMIT.total_seconds()

    async def _blocker(self, waiters: int) -> str:
        """Who blocks most others, or why that is not known. Empty: they wait no longer."""
        try:
            rows = await self._database.fetch(load_sql(__package__, "blockers.sql"))
        except DatabaseFault as fault:
            return f"a session that is not known: {fault.message}"
        return _describe_blocker(rows[0], waiters) if rows else ""


def _missing_role(quoted_role: str) -> str:
    return (
        "The database role of the operator cannot see the state of other sessions, so connections"
        " and health are unknown; run as an administrator of the database:"
        f" GRANT pg_read_all_stats TO {quoted_role};"
    )


def _prepared(row: Mapping[str, Any]) -> str:
    """The oldest prepared transaction, where nothing is older; empty otherwise."""
    if row["prepared"] is None or row["longest_prepared"] < row["longest_transaction"]:
        return ""
    gid = str(row["prepared"]).replace("'", "''")
    return (
        f"prepared transaction '{shortened(gid)}' of database {shortened(row['prepared_in'])},"
        " which is still open: run COMMIT PREPARED or ROLLBACK PREPARED there"
    )


def _describe_blocker(row: Mapping[str, Any], waiters: int) -> str:
    """The session, for how long it has been so, and the statement that ends it."""
    # Counted by another statement a moment later, when more of them may wait.
    some = f", blocks {row['victims']} of them" if row["victims"] < waiters else ""
    if not row["pid"]:
        return (
            f"a prepared transaction{some}; to end it: COMMIT PREPARED or ROLLBACK PREPARED with"
            " its gid from pg_prepared_xacts"
        )
    who = shortened(row["application_name"] or row["usename"] or "unnamed")
    if row["state"] is None:  # it has ended meanwhile: nothing is known of it
        return f"pid {row['pid']} ({who}{some})"
    state = "" if row["state"] == "active" else f"{row['state']} for "
    lasted = format_duration(timedelta(seconds=row["seconds"]))
    return (
        f"pid {row['pid']} ({who}, {state}{lasted}{some});"
        f" to end it: SELECT pg_terminate_backend({row['pid']})"
    )
