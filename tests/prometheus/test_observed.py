"""What a pass sees of a policy whose database is read from Prometheus, with and without a login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.prometheus.conftest import PATIENT
from tests.prometheus.exporter import Exporter
from tests.simulator.given import per_replica, spec

from local.prometheus import PrometheusServer
from starforge_backlog import observe as observer
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.context import Services
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import Samples
from starforge_backlog.databases.pgbouncer_pools import Shown
from starforge_backlog.databases.url import ServerKey
from starforge_backlog.policy import Policy
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.snapshot import (
    Connections,
    DatabaseHealth,
    DatabaseReading,
    Known,
    Reading,
    Unknown,
    Why,
)

Start = Callable[..., PrometheusServer]
URL = {"secretKeyRef": {"name": "db", "key": "URL"}}
AT = utc_now()
LOGIN = ServerKey("db", "5432", "app", "operator")


@dataclass(frozen=True)
class Namespace:
    """The API server's part: one Secret with the database's URL."""

    async def get(
        self, resource: Resource, namespace: str, name: str, *, sub: str = ""
    ) -> dict[str, Any]:
        # postgresql://operator:x@db.invalid/app
        return {"data": {"URL": "cG9zdGdyZXNxbDovL29wZXJhdG9yOnhAZGIuaW52YWxpZC9hcHA="}}


def policy(**database: Any) -> Policy:
    whole = spec(database=database, breakers=[], producers=[])
    return cast(Policy, SimpleNamespace(key="ns/etl", namespace="ns", spec=whole))


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    hubs = SimpleNamespace(databases=DatabaseHub(), prometheus=PrometheusHub(limits=PATIENT))
    yield cast(Services, hubs)
    await hubs.prometheus.close()
    await hubs.databases.close()


def access(of: Policy, services: Services) -> PolicyAccess:
    assert of.spec.database is not None
    return PolicyAccess(
        policy=of.key,
        namespace=of.namespace,
        database=of.spec.database.url,
        secrets=SecretReader(KeyValueStore(Namespace())),
        databases=services.databases,
        deadline=Deadline(asyncio.get_running_loop().time() + 60),
        late=Unknown(Why.TIMEOUT, "no answer within 60s", utc_now()),
    )


@pytest.fixture
def server(start_prometheus: Start) -> Iterator[PrometheusServer]:
    with Exporter(
        pg_settings_max_connections=100,
        pg_settings_superuser_reserved_connections=3,
        pg_stat_activity_max_tx_duration=1,
    ) as exporter:
        exporter.by_role = {"worker": 5}
        made = start_prometheus(targets={"postgres": [exporter.address]})
        made.wait_for("pg_settings_max_connections")
        yield made


@pytest.mark.prometheus
@pytest.mark.parametrize("with_login", [False, True])
async def test_connections_without_a_login(
    server: PrometheusServer, services: Services, with_login: bool
) -> None:
    """With one as well, the login is for queues and flags; nothing is asked of the server here."""
    given = {"prometheus": {"url": server.url, "server": "main"}}
    of = policy(**given, **({"url": URL} if with_login else {}))
    reading, login = await observer._database(services, of, access(of, services))
    assert reading is not None
    assert isinstance(reading.connections, Known), reading.connections
    assert reading.connections.value.server == "prometheus:main"
    assert isinstance(reading.health, Known)
    assert (login.user if login is not None else None) == ("operator" if with_login else None)


async def test_a_prometheus_that_is_not_there_is_no_database_without_connections(
    services: Services,
) -> None:
    of = policy(prometheus={"url": "http://127.0.0.1:1", "server": "main"})
    reading, _ = await observer._database(services, of, access(of, services))
    assert reading is not None
    assert isinstance(reading.connections, Unknown)
    assert reading.connections.why is Why.UNREACHABLE
    assert reading.connections.message.startswith("database.prometheus.connectionsByRole (")


def samples() -> Reading[Samples]:
    entry = {
        "name": "app",
        "database": "app",
        "pool_size": 5,
        "reserve_pool": 2,
        "max_connections": 0,
    }
    config = ({"key": "max_client_conn", "value": "50"},)
    lists = ({"list": "used_clients", "items": 1},)
    return Known(Samples(Shown((), (entry,), (), lists, config), None), AT)


def read_directly() -> DatabaseReading:
    nobody = Connections("s", 100, 3, 0, 0, None, {}, 0, {}, {}, timedelta(0), 0, "")
    return DatabaseReading(Known(nobody, AT), Known(DatabaseHealth(0, timedelta(0)), AT))


def behind(
    given: Reading[Samples] | None, each: Reading[Any], at: datetime = AT
) -> tuple[DatabaseReading | None, Reading[Any]]:
    of = policy(url=URL, pgbouncer={"url": URL, "replicas": 2})
    return observer._behind_pooler(of, read_directly(), each, given, LOGIN)


def test_all_replicas_hold_no_more_than_the_pools() -> None:
    reading, each = behind(samples(), Known(replace(per_replica(10), role="worker"), AT))
    assert reading is not None
    assert isinstance(reading.pooler, Known)
    assert reading.pooler.value.capacity == 2 * 7
    assert isinstance(each, Known)
    assert each.value.pooled == 14


def test_a_pooler_that_cannot_be_read_bounds_nothing() -> None:
    """What its pods can open counts in full then, for everybody else on the server (P1)."""
    gone = Unknown(Why.UNREACHABLE, "database.pgbouncer: nothing answers", AT)
    reading, each = behind(gone, Known(replace(per_replica(10), role="worker"), AT))
    assert reading is not None
    assert reading.pooler == gone
    assert isinstance(each, Known)
    assert each.value.pooled is None


def test_without_a_role_no_pool_is_theirs() -> None:
    reading, _ = behind(samples(), Known(replace(per_replica(10), role=None), AT))
    assert reading is not None
    assert isinstance(reading.pooler, Unknown)


def test_no_pooler_is_none() -> None:
    each = Known(per_replica(10), AT)
    assert behind(None, each) == (read_directly(), each)
