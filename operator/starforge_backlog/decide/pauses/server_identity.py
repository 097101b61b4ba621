"""Which server a pause was made at: the value of a Secret may lead to another one meanwhile. Pure.

A server that knows nothing of a pause proves that another client released it only if it is the one
where the pause was made (P4). Adapters make a `ServerPlace` of what they know; how it stands in
status is in `api/server_place.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from starforge_backlog.api import GROUP
from starforge_backlog.api.server_place import KnownBy, ServerPlace
from starforge_backlog.api.status import PauseStatus


def postgres(
    system: str, database: str, addresses: Iterable[str], schemas: Iterable[str] = ()
) -> ServerPlace:
    """The place of a database; `system` is the cluster's identifier, empty where it is secret.
    `schemas` are those of the URL: the same table name means another table in another schema."""
    named = ",".join(schemas)
    part = f"{database} schema {named}" if named else database
    if system:
        return ServerPlace.of_system(system, part, addresses)
    return ServerPlace.of_addresses(f"database {part}", addresses)


def redis(master: str, database: int, addresses: Iterable[str]) -> ServerPlace:
    """The place of a Redis. A failover moves it to another server, which is the same Redis: so its
    addresses are its identity, and not what a server says of itself."""
    who = f"master {master}, db {database}" if master else f"db {database}"
    return ServerPlace.of_addresses(f"Redis {who}", addresses)


def made_at(entry: PauseStatus) -> ServerPlace | None:
    """Where the pause was made; None: not known, or its locator says it."""
    return ServerPlace.parse(entry.server)


def stored(place: ServerPlace | None) -> str:
    """As an entry of status keeps it."""
    return "" if place is None else str(place)


def same_server(one: ServerPlace | None, other: ServerPlace | None) -> bool:
    """Whether both may be the same. True where one is unknown, or they cannot be compared.

    An identifier holds under any address (a standby that was promoted, another spelling). Without
    one, one address in common is enough: Sentinels come and go.
    """
    if one is None or other is None or one.known_by is not other.known_by:
        return True
    if one.identity != other.identity:
        return False
    if one.known_by is KnownBy.IDENTIFIER or one.addresses == other.addresses:
        return True
    return not set(one.addresses).isdisjoint(other.addresses)


def surely_same_server(one: ServerPlace | None, other: ServerPlace | None) -> bool:
    """Whether both are the same beyond doubt: True only where both are known and can be
    compared."""
    if one is None or other is None or one.known_by is not other.known_by:
        return False
    return same_server(one, other)


def elsewhere(made: ServerPlace | None, now: ServerPlace | None) -> str:
    """The sentence with the fix for a pause that cannot be released where the Secret leads to."""
    return (
        f"the pause was made at {stored(made)}, but the Secret leads to {stored(now)} now, which"
        " knows nothing of it: point the Secret back until it is released, or release it there by"
        f" hand and annotate the policy with {GROUP}/release=abandon"
    )
