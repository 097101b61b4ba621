"""Events: complete, short enough, limited, and never the end of a pass."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.decide.plan import Pause
from starforge_backlog.decide.results import Paused, PauseOutcome, Result
from starforge_backlog.report.announce import announce
from starforge_backlog.report.events import EventPoster, EventType, Posting, Regarding, shorten
from starforge_backlog.report.metrics import Metrics, PassResult, PolicyKey
from starforge_backlog.report.status_writes import StatusWriteReport
from starforge_backlog.snapshot import Why

NOW = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
ETL = Regarding("starforge", "etl", "u")


class Api:
    """Keeps what was created, or refuses."""

    def __init__(self) -> None:
        self.created: list[Json] = []
        self.fault: ClusterFault | None = None

    async def create(
        self, resource: Resource, namespace: str, body: Json, *, dry_run: bool = False
    ) -> Json:
        assert (resource.group, namespace) == ("events.k8s.io", "starforge")
        if self.fault is not None:
            raise self.fault
        if not dry_run:
            self.created.append(body)
        return body


class Turned:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def api() -> Api:
    return Api()


async def post(
    poster: EventPoster, about: Regarding = ETL, note: str = "n", limit: str = ""
) -> Posting:
    return await poster.post(
        about, EventType.WARNING, reason="BreakerOpened", action="Pause", note=note, limit=limit
    )


def made(api: Api, clock: Any = None) -> tuple[EventPoster, list[Posting]]:
    counted: list[Posting] = []
    poster = EventPoster(
        api, instance="pod-0", count=counted.append, clock=lambda: NOW, monotonic=clock or Turned()
    )
    return poster, counted


async def test_an_event_in_full(api: Api) -> None:
    poster, counted = made(api)
    await post(poster, note="waiting 5,200 > 5,000")
    (event,) = api.created
    assert event["eventTime"] == "2026-01-01T12:00:00.000005Z"
    assert event["regarding"] == {
        "apiVersion": "backlog.starforge.dev/v1alpha1",
        "kind": "QueueBacklogPolicy",
        "namespace": "starforge",
        "name": "etl",
        "uid": "u",
    }
    assert (event["reportingController"], event["reportingInstance"]) == (
        "starforge-backlog",
        "pod-0",
    )
    assert counted == [Posting.POSTED]


async def test_names_differ_within_one_microsecond_and_fit(api: Api) -> None:
    poster, _ = made(api)
    for _ in range(3):
        await post(poster, Regarding("starforge", "x" * 253, "u"))
    names = {event["metadata"]["name"] for event in api.created}
    assert len(names) == 3
    assert max(map(len, names)) <= 253


async def test_a_fault_is_counted_and_no_exception(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.fault = ClusterFault(FaultKind.FORBIDDEN, Why.NO_PERMISSION, "may not create events")
    poster, counted = made(api)
    assert await post(poster) is Posting.FAILED
    assert counted == [Posting.FAILED]
    assert "may not create events" in caplog.text


async def test_what_flaps_is_limited_and_nothing_else_is(api: Api) -> None:
    """48 flips of a condition in ten minutes, and a step with its revert between them."""
    clock = Turned()
    poster, counted = made(api, clock)
    for flip in range(48):
        clock.now = flip * 12.5
        await post(poster, limit="BacklogHealthy")
        assert await post(poster, note="scaled 2 -> 6") is Posting.POSTED
        if flip == 40:
            assert await post(poster, limit="Scaling Held") is Posting.POSTED
    assert 8 <= 48 - counted.count(Posting.DROPPED) <= 12
    calm = Regarding("starforge", "calm", "v")
    assert await post(poster, calm, limit="BacklogHealthy") is Posting.POSTED
    clock.now += 121
    assert await post(poster, limit="BacklogHealthy") is Posting.POSTED
    assert "changes in between made no Event" in api.created[-1]["note"]
    poster.forget("u")
    assert await post(poster, limit="BacklogHealthy") is Posting.POSTED
    assert api.created[-1]["note"] == "n"


@pytest.mark.parametrize("sign", [".", "-"])
async def test_a_long_name_is_cut_where_a_name_may_end(api: Api, sign: str) -> None:
    poster, _ = made(api)
    await post(poster, Regarding("starforge", "x" * 199 + sign + "y" * 42, "u"))
    name = api.created[0]["metadata"]["name"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name)


async def test_a_refused_status_is_an_event_and_a_metric(api: Api) -> None:
    poster, _ = made(api)
    metrics = Metrics()
    report = StatusWriteReport(poster, metrics)
    await report.refused("starforge", "etl", "u", "Request entity too large")
    (event,) = api.created
    assert (event["type"], event["reason"]) == ("Warning", "StatusRefused")
    assert "Request entity too large" in event["note"]
    seen = partial(metrics.observe_pass, PolicyKey("starforge", "etl"), None)
    nothing = timedelta(0)
    new = QueueBacklogPolicyStatus()
    seen(new, result=PassResult.FAILED, duration=nothing, lateness=nothing)
    line = 'starforge_backlog_status_refused{namespace="starforge",policy="etl"} '
    assert f"{line}1.0" in metrics.render().decode()
    await report.refused("starforge", "etl", "u", "")
    assert api.created[-1]["reason"] == "StatusStored"
    assert f"{line}0.0" in metrics.render().decode()


async def test_a_second_operator_is_events_and_a_metric(api: Api) -> None:
    poster, _ = made(api)
    metrics = Metrics()
    report = StatusWriteReport(poster, metrics)
    for second in range(60):
        await report.shared("starforge", "etl", "u", f"2026-01-01T00:00:{second:02}Z")
    assert len(api.created) < 20, "a policy's Events are limited"
    event = api.created[0]
    assert (event["type"], event["reason"]) == ("Warning", "AnotherOperator")
    nothing = timedelta(0)
    metrics.observe_pass(
        PolicyKey("starforge", "etl"),
        None,
        QueueBacklogPolicyStatus(),
        result=PassResult.CONFLICT,
        duration=nothing,
        lateness=nothing,
    )
    labels = 'namespace="starforge",policy="etl"'
    line = f"starforge_backlog_other_operator_timestamp_seconds{{{labels}}} 1.767225659e+09"
    assert line in metrics.render().decode()


async def test_what_passes_without_a_stored_status_did_is_reported_once(api: Api) -> None:
    """Seven `Paused` in 20 s: each pass found the flag paused under the stored token."""
    poster, _ = made(api)
    before = QueueBacklogPolicyStatus()
    again = (
        Result(
            Pause("ingestion", "storm", "u/ingestion/1", "5200 wait"),
            Paused(PauseOutcome.ALREADY_OURS, "7"),
        ),
    )
    for _ in range(7):
        await announce(poster, ETL, before, before, again, stored=False)
    await announce(poster, ETL, before, before, again, stored=True)
    assert [event["reason"] for event in api.created] == ["Paused"]
    await announce(poster, ETL, before, before, again, stored=True)
    assert len(api.created) == 2, "of another time it is news"


def test_notes_are_cut_by_bytes() -> None:
    assert shorten("short") == "short"
    assert len(shorten("x" * 2000).encode()) == 1024
    assert len(shorten("≥" * 2000).encode()) <= 1024
    assert shorten("≥" * 2000).endswith("≥…")


@pytest.mark.parametrize(
    ("kind", "going"),
    [(FaultKind.NAMESPACE_TERMINATING, True), (FaultKind.FORBIDDEN, False), (None, False)],
)
async def test_a_namespace_that_is_being_deleted_is_known_by_what_it_refuses(
    api: Api, kind: FaultKind | None, going: bool
) -> None:
    poster, counted = made(api)
    if kind is not None:
        api.fault = ClusterFault(kind, Why.ERROR, "refused")
    assert await poster.forbidden_by_deletion(ETL) is going
    assert (api.created, counted) == ([], [])
