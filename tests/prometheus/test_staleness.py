"""P2: whatever becomes of the source, an answer that does not show the present is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.prometheus.conftest import question, until_known
from tests.prometheus.exporter import Exporter

from local.prometheus import PrometheusServer
from starforge_backlog.prometheus.hub import Prometheus, PrometheusHub
from starforge_backlog.prometheus.server import Server
from starforge_backlog.snapshot import Reading, Unknown, Why

pytestmark = pytest.mark.prometheus

Start = Callable[..., PrometheusServer]
INTERVAL = 1.0  # seconds between scrapes, see `PrometheusServer.start`
WAITING = "sum(jobs_waiting)"
RATE = "sum(rate(jobs_done_total[$window]))"


def made() -> Exporter:
    exporter = Exporter(jobs_waiting=100)
    exporter.rates["jobs_done"] = 5
    return exporter


async def until(
    prometheus: Prometheus, expression: str, *, window: float = 8, stale_after: float = 120
) -> tuple[list[float], Unknown]:
    """The numbers that are still believed, and what ends them."""
    numbers: list[float] = []
    for _ in range(200):
        reading: Reading[float] = await prometheus.number(
            question(expression, window=window, stale_after=stale_after)
        )
        if isinstance(reading, Unknown):
            return numbers, reading
        numbers.append(reading.value)
        await asyncio.sleep(0.1)
    pytest.fail(f"{expression} is believed for ever: {numbers[-5:]}")


async def start(
    start_prometheus: Start, hub: PrometheusHub, *exporters: Exporter
) -> tuple[PrometheusServer, Prometheus]:
    server = start_prometheus(
        targets={"workers": [e.address for e in exporters]}, interval=INTERVAL
    )
    server.wait_for(f"count(rate(jobs_done_total[3s])) == {len(exporters)}")
    await asyncio.sleep(4)  # half of the window holds samples
    return server, hub.get(Server(server.url), owner="ns/a")


async def test_an_exporter_that_died(start_prometheus: Start, hub: PrometheusHub) -> None:
    """A gauge is empty at once; its rate would fall for the whole window."""
    exporter = made()
    server, prometheus = await start(start_prometheus, hub, exporter)
    before = await until_known(prometheus, question(RATE, window=8))
    exporter.stop()
    numbers, end = await until(prometheus, RATE)
    assert end.why is Why.STALE
    # A scrape that was late makes some difference as well; to fall for the whole window, all.
    assert min(numbers, default=before.value) > 0.5 * before.value
    assert server.query("sum(rate(jobs_done_total[5m]))"), "Prometheus itself still answers"
    _, gone = await until(prometheus, WAITING)
    assert gone.why is Why.EMPTY_RESULT
    _, zero = await until(prometheus, f"{WAITING} or vector(0)")
    assert zero.why is Why.EMPTY_RESULT


async def test_one_of_two_targets_is_down(start_prometheus: Start, hub: PrometheusHub) -> None:
    """The sum of the other one is half of the truth."""
    one, other = made(), made()
    _, prometheus = await start(start_prometheus, hub, one, other)
    assert (await until_known(prometheus, question(WAITING))).value == 200
    other.stop()
    numbers, end = await until(prometheus, WAITING)
    assert end.why is Why.PARTIAL
    assert "1 targets" in end.message
    assert set(numbers) <= {200.0}
    _, rate = await until(prometheus, RATE)
    assert rate.why is Why.PARTIAL
    one.stop()


async def test_a_target_that_was_taken_away_is_no_part_any_more(
    start_prometheus: Start, hub: PrometheusHub
) -> None:
    """A pod that was scaled down is not down."""
    one, other = made(), made()
    server, prometheus = await start(start_prometheus, hub, one, other)
    server.retarget({"workers": [one.address]})
    other.stop()
    # Two scrapes after a target has gone Prometheus marks its series, `up` as well, as ended.
    server.wait_for("count(up) == 1")
    assert (await until_known(prometheus, question(WAITING))).value == 100
    await until_known(prometheus, question(RATE, window=8))
    one.stop()


async def test_a_prometheus_that_scrapes_no_more(
    start_prometheus: Start, hub: PrometheusHub
) -> None:
    """Killed, and back without the target: nothing marks the series as ended, and Prometheus
    repeats the last value for five minutes."""
    exporter = made()
    server, prometheus = await start(start_prometheus, hub, exporter)
    server.kill()
    server._targets = {}
    server._configure()
    server.restart()
    server.wait_for("jobs_waiting")
    _, end = await until(prometheus, WAITING, stale_after=5)
    if end.why is Why.UNREACHABLE:  # the session of before the kill
        _, end = await until(prometheus, WAITING, stale_after=5)
    assert end.why is Why.STALE
    assert "staleAfter" in end.message
    assert server.query("sum(jobs_waiting)"), "Prometheus itself still answers"
    _, rate = await until(prometheus, RATE, window=20)
    assert rate.why is Why.STALE
    assert "half of the 20s" in rate.message
    exporter.stop()
