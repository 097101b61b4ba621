"""The writer of status: what it remembers, when it sends nothing, how it treats other writers."""

from __future__ import annotations

import asyncio
import copy
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from starforge_backlog.api.status import (
    BreakerStatus,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
)
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.errors import ClusterFault, FaultKind, fault_from_status
from starforge_backlog.cluster.lenient import parse_status
from starforge_backlog.cluster.status import StatusWriter, WriteOutcome
from starforge_backlog.cluster.status import _is_old as is_old
from starforge_backlog.snapshot import Why

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """One policy as an API server keeps it: versions, preconditions, a status of its own."""

    def __init__(self) -> None:
        self.body: dict[str, Any] = {
            "metadata": {"uid": "u", "namespace": "ns", "name": "etl", "resourceVersion": "9"},
        }
        self.requests: list[str] = []
        self.lose_answer = False
        self.refuse: ClusterFault | None = None
        self.gone = False

    def edit(self, **parts: Any) -> None:
        """Another client writes."""
        self.body.update(parts)
        meta = self.body["metadata"]
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)

    def watched(self) -> Json:
        return copy.deepcopy(self.body)

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        self.requests.append("get")
        if self.gone:
            raise fault_from_status(resource.asked("get", namespace, name, sub), 404, b"{}")
        return self.watched()

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: list[Json], *, sub: str = ""
    ) -> Json:
        self.requests.append("patch")
        asked = resource.asked("patch", namespace, name, sub)
        if self.gone:
            raise fault_from_status(asked, 404, b"{}")
        if self.refuse is not None:
            raise self.refuse
        version, status = body
        assert version["path"] == "/metadata/resourceVersion"
        if version["value"] != self.body["metadata"]["resourceVersion"]:
            raise fault_from_status(asked, 409, b'{"message": "modified"}')
        self.edit(status=copy.deepcopy(status["value"]))
        if self.lose_answer:
            self.lose_answer = False
            raise ClusterFault(FaultKind.TIMEOUT, Why.TIMEOUT, "no answer in time")
        return self.watched()


