"""Which database a connection leads to, for pauses that must be released where they were made."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.databases.session import Rows
from starforge_backlog.databases.sql import Query, load_sql
from starforge_backlog.databases.url import ServerKey
from starforge_backlog.decide.pauses import server_identity
from starforge_backlog.snapshot import Why

# Behind a pooler the server may change without a connection that breaks.
BELIEVED_FOR = timedelta(minutes=1)


class Asked(Protocol):
    """What is needed of a `Database`."""

    @property
    def key(self) -> ServerKey:
        """Host, port, database."""

    async def fetch(self, query: Query) -> Rows:
        """Rows of a statement."""


async def read_server_place(database: Asked) -> ServerPlace:
    """Its place; without the right to `pg_control_system` by the address. Raises DatabaseFault."""
    key = database.key
    addresses = [f"{host}:{port}" for host, port in key.addresses]
    try:
        (row,) = await database.fetch(load_sql(__package__, "server_place.sql"))
    except DatabaseFault as fault:
        if fault.why is not Why.NO_PERMISSION:
            raise
        return server_identity.postgres("", key.dbname, addresses, key.schemas)
    return server_identity.postgres(row["system"], row["database"], addresses, key.schemas)
