"""A queue in a real Prometheus, with the runbook's metrics from a real exporter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.prometheus.conftest import PATIENT
from tests.prometheus.exporter import Exporter
from tests.simulator.given import spec

from local.prometheus import PrometheusServer
from starforge_backlog.api.prometheus import PrometheusQueue, PrometheusSignals
from starforge_backlog.api.queue import Queue
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.client import Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.decide.assess.freshness import judged
from starforge_backlog.decide.assess.need import load
from starforge_backlog.decide.assess.objectives import readable
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.prometheus.numbers import rate
from starforge_backlog.queues.prometheus.signals import count, outcomes
from starforge_backlog.queues.prometheus.source import InSeries
from starforge_backlog.queues.protocol import QueueSource
from starforge_backlog.queues.signals import WithSignals
from starforge_backlog.snapshot import (
    Count,
    Known,
    Outcomes,
    QueueReading,
    Reading,
    Snapshot,
    TypeReading,
    Unknown,
    Why,
    unread,
)

WINDOW = timedelta(seconds=6)
AT = utc_now()


class NoCluster:
    async def get(
        self, resource: Resource, namespace: str, name: str, *, sub: str = ""
    ) -> dict[str, Any]:
        pytest.fail(f"asked for {resource} {namespace}/{name}{sub}")


def access(seconds: float = 60) -> PolicyAccess:
    """Of a policy whose Prometheus asks for no login."""
    return PolicyAccess(
        policy="starforge/etl",
        namespace="starforge",
        database=None,
        secrets=SecretReader(KeyValueStore(NoCluster())),
        databases=DatabaseHub(),
        deadline=Deadline(asyncio.get_running_loop().time() + seconds),
        late=Unknown(Why.TIMEOUT, f"no answer within {seconds:g}s", utc_now()),
    )


@pytest.fixture
async def hub() -> AsyncIterator[PrometheusHub]:
    made = PrometheusHub(limits=PATIENT)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    with Exporter(starforge_queue_jobs_waiting_total=1200, oldest=90) as made:
        made.rates["starforge_etl_snapshots_received"] = 20
        made.rates["starforge_etl_snapshots_processed"] = 10
        made.rates["starforge_etl_snapshots_failed"] = 1
        yield made


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, exporter: Exporter
) -> Iterator[PrometheusServer]:
    """One for all: its tests ask, and change nothing."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = {"starforge": [exporter.address]}
    with closing(PrometheusServer.start(folder, targets=targets, rules=RULES)) as made:
        made.wait_for("count_over_time(starforge_etl_snapshots_received_total[6s]) > 4")
        made.wait_for("waiting:sum")
        yield made


def queue(server: PrometheusServer, hub: PrometheusHub, **parts: Any) -> InSeries:
    given = PrometheusQueue.model_validate({"url": server.url, **parts})
    return InSeries("jobs", given, access(), hub, utc_now)


async def read(source: QueueSource) -> QueueReading:
    return await source.read(rate_window=WINDOW, max_age=timedelta(0))


def value(reading: Reading[Any]) -> Any:
    assert isinstance(reading, Known), reading
    return reading.value


def why(reading: Reading[Any]) -> Why:
    assert isinstance(reading, Unknown), reading
    return reading.why


async def until_rates(
    source: Callable[[], QueueSource], wanted: Mapping[str, float], within: float = 60
) -> QueueReading:
    """The first reading with about these rates: a scrape that was late has its part in each window
    for some seconds."""
    async with asyncio.timeout(within):
        while True:
            reading = await read(source())
            found = {name: getattr(reading, name) for name in wanted}
            if all(
                isinstance(one, Known) and one.value == pytest.approx(wanted[name], rel=0.3)
                for name, one in found.items()
            ):
                return reading
            await asyncio.sleep(0.1)


@pytest.mark.prometheus
async def test_the_runbooks_own_metrics(server: PrometheusServer, hub: PrometheusHub) -> None:
    rates = {"arrivals_per_second": 20, "throughput_per_second": 10}
    reading = await until_rates(lambda: queue(server, hub), rates)
    assert value(reading.waiting) == Count(1200)
    ended = value(reading.outcomes)
    assert ended.window == WINDOW
    assert ended.failed_percent == pytest.approx(10, abs=3)
    assert "Prometheus at http://" in reading.how


