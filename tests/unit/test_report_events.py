"""Events: complete, short enough, limited, and never the end of a pass."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.report.events import EventPoster, EventType, Posting, Regarding, shorten
from starforge_backlog.snapshot import Why

NOW = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
ETL = Regarding("starforge", "etl", "u")


class Api:
    """Keeps what was created, or refuses."""

    def __init__(self) -> None:
        self.created: list[Json] = []
        self.fault: ClusterFault | None = None

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        assert (resource.group, namespace) == ("events.k8s.io", "starforge")
        if self.fault is not None:
            raise self.fault
        self.created.append(body)
        return body


class Turned:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def api() -> Api:
    return Api()


async def post(poster: EventPoster, about: Regarding = ETL, note: str = "n") -> Posting:
    return await poster.post(
        about, EventType.WARNING, reason="BreakerOpened", action="Pause", note=note
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


async def test_a_flapping_policy_is_limited_and_others_are_not(api: Api) -> None:
    clock = Turned()
    poster, counted = made(api, clock)
    for _ in range(30):
        await post(poster)
    assert counted.count(Posting.DROPPED) == 5
    assert await post(poster, Regarding("starforge", "calm", "v")) is Posting.POSTED
    clock.now = 31
    assert await post(poster) is Posting.POSTED
    poster.forget("u")
    assert await post(poster) is Posting.POSTED


def test_notes_are_cut_by_bytes() -> None:
    assert shorten("short") == "short"
    assert len(shorten("x" * 2000).encode()) == 1024
    assert len(shorten("≥" * 2000).encode()) <= 1024
    assert shorten("≥" * 2000).endswith("≥…")
