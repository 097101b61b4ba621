"""`spec.database`: whose connections the workers share with everybody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.database_tls import DatabaseTls
from starforge_backlog.api.pgbouncer import PgBouncer
from starforge_backlog.api.prometheus import PrometheusDatabase
from starforge_backlog.api.rules import Rule, rules
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.target import MOST_CONNECTIONS
from starforge_backlog.api.terms import RoleName, span, whole


class Pressure(Model):
    """When the database is under pressure: no up-step, and the last one is reverted."""

    utilization_percent: Annotated[int, whole(1, 100)] = 80
    """Connections in use, in percent of the limit, from which on the database counts as under
    pressure. The runbook pauses backfills above 80 %."""

    lock_waiters: Annotated[int, whole(1, 10_000)] = 5
    """Sessions that wait for a lock, from which on the database counts as under pressure."""

    longest_transaction: Annotated[Duration, span("1s", "24h")] = timedelta(minutes=5)
    """Age of the oldest transaction from which on the database counts as under pressure. One old
    transaction keeps dead rows alive: a queue table was measured 82 % slower after a minute."""


class Database(Model):
    """The database whose connections the workers share with other clients."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.maxConnections) || self.headroom < self.maxConnections",
                "headroom leaves no connection of maxConnections: lower headroom (the runbook's is"
                " 20) or correct maxConnections",
                path=".headroom",
            ),
            Rule(
                "has(self.url) || has(self.prometheus)",
                "the database is read by url or, where the operator gets no login, by prometheus:"
                " add url.secretKeyRef or prometheus.url",
                reason="FieldValueRequired",
            ),
        )
    )

    url: SecretValue | None = None
    """Connection URL (postgresql://user:password@host/database), by reference to a Secret. The
    operator opens one connection per database and login, however many policies name it."""

    tls: DatabaseTls | None = None
    """Whom to trust when url asks for TLS with a certificate that no public authority signed."""

    prometheus: PrometheusDatabase | None = None
    """Connections and health from Prometheus, for an operator without a login. Where url
    is given as well, queues and flags are read by url, and connections and health from here."""

    pgbouncer: PgBouncer | None = None
    """PgBouncer between the workers and the database. Its pools, not the workers' own, then bound
    the connections of the database, and clients that wait for it stop steps up."""

    headroom: Annotated[int, whole(0, MOST_CONNECTIONS)] = 20
    """Connections that are always left free for others, besides those that PostgreSQL reserves
    for superusers. 20 is the runbook's number."""

    max_connections: Annotated[int, whole(1, MOST_CONNECTIONS)] | None = None
    """The provider's limit of connections, where it is lower than what the server reports. Read
    from the server if left out; the lower of both counts."""

    worker_role: RoleName | None = None
    """Database role of the workers; every other session counts as another client's and is
    subtracted from the budget. If left out, the user in the environment of the
    pods, else the login of url."""

    pressure: Pressure = Pressure()
    """When the database counts as under pressure. Pressure stops up-steps and reverts the last
    one (runbook: avoid scaling consumers up until the database is healthy)."""