@pytest.mark.prometheus
async def test_an_age_without_a_source_blocks_nothing(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    """StarForge has no such metric; the queue is judged by what waits, and status says so."""
    reading = await read(queue(server, hub))
    assert why(reading.oldest_due_age) is Why.NO_SOURCE
    assert "queues[jobs].prometheus.oldestAgeSeconds" in reading.notes[0]
    assert load([("jobs", reading)]).missing == ()
    judged = Queue.model_validate({"name": "jobs", "postgres": {}})
    assert readable(judged, reading)


@pytest.mark.prometheus
async def test_an_age_that_has_one(server: PrometheusServer, hub: PrometheusHub) -> None:
    reading = await read(queue(server, hub, oldestAgeSeconds="max(oldest)"))
    assert value(reading.oldest_due_age) == timedelta(seconds=90)
    assert reading.notes == ()


RULES = """
groups:
  - name: recorded
    rules:
      - record: waiting:sum
        expr: sum(starforge_queue_jobs_waiting_total)
"""


@pytest.mark.prometheus
async def test_series_without_a_target_are_said_once_for_the_queue(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    """Samples of a recording rule are always new, whatever became of those behind them."""
    plain = await read(queue(server, hub, oldestAgeSeconds="max(oldest)"))
    assert plain.notes == ()
    reading = await read(
        queue(server, hub, waiting="waiting:sum", oldestAgeSeconds="max(oldest) + 0 * waiting:sum")
    )
    assert value(reading.waiting) == Count(1200)
    (note,) = reading.notes
    assert "it is not known whether a part of waiting:sum is down" in note
    assert "name the scraped metric itself" in note
    given = PrometheusSignals.model_validate({"url": server.url, "waiting": "waiting:sum"})
    with_signals = await read(WithSignals("jobs", Table(), given, access(), hub))
    assert [n for n in with_signals.notes if "a part of waiting:sum is down" in n]


@pytest.mark.prometheus
async def test_a_moment_in_place_of_an_age_is_reported(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    reading = await read(queue(server, hub, oldestAgeSeconds="min(oldest) + 1.7e9"))
    assert why(reading.oldest_due_age) is Why.NOT_A_NUMBER
    assert isinstance(reading.oldest_due_age, Unknown)
    assert "subtract it from time()" in reading.oldest_due_age.message


@pytest.mark.prometheus
async def test_one_wrong_expression_leaves_the_others(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    reading = await read(queue(server, hub, completed="sum(rate(x[$window])"))
    assert isinstance(reading.throughput_per_second, Unknown)
    said = reading.throughput_per_second.message
    assert said.startswith("queues[jobs].prometheus.completed (sum(rate(x[6s])): ")
    assert "parse error" in said
    assert why(reading.outcomes) is Why.QUERY_ERROR
    assert value(reading.waiting) == Count(1200)


@pytest.mark.prometheus
async def test_samples_last_as_long_as_the_policy_says(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    """Three intervals are less than a scrape interval of a minute: `staleAfter` counts."""
    policy = spec(breakers=[], producers=[])
    reading = await read(queue(server, hub, staleAfter="5m"))

    def waiting(later: timedelta) -> Reading[Count]:
        now = utc_now() + later
        nothing = Unknown(Why.NOT_YET, "", now)
        seen = Snapshot(now, nothing, nothing, None, {policy.queues[0].name: reading}, {})
        return judged(policy, seen, now).queues[policy.queues[0].name].waiting

    assert isinstance(waiting(timedelta(minutes=4)), Known)
    assert why(waiting(timedelta(minutes=6))) is Why.STALE


@pytest.mark.prometheus
async def test_a_slow_server_is_said_of_each_expression(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    source = queue(server, hub)
    await read(source)
    await asyncio.sleep(PATIENT.shared_for.total_seconds() + 0.1)  # younger answers are shared
    server.freeze()
    try:
        late = await read(replace(source, access=access(seconds=0.5)))
    finally:
        server.thaw()
    assert isinstance(late.waiting, Unknown)
    assert late.waiting.why is Why.TIMEOUT
    assert "queues[jobs].prometheus.waiting" in late.waiting.message


class Table:
    """A queue that reports everything itself, and what of it the policy replaces."""

    def __init__(self) -> None:
        own = TypeReading(
            Known(Count(3), AT), Known(timedelta(0), AT), Known(Outcomes(1, 1, WINDOW), AT)
        )
        self.reading = replace(
            unread(Unknown(Why.NOT_IN_TABLE, "", AT)),
            waiting=Known(Count(3), AT),
            oldest_due_age=Known(timedelta(seconds=1), AT),
            arrivals_per_second=Known(1.0, AT),
            throughput_per_second=Known(2.0, AT),
            outcomes=Known(Outcomes(1, 1, WINDOW), AT),
            by_type={"process_snapshot": own},
            how="index: claim",
        )

    async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
        return self.reading


@pytest.mark.prometheus
async def test_signals_replace_what_is_given_and_nothing_else(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    given = PrometheusSignals.model_validate(
        {
            "url": server.url,
            "completed": "sum(rate(starforge_etl_snapshots_processed_total[$window]))",
            "failed": "sum(rate(starforge_etl_snapshots_failed_total[$window]))",
        }
    )
    table = Table()
    rates = {"throughput_per_second": 10}
    reading = await until_rates(lambda: WithSignals("jobs", table, given, access(), hub), rates)
    assert value(reading.outcomes).failed_percent == pytest.approx(10, abs=3)
    assert reading.by_type["process_snapshot"].outcomes == reading.outcomes
    kept = ("waiting", "oldest_due_age", "arrivals_per_second", "in_progress")
    assert all(getattr(reading, part) == getattr(table.reading, part) for part in kept)
    assert reading.how == "index: claim; Prometheus for completed, failed"


@pytest.mark.prometheus
async def test_completions_alone_leave_the_queues_own_ratio(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    given = PrometheusSignals.model_validate({"url": server.url, "completed": "vector(7)"})
    table = Table()
    reading = await read(WithSignals("jobs", table, given, access(), hub))
    assert value(reading.throughput_per_second) == 7
    assert reading.outcomes == table.reading.outcomes


@pytest.mark.prometheus
async def test_a_signal_that_cannot_be_read_is_not_the_queues_own(
    server: PrometheusServer, hub: PrometheusHub
) -> None:
    given = PrometheusSignals.model_validate(
        {"url": server.url, "waiting": "nope", "oldestAgeSeconds": "oldest"}
    )
    reading = await read(WithSignals("jobs", Table(), given, access(), hub))
    assert isinstance(reading.waiting, Unknown)
    assert "queues[jobs].signals.waiting (nope)" in reading.waiting.message
    assert value(reading.oldest_due_age) == timedelta(seconds=90)


async def test_a_slow_table_does_not_take_the_signals_along(hub: PrometheusHub) -> None:
    class Stuck:
        async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
            await asyncio.sleep(30)
            raise AssertionError("the pass is over by then")

    given = PrometheusSignals.model_validate({"url": "http://127.0.0.1:1", "waiting": "1"})
    reading = await read(WithSignals("jobs", Stuck(), given, access(seconds=0.5), hub))
    assert why(reading.throughput_per_second) is Why.TIMEOUT
    assert why(reading.waiting) is Why.UNREACHABLE


def known(number: float, at: datetime = AT) -> Reading[float]:
    return Known(number, at)


@pytest.mark.parametrize(
    ("number", "jobs"), [(0.0, 0), (0.01, 1), (7.0, 7), (7.2, 8), (1e12, 10**12)]
)
def test_no_part_of_a_job_is_rounded_to_none(number: float, jobs: int) -> None:
    assert value(count(known(number), "f")) == Count(jobs)


def test_less_than_nothing_is_no_reading() -> None:
    assert why(count(known(-1), "f")) is Why.NOT_A_NUMBER
    assert why(rate(known(-0.1), "f")) is Why.NOT_A_NUMBER


def test_outcomes_are_jobs_of_the_window_at_the_older_time() -> None:
    earlier = AT - timedelta(seconds=9)
    found = outcomes(known(2.0), known(0.5, earlier), timedelta(seconds=90))
    assert found == Known(Outcomes(135, 45, timedelta(seconds=90)), earlier)
    # Scraped moments apart: never more failures than ends.
    apart = outcomes(known(1.0), known(1.5), timedelta(seconds=10))
    assert value(apart) == Outcomes(0, 15, timedelta(seconds=10))
    missing = Unknown(Why.EMPTY_RESULT, "", AT)
    assert outcomes(known(1), missing, WINDOW) == missing
    assert outcomes(missing, known(1), WINDOW) == missing
