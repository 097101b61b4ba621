"""The environment of a pod template, resolved as a kubelet would."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from starforge_backlog.api.policy import ConnectionsPerReplica
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.environment import user_of
from starforge_backlog.cluster.errors import fault_from_status
from starforge_backlog.cluster.per_replica import PerReplicaReader
from starforge_backlog.cluster.secrets import KeyValueStore
from starforge_backlog.snapshot import Known, PerReplica, PoolFrom, Reading, Unknown, Why

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLANTED = "hunter2-planted"


class Store:
    """ConfigMaps and Secrets by name; names that are not here do not exist."""

    def __init__(self) -> None:
        self.config_maps: dict[str, dict[str, str]] = {
            "pools": {"PG_POOL_MAX": "8", "size": "5"},
            "words": {"PG_POOL_MAX": "many"},
        }
        self.secrets: dict[str, dict[str, str]] = {
            "db": {"DATABASE_URL": f"postgres://etl:{PLANTED}@db/x", "n": PLANTED},
            "empty": {},
        }
        self.asked: list[str] = []

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        self.asked.append(f"{resource.plural}/{name}")
        found = (self.secrets if resource.plural == "secrets" else self.config_maps).get(name)
        if found is None:
            raise fault_from_status(resource.asked("get", namespace, name, sub), 404, b"{}")
        if resource.plural == "secrets":
            return {"data": {k: base64.b64encode(v.encode()).decode() for k, v in found.items()}}
        return {"data": found}


def plain(value: str, name: str = "PG_POOL_MAX") -> Json:
    return {"name": name, "value": value}


def by_ref(kind: str, name: str, key: str, env: str = "PG_POOL_MAX", **more: Any) -> Json:
    return {"name": env, "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}


def container(*env: Json, env_from: tuple[Json, ...] = (), name: str = "worker") -> Json:
    return {"name": name, "env": list(env), "envFrom": list(env_from)}


async def read(*containers: Json, store: Store | None = None, **wanted: Any) -> Reading[PerReplica]:
    reader = PerReplicaReader(KeyValueStore(store or Store(), lambda: NOW), lambda: NOW)
    asked = ConnectionsPerReplica(**(wanted or {"env": "PG_POOL_MAX"}))
    return await reader.read("ns", asked, containers, uid="u", generation=1)


POOLS = {"configMapRef": {"name": "pools"}}


@pytest.mark.parametrize(
    ("containers", "wanted", "pool_from"),
    [
        (container(plain("4")), {}, PoolFrom.TEMPLATE),
        (container(by_ref("configMap", "pools", "size")), {}, PoolFrom.REFERENCE),
        (container(env_from=(POOLS,)), {}, PoolFrom.REFERENCE),
        (
            container(by_ref("configMap", "pools", "size", env="SIZE"), plain("$(SIZE)")),
            {},
            PoolFrom.REFERENCE,
        ),
        (container(), {"value": 4}, PoolFrom.POLICY),
    ],
)
async def test_what_a_change_of_the_number_needs(
    containers: Json, wanted: dict[str, Any], pool_from: PoolFrom
) -> None:
    found = await read(containers, **wanted)
    assert isinstance(found, Known)
    assert found.value.pool_from is pool_from


@pytest.mark.parametrize(
    ("containers", "pool", "source"),
    [
        ((container(plain("4")),), 4, "worker"),
        ((container(plain("4"), plain("6")),), 6, "worker"),  # the last of one name wins
        ((container(by_ref("configMap", "pools", "size")),), 5, "worker"),
        ((container(env_from=(POOLS,)),), 8, "worker"),
        ((container(plain("4"), env_from=(POOLS,)),), 4, "worker"),  # env over envFrom
        (
            (
                container(
                    env_from=(POOLS, {"prefix": "PG_POOL_", "configMapRef": {"name": "upper"}})
                ),
            ),
            2,
            "worker",
        ),
        ((container(name="sidecar"), container(plain("3"))), 3, "worker"),
        # both run at the same time, each with a pool of its own
        ((container(plain("4"), name="a"), container(plain("9"), name="b")), 13, "a and b"),
        # optional and missing is as if it were not there
        (
            (container(by_ref("secret", "nope", "n", optional=True), env_from=(POOLS,)),),
            8,
            "worker",
        ),
        (
            (
                container(
                    env_from=(POOLS, {"configMapRef": {"name": "nope", "optional": True}}),
                ),
            ),
            8,
            "worker",
        ),
        ((container(plain("7", "SIZE"), plain("$(SIZE)")),), 7, "worker"),
        ((container(plain(" 4\n")),), 4, "worker"),
    ],
)
async def test_found(containers: tuple[Json, ...], pool: int, source: str) -> None:
    store = Store()
    store.config_maps["upper"] = {"MAX": "2"}
    found = await read(*containers, store=store)
    assert isinstance(found, Known)
    assert found.value.pool == pool
    assert found.value.source == f"env PG_POOL_MAX of container {source}"


async def test_the_sum_over_several_containers_is_in_words() -> None:
    found = await read(container(plain("4"), name="a"), container(plain("9"), name="b"))
    assert isinstance(found, Known)
    assert found.value.added_up == "4 (a) + 9 (b)"
    assert found.value.connections == 13


async def test_one_container_that_cannot_be_read_hides_the_sum() -> None:
    found = await read(container(plain("4"), name="a"), container(plain("nine"), name="b"))
    assert isinstance(found, Unknown)
    assert (found.why, "container b" in found.message) == (Why.ENV_NOT_A_NUMBER, True)


@pytest.mark.parametrize(
    ("containers", "why", "says"),
    [
        ((container(name="a"), container(name="b")), Why.ENV_NOT_FOUND, "no container (a, b) has"),
        ((), Why.ENV_NOT_FOUND, "spec.target.connectionsPerReplica.value"),
        ((container(plain("four")),), Why.ENV_NOT_A_NUMBER, "'four'"),
        ((container(plain("0")),), Why.ENV_NOT_A_NUMBER, "from 1 to"),
        ((container(plain("-4")),), Why.ENV_NOT_A_NUMBER, "from 1 to"),
        ((container(plain("4.5")),), Why.ENV_NOT_A_NUMBER, "from 1 to"),
        ((container(plain("٤")),), Why.ENV_NOT_A_NUMBER, "from 1 to"),
        ((container(plain("999999")),), Why.ENV_NOT_A_NUMBER, "from 1 to"),
        ((container(plain("")),), Why.ENV_NOT_A_NUMBER, "from 1 to"),
        ((container(plain("$(NOPE)")),), Why.ENV_NOT_A_NUMBER, "$(NOPE)"),
        ((container(by_ref("configMap", "words", "PG_POOL_MAX")),), Why.ENV_NOT_A_NUMBER, "many"),
        ((container(by_ref("secret", "db", "n")),), Why.ENV_NOT_A_NUMBER, "from its Secret"),
        ((container(by_ref("secret", "nope", "n")),), Why.SECRET_NOT_FOUND, "Secret nope"),
        ((container(by_ref("secret", "db", "x")),), Why.SECRET_KEY_MISSING, "DATABASE_URL, n"),
        (
            (container(env_from=({"secretRef": {"name": "nope"}},)),),
            Why.SECRET_NOT_FOUND,
            "PG_POOL_MAX cannot be read",
        ),
        (
            ({"name": "w", "env": [{"name": "PG_POOL_MAX", "valueFrom": {"fieldRef": {}}}]},),
            Why.ENV_NOT_A_NUMBER,
            "fieldRef",
        ),
    ],
)
async def test_missing(containers: tuple[Json, ...], why: Why, says: str) -> None:
    found = await read(*containers)
    assert isinstance(found, Unknown)
    assert found.why is why
    assert says in found.message
    assert PLANTED not in found.message


@pytest.mark.parametrize(
    ("env", "role"),
    [
        ((by_ref("secret", "db", "DATABASE_URL", "DATABASE_URL"),), "etl"),
        ((by_ref("secret", "db", "DATABASE_URL", "PG_DSN"),), "etl"),
        ((plain("postgresql+asyncpg://w%40x:p@h/d", "SOME_URI"),), "w@x"),
        ((plain("u1", "U"), plain("postgres://$(U):p@h/d", "DATABASE_URL")), "u1"),
        ((plain("postgres:///d", "DATABASE_URL"), plain("pg-user", "PGUSER")), "pg-user"),
        ((plain("redis://r:p@h", "DATABASE_URL"),), None),
        (
            (by_ref("secret", "db", "DATABASE_URL", "API_TOKEN"),),
            None,
        ),  # not read: not its business
        ((), None),
    ],
)
async def test_role(env: tuple[Json, ...], role: str | None) -> None:
    found = await read(container(plain("4"), *env))
    assert isinstance(found, Known)
    assert found.value.role == role
    assert PLANTED not in repr(found)


async def test_a_secret_that_no_asked_variable_names_is_not_read() -> None:
    store = Store()
    await read(container(plain("4"), by_ref("secret", "db", "n", "API_TOKEN")), store=store)
    assert store.asked == []


async def test_a_given_number_counts_processes_and_extra() -> None:
    found = await read(container(), value=4, processes=3, extra=1)
    assert isinstance(found, Known)
    assert (found.value.pool, found.value.connections) == (4, 13)


async def test_the_answer_is_kept_for_one_generation() -> None:
    store = Store()
    reader = PerReplicaReader(KeyValueStore(store, lambda: NOW), lambda: NOW)
    wanted = ConnectionsPerReplica(env="PG_POOL_MAX")
    first = (container(by_ref("configMap", "pools", "size")),)
    for generation, containers in ((1, first), (1, (container(plain("9")),)), (2, first)):
        found = await reader.read("ns", wanted, containers, uid="u", generation=generation)
        assert isinstance(found, Known)
        assert found.value.pool == 5


@pytest.mark.parametrize(
    "url", ["", "not a url", "postgres://[broken/x", "mysql://u:p@h", "postgres://h/d"]
)
def test_no_user(url: str) -> None:
    assert user_of(url) is None
