"""`spec.database`: whose connections the workers share with everybody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.rules import Rule, rules
from starforge_backlog.api.target import MOST_CONNECTIONS
from starforge_backlog.api.terms import ObjectName, RoleName, SecretKey, span, whole


class SecretKeyRef(Model):
    """A key of a Secret in the policy's namespace."""

    # Atomic: half a reference of one applier and half of another would point nowhere.
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """Name of the Secret, in the policy's namespace."""

    key: SecretKey
    """Key of the Secret's data that holds the value."""


class SecretValue(Model):
    """A value that is only ever given by reference."""

    secret_key_ref: SecretKeyRef
    """Where the value is. A rotated Secret is picked up without a restart."""


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
    """The database whose connections the workers share with everybody else."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.maxConnections) || self.headroom < self.maxConnections",
                "headroom leaves no connection of maxConnections: lower headroom (the runbook's is"
                " 20) or correct maxConnections",
                path=".headroom",
            )
        )
    )

    url: SecretValue
    """Connection URL (postgresql://user:password@host/database), by reference to a Secret. The
    operator opens one connection per database, however many policies name it. Cannot change while
    this policy holds a pause there."""

    headroom: Annotated[int, whole(0, MOST_CONNECTIONS)] = 20
    """Connections that are always left free for others, besides those that PostgreSQL reserves
    for superusers. 20 is the runbook's number."""

    max_connections: Annotated[int, whole(1, MOST_CONNECTIONS)] | None = None
    """The provider's limit of connections, where it is lower than what the server reports. Read
    from the server if left out; the lower of both counts."""

    worker_role: RoleName | None = None
    """Database role of the workers; every other session counts as somebody else's and is
    subtracted from the budget. If left out, the user of the pods' own sessions."""

    pressure: Pressure = Pressure()
    """When the database counts as under pressure. Pressure stops up-steps and reverts the last
    one (runbook: avoid scaling consumers up until the database is healthy)."""
