"""Which server a pause was made at: the value of a Secret may lead to another one meanwhile. Pure.

A server that knows nothing of a pause proves that somebody released it only if it is the one where
the pause was made (P4). Its text is made here of what the rooms know, has no login in it, and reads

    system 7291837465/starforge at db.example:5432        PostgreSQL that tells its identifier
    database starforge at db.example:5432                 PostgreSQL that does not
    database starforge schema app at db.example:5432      where the URL names one (Prisma)
    Redis db 0 at redis.example:6379
    Redis master etl, db 0 at a.example:26379,b.example:26379
"""

from __future__ import annotations

from collections.abc import Iterable

from starforge_backlog.api import GROUP
from starforge_backlog.api.bounds import MOST_WHERE_CHARACTERS
from starforge_backlog.api.shown import shortened

_SYSTEM = "system "


def postgres(system: str, database: str, address: str, schemas: Iterable[str] = ()) -> str:
    """The text for a database; `system` is the cluster's identifier, empty where it is secret.
    `schemas` are those of the URL: the same table name means another table in another schema."""
    who = f"{_SYSTEM}{system}/{database}" if system else f"database {database}"
    where = ",".join(schemas)
    place = f"{who} schema {where}" if where else who
    return shortened(f"{place} at {address}", MOST_WHERE_CHARACTERS)


def redis(master: str, database: int, addresses: Iterable[str]) -> str:
    """The text for a Redis. A failover moves it to another server, which is the same Redis: so its
    place is its identity, and not what a server says of itself."""
    who = f"master {master}, db {database}" if master else f"db {database}"
    most = MOST_WHERE_CHARACTERS - len(who)
    first: list[str] = []
    for address in sorted(addresses):
        most -= len(address) + 1
        if most < 0 and first:
            break  # the same ones each time: one address in common is enough
        first.append(address)
    return f"Redis {who} at {','.join(first)}"


def same_server(made_at: str, now: str) -> bool:
    """Whether both texts may mean the same. True where one is unknown, or cannot be compared.

    An identifier holds under any address (a standby that was promoted, another spelling). Without
    one, one address in common is enough: Sentinels come and go.
    """
    (was, _, at), (is_, _, addresses) = made_at.partition(" at "), now.partition(" at ")
    if not made_at or not now or was.startswith(_SYSTEM) != is_.startswith(_SYSTEM):
        return True
    if was != is_:
        return False
    return was.startswith(_SYSTEM) or not set(at.split(",")).isdisjoint(addresses.split(","))


def surely_same_server(made_at: str, now: str) -> bool:
    """Whether both texts mean the same beyond doubt: True only where both are known and can be
    compared."""
    comparable = made_at.startswith(_SYSTEM) == now.startswith(_SYSTEM)
    return bool(made_at and now) and comparable and same_server(made_at, now)


def elsewhere(made_at: str, now: str) -> str:
    """The sentence with the mend for a pause that cannot be released where the Secret leads to."""
    return (
        f"the pause was made at {made_at}, but the Secret leads to {now} now, which knows nothing"
        " of it: point the Secret back until it is released, or release it there by hand and"
        f" annotate the policy with {GROUP}/release=abandon"
    )
