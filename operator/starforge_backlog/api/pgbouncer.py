"""`spec.database.pgbouncer`: PgBouncer between the workers and the database."""

from __future__ import annotations

from typing import Annotated

from starforge_backlog.api.base import Model
from starforge_backlog.api.database_tls import DatabaseTls
from starforge_backlog.api.secret import SecretValue
from starforge_backlog.api.terms import whole

MOST_POOLERS = 64


class PgBouncer(Model):
    """A PgBouncer whose console shows its pools and the clients that wait for them."""

    url: SecretValue
    """URL of the console (postgresql://user:password@host:6432/pgbouncer), by reference to a
    Secret. The user must be one of stats_users or admin_users."""

    tls: DatabaseTls | None = None
    """Whom to trust when url asks for TLS."""

    replicas: Annotated[int, whole(1, MOST_POOLERS)] = 1
    """How many PgBouncers of the same settings are behind url, each with pools of its own:
    the database sees all of them, the console shows one."""
