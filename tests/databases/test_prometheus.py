"""Connections and health from a real Prometheus that scrapes an exporter of a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.prometheus.conftest import PATIENT
from tests.prometheus.exporter import Exporter

from local.prometheus import PrometheusServer
from starforge_backlog.api.prometheus import PrometheusDatabase
from starforge_backlog.databases.prometheus import ScrapedDatabases
from starforge_backlog.prometheus.hub import Prometheus, PrometheusHub
from starforge_backlog.prometheus.server import Server
from starforge_backlog.snapshot import Connections, DatabaseReading, Known, Unknown, Why

pytestmark = pytest.mark.prometheus

Start = Callable[..., PrometheusServer]
WINDOW = timedelta(seconds=90)


@contextmanager
def exporter_of_a_database() -> Iterator[Exporter]:
    with Exporter(
        pg_settings_max_connections=200,
        pg_settings_superuser_reserved_connections=3,
        pg_stat_activity_max_tx_duration=42,
        waiters=7,
    ) as made:
        made.by_role = {"worker": 12, "web": 30, "": 1}
        yield made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """One for all: its tests ask, and change nothing."""
    folder = tmp_path_factory.mktemp("prometheus")
    with exporter_of_a_database() as exporter:
        targets = {"postgres": [exporter.address]}
        with closing(PrometheusServer.start(folder, targets=targets)) as made:
            made.wait_for("pg_settings_max_connections")
            yield made


@pytest.fixture
async def prometheus(server: PrometheusServer) -> AsyncIterator[Prometheus]:
    hub = PrometheusHub(limits=replace(PATIENT, shared_for=timedelta(0)))
    yield hub.get(Server(server.url), owner="ns/a")
    await hub.close()


def spec(server: PrometheusServer, **parts: Any) -> PrometheusDatabase:
    whole = {"url": server.url, "server": "main", **parts}
    return PrometheusDatabase.model_validate(whole)


async def read(prometheus: Prometheus, given: PrometheusDatabase) -> DatabaseReading:
    return await ScrapedDatabases(prometheus).reader(given).read(given, WINDOW)


def connections(reading: DatabaseReading) -> Connections:
    assert isinstance(reading.connections, Known), reading.connections
    return reading.connections.value


async def test_the_exporters_own_metrics(prometheus: Prometheus, server: PrometheusServer) -> None:
    reading = await read(prometheus, spec(server))
    found = connections(reading)
    assert found.server == "prometheus:main"
    assert (found.max_connections, found.reserved_total, found.clients) == (200, 3, 43)
    assert found.by_role == {"worker": 12, "web": 30, "": 1}
    assert (found.own, found.role_limits, found.database_limit) == (0, {}, None)
    assert isinstance(reading.health, Known)
    assert reading.health.value.longest_transaction == timedelta(seconds=42)
    assert reading.health.value.lock_waiters is None, "nobody asked for them"


async def test_lock_waiters_where_a_series_reports_them(
    prometheus: Prometheus, server: PrometheusServer
) -> None:
    reading = await read(prometheus, spec(server, lockWaiters="waiters"))
    assert isinstance(reading.health, Known)
    assert reading.health.value.lock_waiters == 7


async def test_peaks_are_remembered(start_prometheus: Start) -> None:
    hub = PrometheusHub(limits=replace(PATIENT, shared_for=timedelta(0)))
    with exporter_of_a_database() as exporter:
        server = start_prometheus(targets={"postgres": [exporter.address]})
        server.wait_for("pg_settings_max_connections")
        given = spec(server)
        readers = ScrapedDatabases(hub.get(Server(server.url), owner="ns/a"))
        await readers.reader(given).read(given, WINDOW)
        exporter.by_role["web"] = 5
        server.wait_for('pg_stat_activity_count{usename="web"} == 5')
        # Another policy of the same database, however else it asks.
        other = spec(server, lockWaiters="waiters")
        await asyncio.sleep(1)  # what is nearer in time is one sample
        found = connections(await readers.reader(other).read(other, WINDOW))
    assert (found.peak_by_role["web"], found.by_role["web"]) == (30, 5)
    await hub.close()


@pytest.mark.parametrize(
    ("parts", "why", "says"),
    [
        ({"connectionsByRole": "nope"}, Why.EMPTY_RESULT, "database.prometheus.connectionsByRole"),
        ({"connectionsByRole": "pg_stat_activity_count"}, Why.BAD_SHAPE, "sum by (usename)"),
        ({"maxConnections": "nope"}, Why.EMPTY_RESULT, "database.prometheus.maxConnections"),
        ({"maxConnections": "vector(0)"}, Why.NOT_A_NUMBER, "below 1"),
        ({"reservedConnections": "vector(-1)"}, Why.NOT_A_NUMBER, "below 0"),
        # No role has fewer than none, and as 0 they would be room for pods (P1).
        (
            {"connectionsByRole": "sum by (usename) (pg_stat_activity_count) - 20"},
            Why.BAD_SHAPE,
            "worker has -8 connections",
        ),
    ],
)
async def test_no_connections_without_each_part(
    prometheus: Prometheus,
    server: PrometheusServer,
    parts: dict[str, str],
    why: Why,
    says: str,
) -> None:
    reading = await read(prometheus, spec(server, **parts))
    assert isinstance(reading.connections, Unknown)
    assert reading.connections.why is why
    assert says in reading.connections.message
    assert isinstance(reading.health, Known)


async def test_constants_are_limits_too(prometheus: Prometheus, server: PrometheusServer) -> None:
    given = spec(server, maxConnections="100", reservedConnections="vector(5)")
    found = connections(await read(prometheus, given))
    assert (found.max_connections, found.reserved_total) == (100, 5)


async def test_no_health_without_its_series(
    prometheus: Prometheus, server: PrometheusServer
) -> None:
    reading = await read(prometheus, spec(server, lockWaiters="nope"))
    assert isinstance(reading.health, Unknown)
    connections(reading)


@pytest.mark.parametrize("name", ["lockWaiters", "longestTransactionSeconds"])
async def test_less_than_nothing_is_no_health(
    prometheus: Prometheus, server: PrometheusServer, name: str
) -> None:
    reading = await read(prometheus, spec(server, **{name: "vector(-6)"}))
    assert isinstance(reading.health, Unknown)
    assert reading.health.why is Why.NOT_A_NUMBER
    assert name in reading.health.message
