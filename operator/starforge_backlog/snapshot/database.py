"""What was seen of a database server, and what the policies on it hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from starforge_backlog.snapshot.reading import Reading


@dataclass(frozen=True, slots=True)
class Connections:
    """Connection slots of one database server, from `pg_stat_activity` and the settings."""

    # Identity of the server, the same however a URL is spelt. Not of the database: the limit is
    # the server's, and so is the ledger's sum (P1).
    server: str
    max_connections: int
    superuser_reserved: int
    reserved: int  # PostgreSQL 16+: reserved_connections
    provider_reserved: int  # e.g. RDS
    database_limit: int | None  # CONNECTION LIMIT of the database; None: none
    role_limits: Mapping[str, int]  # CONNECTION LIMIT of roles that have one
    clients: int  # client backends now, all databases of the server, ours included
    by_role: Mapping[str, int]  # the same, per role
    peak_by_role: Mapping[str, int]  # per role, most of the last `window`
    window: timedelta  # how long the peaks cover: 15 min, less after a start
    own: int  # our own sessions among them
    own_role: str  # the role they belong to
    read_only: bool = False  # a standby: headroom must come from the primary
    peak_until: Mapping[str, datetime] = field(default_factory=dict)  # when each stops to count
    roles: frozenset[str] | None = None  # that can log in; None: not known
    # The name that a policy gave the server, where it is not the server's own: a policy that has
    # both proves that they are one (P1).
    alias: str = ""

    @property
    def reserved_total(self) -> int:
        """Slots that no ordinary client gets."""
        return self.superuser_reserved + self.reserved + self.provider_reserved

    def limit(self, lower: int | None) -> int:
        """The server's limit of connections, or the policy's where that is lower."""
        return min(self.max_connections, lower or self.max_connections)


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """Signs that the database itself is the problem."""

    lock_waiters: int | None  # None: nobody watches them (Prometheus, without an expression)
    longest_transaction: timedelta
    # What the longest transaction is, where it is no session's: nobody ends it by itself.
    longest_is: str = ""
    blocker: str = ""  # "pid 42 (app, idle in transaction for 4m); to end it: …", without its query


@dataclass(frozen=True, slots=True)
class Pooler:
    """The workers' pools of a PgBouncer in front of the database, from its console."""

    # An entry leads the workers to their database; without one these are the defaults, as of `*`.
    known: bool
    # The most server connections of these pools: with the reserve, within max_db_connections and
    # max_user_connections, of all PgBouncers behind the URL.
    capacity: int
    full: bool  # a pool has all its connections in use, the reserve aside
    clients_waiting: int
    longest_wait: timedelta
    waited_before: bool  # clients waited in the sample before this one as well
    max_client_connections: int
    other_clients: int  # client connections that are not the workers'


@dataclass(frozen=True, slots=True)
class DatabaseReading:
    """The policy's database."""

    connections: Reading[Connections]
    health: Reading[DatabaseHealth]
    pooler: Reading[Pooler] | None = None  # None: the policy names none


@dataclass(frozen=True, slots=True)
class Claim:
    """What another policy holds, or is entitled to, on the same database.

    P1 counts all policies of one database together: `connections` is what its pods can open,
    surge and terminating ones included, and never less than its minimum.
    """

    policy: str  # namespace/name
    role: str | None
    connections: int
    minimum: int = 0  # connections that its minReplicas need
    # Connections that it would step up to, or down to. None: unknown, or not ours to change; then
    # it keeps what it holds.
    wanted: int | None = None
    # What it wanted when that was known last, a short time ago: nobody gives anything back for it,
    # and nobody takes it either, or a reading that is missing once would be a step up and down.
    asked: int | None = None
    priority: int = 1  # 0 first: Critical, Normal, Background
    per_replica: int = 1  # connections of one more replica, and ...
    max_surge: str = "0"  # ... of the pods that a rollout adds
    pooled: int | None = None  # all its pods together hold no more: a pooler's pool
    # Connections of all policies together, with this policy's own limits and headroom; None: that
    # was not computed yet.
    cap: int | None = None
