"""Consoles of other versions than this machine's, read from what they show."""

from __future__ import annotations

from typing import Any

import pytest

from starforge_backlog.databases.pgbouncer_pools import Shown, Workers, pooler

WORKERS = Workers("worker", "app")
CONFIG = {
    "max_client_conn": "100",
    "max_user_connections": "0",
    "max_db_connections": "0",
    "default_pool_size": "20",
    "reserve_pool_size": "0",
}


def shown(
    *databases: dict[str, Any],
    pools: tuple[dict[str, Any], ...] = (),
    users: tuple[dict[str, Any], ...] = (),
    config: dict[str, str] | None = None,
) -> Shown:
    return Shown(
        pools=pools,
        databases=databases,
        users=users,
        lists=({"list": "used_clients", "items": 9}, {"list": "login_clients", "items": 1}),
        config=tuple({"key": k, "value": v} for k, v in {**CONFIG, **(config or {})}.items()),
    )


def entry(**parts: Any) -> dict[str, Any]:
    whole = {
        "name": "app",
        "database": "app",
        "force_user": None,
        "pool_size": 5,
        "reserve_pool": 2,
        "max_connections": 0,
        "disabled": 0,
    }
    return {**whole, **parts}


def pool(**parts: Any) -> dict[str, Any]:
    whole = {
        "database": "app",
        "user": "worker",
        "cl_active": 3,
        "cl_waiting": 0,
        "sv_active": 3,
        "maxwait": 0,
        "maxwait_us": 0,
    }
    return {**whole, **parts}


@pytest.mark.parametrize(
    ("seen", "capacity"),
    [
        (shown(entry()), 7),
        # 1.24 renamed the column, and gives users sizes of their own.
        (shown({**entry(reserve_pool_size=4), "reserve_pool": None}), 5),
        (shown({k: v for k, v in entry(reserve_pool_size=4).items() if k != "reserve_pool"}), 9),
        (shown(entry(), users=({"name": "worker", "pool_size": 50},)), 52),
        (shown(entry(), users=({"name": "worker", "reserve_pool_size": 30},)), 35),
        (shown(entry(), users=({"name": "worker", "max_user_connections": 4},)), 4),
        (shown(entry(), users=({"name": "else", "pool_size": 50},)), 7),
        (shown(entry(), users=({"name": "worker", "pool_mode": None},)), 7),
        (shown(entry(max_connections=6)), 6),
        (shown(entry(), config={"max_user_connections": "3"}), 3),
        (shown(entry(disabled=1)), 20),
        (shown(entry(force_user="else")), 20),
        (shown(entry(force_user="worker")), 7),
        (shown(entry(), entry(name="two")), 14),
        (shown(entry(name="pgbouncer")), 20),
    ],
)
def test_the_most_that_the_pools_can_open(seen: Shown, capacity: int) -> None:
    assert pooler(seen, None, WORKERS, 1).capacity == capacity


def test_only_the_workers_pools_are_theirs() -> None:
    others = (pool(user="web", sv_active=9, cl_waiting=9), pool(database="x", cl_waiting=9))
    found = pooler(shown(entry(), pools=(pool(), *others)), None, WORKERS, 1)
    assert (found.full, found.clients_waiting, found.other_clients) == (False, 0, 7)


@pytest.mark.parametrize(
    ("active", "users", "full"),
    [
        (4, (), False),
        (5, (), True),
        (7, (), True),
        (5, ({"name": "worker", "pool_size": 9},), False),
    ],
)
def test_a_pool_is_full_without_its_reserve(
    active: int, users: tuple[dict[str, Any], ...], full: bool
) -> None:
    seen = shown(entry(), pools=(pool(sv_active=active),), users=users)
    assert pooler(seen, None, WORKERS, 1).full is full


@pytest.mark.parametrize(
    ("before", "waited"),
    [
        (None, False),
        (shown(entry(), pools=(pool(),)), False),
        (shown(entry(), pools=(pool(cl_waiting=1),)), True),
        (shown(entry(), pools=(pool(maxwait_us=5),)), True),
        (shown(entry(), pools=(pool(user="web", cl_waiting=1),)), False),
    ],
)
def test_who_waited_before(before: Shown | None, waited: bool) -> None:
    found = pooler(shown(entry(), pools=(pool(),)), before, WORKERS, 1)
    assert found.waited_before is waited


def test_a_console_without_what_every_version_shows_is_a_fault() -> None:
    with pytest.raises(KeyError):
        pooler(shown({"name": "app"}), None, WORKERS, 1)
