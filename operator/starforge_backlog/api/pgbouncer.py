"""`spec.database.pgbouncer`: a pooler between the workers and the database."""

from __future__ import annotations

from starforge_backlog.api.base import Model
from starforge_backlog.api.secret import SecretValue


class PgBouncer(Model):
    """A PgBouncer whose console tells its pools and who waits for them."""

    url: SecretValue
    """URL of the console (postgresql://user:password@host:6432/pgbouncer), by reference to a
    Secret. The user must be one of stats_users or admin_users."""