class Listener:
    """Records what is reported to it."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.others: list[str] = []

    async def refused(self, namespace: str, name: str, uid: str, why: str, /) -> None:
        self.refusals.append(f"{namespace}/{name} {uid}: {why}")

    async def shared(self, _namespace: str, _name: str, _uid: str, passed: str, /) -> None:
        self.others.append(passed)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def writer(server: Server) -> StatusWriter:
    client: Any = server
    return StatusWriter(client)


def status(summary: str = "all well", **more: Any) -> QueueBacklogPolicyStatus:
    return QueueBacklogPolicyStatus(summary=summary, **more)


async def put(writer: StatusWriter, wanted: QueueBacklogPolicyStatus) -> WriteOutcome:
    return (await writer.write("ns", "etl", "u", wanted)).outcome


async def test_an_equal_status_sends_nothing(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    assert await put(writer, status()) is WriteOutcome.WRITTEN
    for _ in range(3):
        assert await put(writer, status()) is WriteOutcome.UNCHANGED
        writer.current(server.watched())
    assert server.requests == ["patch"]


async def test_a_refusal_is_loud_once_until_a_status_is_stored_again(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    refusals = listener.refusals
    client: Any = server
    writer = StatusWriter(client, listener)
    writer.current(server.watched())
    await put(writer, status("old"))
    asked = Resource("g", "v1", "policies").asked("patch", "ns", "etl", "status")
    server.refuse = fault_from_status(asked, 413, b'{"message": "Request entity too large"}')
    for number in range(3):
        assert await put(writer, status(f"{number} wait")) is WriteOutcome.REFUSED
        assert await put(writer, status("old")) is WriteOutcome.UNCHANGED
    assert len(refusals) == 1
    assert "Request entity too large" in refusals[0]
    assert caplog.text.count("cannot be stored") == 1
    server.refuse = None
    assert await put(writer, status()) is WriteOutcome.WRITTEN
    assert refusals[1:] == ["ns/etl u: "]
    server.refuse = fault_from_status(asked, 403, b'{"message": "quota"}')
    assert await put(writer, status("again")) is WriteOutcome.REFUSED
    assert len(refusals) == 3


@pytest.mark.parametrize("answer", [503, 504, 429])
async def test_a_server_that_is_away_is_no_refusal(server: Server, answer: int) -> None:
    listener = Listener()
    client: Any = server
    writer = StatusWriter(client, listener)
    writer.current(server.watched())
    asked = Resource("g", "v1", "policies").asked("patch", "ns", "etl", "status")
    server.refuse = fault_from_status(asked, answer, b"{}")
    assert await put(writer, status()) is WriteOutcome.FAILED
    assert listener.refusals == []


async def test_what_is_written_fits(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    long = status("x" * 3_000_000)
    assert await put(writer, long) is WriteOutcome.WRITTEN
    assert len(server.body["status"]["summary"]) == 2_000
    assert await put(writer, long) is WriteOutcome.UNCHANGED


async def test_nothing_is_sent_after_a_restart_either(server: Server, writer: StatusWriter) -> None:
    # 2.0 comes back from the API server as 2, and times in whatever way they were written
    wanted = status(scaling=ScalingStatus(throughput_per_replica=2.0, idle_since=NOW))
    writer.current(server.watched())
    await put(writer, wanted)
    server.body["status"]["memory"]["scaling"]["throughputPerReplica"] = 2
    client: Any = server
    restarted = StatusWriter(client)
    found = restarted.current(server.watched())
    assert found.model_copy(update={"last_pass_time": None}) == wanted
    assert await put(restarted, wanted) is WriteOutcome.UNCHANGED
    assert server.requests == ["patch"]


async def test_a_pass_before_the_watch_caught_up_sees_our_own_write(
    server: Server, writer: StatusWriter
) -> None:
    before = server.watched()
    writer.current(before)
    await put(writer, status("paused"))
    assert writer.current(before).summary == "paused"
    assert await put(writer, status("resumed")) is WriteOutcome.WRITTEN
    assert server.requests == ["patch", "patch"]


async def test_versions_are_compared_as_numbers(server: Server, writer: StatusWriter) -> None:
    stale = server.watched()  # version 9
    writer.current(stale)
    await put(writer, status("ours"))  # version 10, which is less than "9" as text
    assert writer.current(stale).summary == "ours"


async def test_removed_keys_are_gone(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    await put(writer, status(scaling=ScalingStatus(hold_down_until=NOW, target_uid="t")))
    await put(writer, status(scaling=ScalingStatus(target_uid="t")))
    assert "holdDownUntil" not in server.body["status"]["scaling"]


async def test_an_edit_of_the_spec_is_no_conflict(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    await put(writer, status("one"))
    server.edit(spec={"suspend": True})
    assert await put(writer, status("two")) is WriteOutcome.WRITTEN
    assert server.requests == ["patch", "patch", "get", "patch"]
    assert server.body["status"]["summary"] == "two"


async def test_another_writer_of_status_is_adopted(server: Server, writer: StatusWriter) -> None:
    before = server.watched()
    writer.current(before)
    await put(writer, status("one"))
    server.edit(status={"summary": "another leader"})
    assert await put(writer, status("two")) is WriteOutcome.CONFLICT
    assert server.body["status"]["summary"] == "another leader"
    # the next pass decides from theirs, even if the watch is still behind
    assert writer.current(before).summary == "another leader"
    assert await put(writer, status("three")) is WriteOutcome.WRITTEN


async def test_endless_edits_end_in_a_conflict(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    read = server.get

    async def get_and_edit(*args: Any, **kwargs: Any) -> Json:
        found = await read(*args, **kwargs)
        server.edit(spec={})
        return found

    server.get = get_and_edit  # type: ignore[method-assign]  # a stub
    server.edit(spec={})
    assert await put(writer, status()) is WriteOutcome.CONFLICT
    assert server.requests.count("patch") == 3


async def test_a_lost_answer_is_recognised_as_our_own_write(
    server: Server, writer: StatusWriter
) -> None:
    writer.current(server.watched())
    server.lose_answer = True
    assert await put(writer, status("one")) is WriteOutcome.FAILED
    assert await put(writer, status("one")) is WriteOutcome.UNCHANGED
    server.lose_answer = True
    assert await put(writer, status("two")) is WriteOutcome.FAILED
    # what we want by now is what was there before the lost write: it must still be written
    assert await put(writer, status("one")) is WriteOutcome.WRITTEN
    assert server.body["status"]["summary"] == "one"


async def test_a_write_that_was_cancelled_is_recognised_as_well(
    server: Server, writer: StatusWriter
) -> None:
    patch = server.patch

    async def slow(*args: Any, **kwargs: Any) -> Json:
        answer = await patch(*args, **kwargs)
        await asyncio.sleep(10)
        return answer

    writer.current(server.watched())
    server.patch = slow  # type: ignore[method-assign]  # a stub
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await put(writer, status("one"))
    server.patch = patch  # type: ignore[method-assign]  # a stub
    assert server.body["status"]["summary"] == "one"
    assert await put(writer, status("two")) is WriteOutcome.WRITTEN


async def test_a_refused_write_says_so(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    server.refuse = ClusterFault(FaultKind.FORBIDDEN, Why.NO_PERMISSION, "may not patch")
    written = await writer.write("ns", "etl", "u", status())
    assert written.outcome is WriteOutcome.REFUSED
    assert written.message == "may not patch"
    assert not written.stands


async def test_a_deleted_policy_is_gone(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    server.gone = True
    assert await put(writer, status()) is WriteOutcome.GONE


async def test_a_namesake_is_not_written_to(server: Server, writer: StatusWriter) -> None:
    writer.current(server.watched())
    server.body["metadata"]["uid"] = "another"
    server.edit(status={"summary": "fresh"})
    assert await put(writer, status()) is WriteOutcome.GONE
    assert server.body["status"]["summary"] == "fresh"


async def test_without_a_reading_it_reads_first(server: Server, writer: StatusWriter) -> None:
    assert await put(writer, status()) is WriteOutcome.WRITTEN
    assert server.requests == ["get", "patch"]


async def test_a_server_that_prunes_is_not_written_to_for_ever(
    server: Server, writer: StatusWriter
) -> None:
    patch = server.patch

    async def pruning(*args: Any, **kwargs: Any) -> Json:
        await patch(*args, **kwargs)
        server.body["status"].pop("cause", None)
        return server.watched()

    server.patch = pruning  # type: ignore[method-assign]  # a stub
    writer.current(server.watched())
    for _ in range(3):
        await put(writer, status(cause="SlowProcessing"))
        writer.current(server.watched())
    server.edit(spec={})
    writer.current(server.watched())
    await put(writer, status(cause="SlowProcessing"))
    assert server.requests == ["patch"]


async def test_garbage_is_reported_once_and_healed(
    server: Server, writer: StatusWriter, caplog: pytest.LogCaptureFixture
) -> None:
    server.edit(status={"summary": 5, "breakers": [{"name": "b", "state": "Ajar"}]})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = writer.current(server.watched())
    assert found.breakers == (BreakerStatus(name="b"),)
    assert [record.getMessage() for record in caplog.records] == [
        "the status of ns/etl was not written by this operator; ignored: breakers.0.state, summary"
    ]
    assert await put(writer, found) is WriteOutcome.WRITTEN
    assert server.body["status"]["breakers"][0]["state"] == "Closed"


def pause(**more: Any) -> Json:
    return {
        "producer": "ingestion",
        "by": PausedBy.US,
        "state": "Held",
        "since": "2026-01-01T00:00:00Z",
        "token": "t",
        **more,
    }


@pytest.mark.parametrize(
    ("raw", "dropped"),
    [
        (None, ()),
        ({}, ()),
        ("text", ("status",)),
        ({"summary": ["x"]}, ("summary",)),
        ({"scaling": "x"}, ("scaling",)),
        ({"scaling": {"replicas": "many", "need": 3}}, ("scaling.replicas",)),
        ({"scaling": {"lastStep": {"to": 3}}}, ("scaling.lastStep",)),
        ({"paused": [pause(), pause(state="Nonsense")]}, ("paused.1.state", "paused.1")),
        (
            {"paused": [pause(since="noon"), "x", pause()]},
            ("paused.1", "paused.0.since", "paused.0"),
        ),
        ({"paused": pause()}, ("paused",)),
        ({"queues": [{"name": "jobs", "types": {"a": 1}}]}, ("queues.0.types.a",)),
        ({"conditions": [{"type": "Ready"}]}, ("conditions.0",)),
    ],
)
def test_what_parses_is_kept(raw: object, dropped: tuple[str, ...]) -> None:
    before = copy.deepcopy(raw)
    _, found = parse_status(raw)
    assert found == dropped
    assert raw == before


def test_a_pause_survives_garbage_around_it() -> None:
    found, _ = parse_status({"paused": ["x", pause()], "budget": {"usable": "?"}, "cause": 3})
    assert found.paused == (
        PauseStatus(
            producer="ingestion", by=PausedBy.US, state=PauseState.HELD, since=NOW, token="t"
        ),
    )
    assert found.budget is None


# --- the time of the last pass --------------------------------------------------------------------


class Time:
    """A clock that is turned by hand."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def timed(server: Server, time: Time) -> StatusWriter:
    client: Any = server
    writer = StatusWriter(client, clock=time)
    writer.current(server.watched())
    return writer


