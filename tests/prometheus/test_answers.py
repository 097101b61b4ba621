"""What a real Prometheus says of a real exporter, and of expressions that people write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from tests.prometheus.conftest import question, until_known
from tests.prometheus.exporter import Exporter

from local.prometheus import PrometheusServer
from starforge_backlog.clock import utc_now
from starforge_backlog.prometheus.hub import Prometheus, PrometheusHub
from starforge_backlog.prometheus.server import Server
from starforge_backlog.snapshot import Known, Unknown, Why

pytestmark = pytest.mark.prometheus

Start = Callable[..., PrometheusServer]
INTERVAL = 1.0  # seconds between scrapes, see `PrometheusServer.start`


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    with Exporter(jobs_waiting=100) as made:
        made.rates["jobs_done"] = 5
        yield made


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, exporter: Exporter
) -> Iterator[PrometheusServer]:
    """One for all: its tests ask, and change nothing."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = {"workers": [exporter.address]}
    with closing(PrometheusServer.start(folder, targets=targets, interval=INTERVAL)) as made:
        made.wait_for("rate(jobs_done_total[4s])")
        yield made


@pytest.fixture
async def prometheus(server: PrometheusServer, hub: PrometheusHub) -> Prometheus:
    return hub.get(Server(server.url), owner="ns/a")


async def test_a_number_has_the_time_of_its_sample(
    prometheus: Prometheus, server: PrometheusServer
) -> None:
    def sample() -> datetime:
        (found,) = server.wait_for("timestamp(jobs_waiting)")
        return datetime.fromtimestamp(float(found["value"][1]), UTC)

    begin, earliest = utc_now(), sample()
    reading = await until_known(prometheus, question("sum(jobs_waiting)"))
    latest, took = sample(), utc_now() - begin
    assert reading.value == 100
    assert earliest - took <= reading.at <= latest + took
    assert reading.at < utc_now()
    assert reading.lasts == timedelta(seconds=120)


async def test_a_rate_over_the_policys_window(prometheus: Prometheus) -> None:
    await asyncio.sleep(4)  # Prometheus counts the time before a series' first sample as idle
    asked = question("sum(rate(jobs_done_total[$window]))", window=4)
    await until_known(prometheus, asked, 5 / INTERVAL)


async def test_series_with_their_labels(prometheus: Prometheus) -> None:
    reading = await prometheus.series(question("sum by (job) (jobs_waiting)"))
    assert isinstance(reading, Known)
    assert [(dict(s.labels), s.value) for s in reading.value] == [({"job": "workers"}, 100)]


@pytest.mark.parametrize(
    ("expression", "value"),
    [("42", 42), ("vector(7)", 7), ("scalar(jobs_waiting)", 100), ("absent or jobs_waiting", 100)],
)
async def test_constants_and_scalars(prometheus: Prometheus, expression: str, value: float) -> None:
    reading = await prometheus.number(question(expression))
    assert isinstance(reading, Known)
    assert reading.value == value


@pytest.mark.parametrize(
    ("expression", "why", "says"),
    [
        ("sum(jobs_waiting", Why.QUERY_ERROR, "1:17: parse error: unclosed left parenthesis"),
        ("rate(jobs_waiting)", Why.QUERY_ERROR, "expected type range vector"),
        ("nope(1)", Why.QUERY_ERROR, 'unknown function with name "nope"'),
        ("jobs_wating", Why.EMPTY_RESULT, "correct the names"),
        # The idiom that makes a number of a dead exporter.
        ("sum(jobs_wating) or vector(0)", Why.EMPTY_RESULT, "no series exists for it"),
        ("0 * sum(jobs_waiting) / 0", Why.NOT_A_NUMBER, "NaN"),
        ("sum(jobs_waiting) / 0", Why.NOT_A_NUMBER, "Inf"),
        ("jobs_waiting[1m]", Why.NOT_A_NUMBER, "a range of samples"),
        ('"text"', Why.NOT_A_NUMBER, "text"),
        ("jobs_waiting or on (__name__) up", Why.SEVERAL_SERIES, "2 series where one"),
        ('sum({__name__=~"jobs_waiting|up"})', Why.QUERY_ERROR, "names no single metric"),
        ('label_replace(up, "a", "b", "c", "(")', Why.QUERY_ERROR, "regular expression"),
    ],
)
async def test_what_is_no_number_says_why_and_where(
    prometheus: Prometheus, expression: str, why: Why, says: str
) -> None:
    reading = await prometheus.number(question(expression))
    assert isinstance(reading, Unknown)
    assert reading.why is why
    assert says in reading.message
    assert reading.message.startswith(f"queues[jobs].prometheus.waiting ({expression[:100]}")


@pytest.mark.parametrize(
    "matcher",
    [r'job=~"work\\w+"', r'job!="say \"hi\""', r'job!~"a\\.(b|c)",instance=~".+:\\d+"'],
)
async def test_matchers_with_escapes(prometheus: Prometheus, matcher: str) -> None:
    """Seen: `unknown escape sequence`, reported as a fault of the expression, which has none."""
    reading = await prometheus.number(question(f"sum(jobs_waiting{{{matcher}}})"))
    assert isinstance(reading, Known), reading
    assert reading.value == 100


async def test_a_fault_of_our_own_question_is_not_the_policys(
    prometheus: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starforge_backlog.prometheus.hub.age_question", lambda _: "max(")
    reading = await prometheus.number(question("sum(jobs_waiting)"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.ERROR
    assert "the operator's own question" in reading.message


async def test_one_request_for_one_moment(prometheus: Prometheus, exporter: Exporter) -> None:
    """However many policies ask, and whatever else they ask."""
    asked: list[str] = []
    send = prometheus._send

    async def counted(promql: str) -> object:
        asked.append(promql)
        return await send(promql)

    prometheus._send = counted  # type: ignore[method-assign,assignment]  # counts
    same = [prometheus.number(question("sum(jobs_waiting)", field=str(n))) for n in range(50)]
    readings = await asyncio.gather(*same)
    assert len(asked) == 2  # the value, and the age of its series
    assert len({r.at for r in readings}) == 1
    await asyncio.sleep(0.1)
    await prometheus.number(question("sum(jobs_waiting)"))
    assert len(asked) == 4


async def test_too_many_samples(start_prometheus: Start, hub: PrometheusHub) -> None:
    with Exporter(a=1, b=2, c=3) as exporter:
        server = start_prometheus(
            targets={"x": [exporter.address]}, flags=("--query.max-samples=10",)
        )
        server.wait_for("a")
        prometheus = hub.get(Server(server.url), owner="ns/a")
        reading = await prometheus.number(question('count({__name__=~".+"}[10s:10ms])'))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.QUERY_ERROR


async def test_a_path_prefix(start_prometheus: Start, hub: PrometheusHub) -> None:
    server = start_prometheus(flags=("--web.route-prefix=/",), interval=1)
    wrong = hub.get(Server(f"{server.url}/prometheus"), owner="ns/a")
    reading = await wrong.number(question("1"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.NOT_PROMETHEUS
    assert "path prefix" in reading.message
