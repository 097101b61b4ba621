"""What the console of a PgBouncer shows, and which of its pools are the workers'. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from starforge_backlog.snapshot import Pooler

Row = Mapping[str, Any]

CONSOLE: Final = "pgbouncer"
"""The console's own entry among the databases."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything that is asked, as it was shown."""

    pools: tuple[Row, ...]
    databases: tuple[Row, ...]
    users: tuple[Row, ...]
    lists: tuple[Row, ...]
    config: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Workers:
    """Whose pools are meant."""

    role: str
    database: str | None  # as the server calls it; None: every database behind the pooler


def pooler(shown: Shown, before: Shown | None, workers: Workers, replicas: int) -> Pooler:
    """The pools of the workers, those that no client has opened yet included. `before` is the last
    reading, if there was one lately. Raises KeyError or ValueError for what no version shows."""
    config = {str(row["key"]): row["value"] for row in shown.config}
    found = _entries(shown, workers)
    # The entry `*` is not shown, only what came of it; after an hour without clients that is gone.
    entries = found or [_of_defaults(config)]
    pools = _pools(shown, entries, workers)
    clients = {str(row["list"]): int(row["items"]) for row in shown.lists}
    all_clients = clients.get("used_clients", 0) + clients.get("login_clients", 0)
    capacity = sum(_most(entry, shown.users, workers.role) for entry in entries)
    for limit in (_number(config.get("max_user_connections")), _of_user(shown.users, workers)):
        capacity = min(capacity, limit) if limit else capacity
    return Pooler(
        known=bool(found),
        capacity=capacity * replicas,
        full=any(_is_full(pool, entries, shown.users, workers.role) for pool in pools),
        clients_waiting=sum(_number(pool["cl_waiting"]) for pool in pools),
        longest_wait=max((_wait(pool) for pool in pools), default=timedelta(0)),
        waited_before=before is not None
        and any(_waits(pool) for pool in _pools(before, _entries(before, workers), workers)),
        max_client_connections=_number(config.get("max_client_conn")),
        other_clients=all_clients - sum(_clients(pool) for pool in pools),
    )


def _entries(shown: Shown, workers: Workers) -> list[Row]:
    return [entry for entry in shown.databases if _leads_to(entry, workers)]


def _of_defaults(config: Mapping[str, Any]) -> Row:
    """What an entry without settings of its own would be."""
    return {
        "name": None,
        "pool_size": config["default_pool_size"],
        "reserve_pool": config["reserve_pool_size"],
        "max_connections": config["max_db_connections"],
    }


def _leads_to(entry: Row, workers: Workers) -> bool:
    """Whether the workers' role can come to their database by this entry."""
    if entry["name"] == CONSOLE or _number(entry.get("disabled")):
        return False
    if entry.get("force_user") not in {None, workers.role}:
        return False
    return workers.database is None or entry["database"] == workers.database


def _pools(shown: Shown, entries: Iterable[Row], workers: Workers) -> list[Row]:
    names = {entry["name"] for entry in entries}
    return [p for p in shown.pools if p["database"] in names and p["user"] == workers.role]


def _most(entry: Row, users: Iterable[Row], role: str) -> int:
    """Server connections of one pool: size and reserve, or the database's own limit."""
    reserve = max(
        _number(entry.get("reserve_pool", entry.get("reserve_pool_size"))),
        *(_number(u.get("reserve_pool_size")) for u in users if u["name"] == role),
        0,
    )
    most = _size(entry, users, role) + reserve
    limit = _number(entry.get("max_connections"))
    return min(most, limit) if limit else most


def _size(entry: Row, users: Iterable[Row], role: str) -> int:
    """The pool's size; the larger one where the user has a size as well: which counts depends on
    the version, and too much is safe."""
    of_user = [_number(user.get("pool_size")) for user in users if user["name"] == role]
    return max(_number(entry["pool_size"]), *of_user, 0)


def _of_user(users: Iterable[Row], workers: Workers) -> int:
    found = [_number(u.get("max_user_connections")) for u in users if u["name"] == workers.role]
    return max(found, default=0)


def _is_full(pool: Row, entries: Iterable[Row], users: Iterable[Row], role: str) -> bool:
    entry = next(e for e in entries if e["name"] == pool["database"])
    return _number(pool["sv_active"]) >= _size(entry, users, role)


def _waits(pool: Row) -> bool:
    return _number(pool["cl_waiting"]) > 0 or _wait(pool) > timedelta(0)


def _wait(pool: Row) -> timedelta:
    return timedelta(seconds=_number(pool["maxwait"]), microseconds=_number(pool.get("maxwait_us")))


def _clients(pool: Row) -> int:
    return _number(pool["cl_active"]) + _number(pool["cl_waiting"])


def _number(value: Any) -> int:
    """A column that a version may not have, or leave empty, is 0: no limit."""
    return int(value) if value not in {None, ""} else 0