def last_pass(server: Server) -> str:
    return str(server.body["status"]["lastPassTime"])


async def test_every_write_carries_the_time_of_the_pass(
    server: Server, timed: StatusWriter, time: Time
) -> None:
    await put(timed, status("one"))
    assert last_pass(server) == "2026-01-01T00:00:00Z"
    time.now += timedelta(seconds=15)
    await put(timed, status("two", last_pass_time=NOW))
    assert last_pass(server) == "2026-01-01T00:00:15Z"
    assert timed.current(server.watched()).last_pass_time == time.now


async def test_while_nothing_changes_the_time_is_renewed_within_ten_minutes_and_not_before_eight(
    server: Server, timed: StatusWriter, time: Time
) -> None:
    await put(timed, status())
    ages: list[timedelta] = []
    for _ in range(4 * 60 * 60 // 15):
        before = datetime.fromisoformat(last_pass(server))
        time.now += timedelta(seconds=15)
        if await put(timed, timed.current(server.watched())) is WriteOutcome.WRITTEN:
            ages.append(time.now - before)
    assert len(ages) >= 4 * 6
    assert timedelta(minutes=8) <= min(ages) <= max(ages) <= timedelta(minutes=10)


async def test_a_restart_renews_nothing_that_is_young(server: Server, time: Time) -> None:
    client: Any = server
    first = StatusWriter(client, clock=time)
    first.current(server.watched())
    await put(first, status())
    time.now += timedelta(minutes=5)
    restarted = StatusWriter(client, clock=time)
    wanted = restarted.current(server.watched())
    assert await put(restarted, wanted) is WriteOutcome.UNCHANGED


def test_policies_that_were_written_at_once_are_not_renewed_at_once() -> None:
    at = NOW + timedelta(minutes=9)
    old = [is_old("2026-01-01T00:00:00Z", at, f"uid-{n}") for n in range(100)]
    assert 30 < sum(old) < 70


@pytest.mark.parametrize("passed", ["", "yesterday", "2026-01-01", "2026-01-01T01:00:00Z"])
def test_a_time_that_is_none_or_from_another_clock_is_renewed(passed: str) -> None:
    assert is_old(passed, NOW, "u")


async def test_a_second_operator_is_reported_by_both_and_nothing_else_is(
    server: Server, time: Time
) -> None:
    """Two replicas by mistake. No restart, lost answer, person or restored backup is one."""
    client: Any = server
    listener, other_listener = Listener(), Listener()
    writer = StatusWriter(client, listener, time)
    writer.current(server.watched())  # of a predecessor: none
    await put(writer, status("one"))
    time.now += timedelta(seconds=15)
    server.edit(metadata={**server.body["metadata"], "annotations": {"by": "a person"}})
    writer.current(server.watched())
    server.lose_answer = True
    await put(writer, status("two"))
    await put(writer, status("three"))
    backup = {**server.body["status"], "lastPassTime": "2025-12-01T00:00:00Z"}
    server.edit(status=backup)
    writer.current(server.watched())
    await put(writer, status("four"))
    assert listener.others == []

    other = StatusWriter(client, other_listener, time)
    other.current(server.watched())
    time.now += timedelta(seconds=15)
    assert await put(other, status("by the other")) is WriteOutcome.WRITTEN
    assert other_listener.others == [], "a start finds what a predecessor wrote"
    assert await put(writer, status("five")) is WriteOutcome.CONFLICT
    await put(writer, status("five"))
    assert listener.others == ["2026-01-01T00:00:30Z"]
    time.now += timedelta(seconds=15)
    await put(writer, status("six"))
    other.current(server.watched())
    await put(other, status("by the other again"))
    assert other_listener.others == ["2026-01-01T00:00:45Z"]
