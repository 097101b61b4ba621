"""A bug in one reading is that reading's fault: the others stand, and a person learns of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from tests.simulator.given import NOW, per_replica, spec, workload

from starforge_backlog import scheduler
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.context import Services
from starforge_backlog.isolation import BUG, FRAMES, FaultIsolation
from starforge_backlog.observe import observe
from starforge_backlog.policy import Policy
from starforge_backlog.report.health import Health
from starforge_backlog.snapshot import (
    Known,
    QueueReading,
    Reading,
    Snapshot,
    Source,
    SourceKind,
    Unknown,
    Why,
    unread,
)

SECRET = "planted-password"
NOTHING = Unknown(Why.NOT_YET, "not yet", NOW)


class Counted:
    """Takes the metric."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def __call__(self, source: str, reason: str) -> None:
        self.found.append((source, reason))


async def breaks(error: BaseException) -> Unknown:
    raise error


def itself(bug: Unknown) -> Unknown:
    return bug


async def test_the_reading_says_what_and_where_and_the_fix_and_no_secret() -> None:
    counted = Counted()
    got = await FaultIsolation(lambda: NOW, counted).run(
        "ns/etl", Source(SourceKind.QUEUE, "jobs"), breaks(ValueError(SECRET)), itself
    )
    assert (got.why, got.at) == (Why.ERROR, NOW)
    assert "bug in queue jobs: ValueError at test_isolation.py:" in got.message
    assert "Report it" in got.message
    assert SECRET not in got.message
    assert counted.found == [("queue", BUG)]


async def test_it_is_logged_once_until_it_changes_or_is_gone() -> None:
    isolation = FaultIsolation(lambda: NOW, Counted())

    async def fine() -> Unknown:
        return NOTHING

    async def run(policy: str, name: str, work: Awaitable[Unknown]) -> None:
        await isolation.run(policy, Source(SourceKind.QUEUE, name), work, itself)

    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            await run("ns/a", "q", breaks(ValueError(SECRET)))
        await run("ns/a", "r", breaks(ValueError(SECRET)))
        await run("ns/b", "q", breaks(ValueError(SECRET)))
        await run("ns/a", "q", breaks(KeyError(SECRET)))
        await run("ns/a", "q", fine())
        await run("ns/a", "q", breaks(KeyError(SECRET)))
    reported = [(one["policy"], one["source"], one["error"]) for one in logs]
    assert reported == [
        ("ns/a", "queue q", "ValueError"),
        ("ns/a", "queue r", "ValueError"),
        ("ns/b", "queue q", "ValueError"),
        ("ns/a", "queue q", "KeyError"),
        ("ns/a", "queue q", "KeyError"),
    ]
    assert "in breaks" in logs[0]["traceback"]
    assert SECRET not in str(logs)


async def test_recursion_without_end_is_one_short_line() -> None:
    async def deeper() -> Unknown:
        return await deeper()

    with structlog.testing.capture_logs() as logs:
        got = await FaultIsolation(lambda: NOW, Counted()).run(
            "ns/a", Source(SourceKind.QUEUE, "q"), deeper(), itself
        )
    assert "RecursionError" in got.message
    assert logs[0]["traceback"].count(" < ") == FRAMES - 1


async def test_the_end_of_the_process_is_no_bug() -> None:
    counted = Counted()
    with pytest.raises(KeyboardInterrupt):
        await FaultIsolation(lambda: NOW, counted).run(
            "ns/a", Source(SourceKind.QUEUE, "q"), breaks(KeyboardInterrupt()), itself
        )
    assert counted.found == []


async def test_the_end_of_the_policy_is_no_bug() -> None:
    counted = Counted()
    work = asyncio.get_running_loop().create_future()
    keeping = asyncio.create_task(
        FaultIsolation(lambda: NOW, counted).run(
            "ns/a", Source(SourceKind.QUEUE, "q"), work, itself
        )
    )
    await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert counted.found == []


async def test_a_cancellation_that_nobody_asked_for_is_that_readings_fault() -> None:
    counted = Counted()
    isolation = FaultIsolation(lambda: NOW, counted)
    got = await isolation.run(
        "ns/a", Source(SourceKind.QUEUE, "q"), breaks(asyncio.CancelledError()), itself
    )
    assert (got.why, counted.found) == (Why.ERROR, [("queue", BUG)])
    assert "CancelledError at test_isolation.py:" in got.message


class World:
    """Services that answer, but for those that are `broken`."""

    def __init__(self, *broken: str) -> None:
        self._broken = broken
        self.counted = Counted()

    async def _read(self, name: str, got: Any) -> Any:
        if name in self._broken:
            raise TypeError(SECRET)
        return got

    def source(self, queue: Any, access: Any) -> Any:
        async def read(**_: Any) -> QueueReading:
            got: QueueReading = await self._read(queue.name, unread(NOTHING))
            return got

        return SimpleNamespace(read=read)

    async def find(self, producer: Any, access: Any, holder: Any) -> Any:
        async def read() -> Reading[Any]:
            got: Reading[Any] = await self._read(producer.name, NOTHING)
            return got

        return SimpleNamespace(read=read)

    async def snapshot(self) -> Snapshot:
        policy = spec(
            queues=[{"name": n, "postgres": {}} for n in ("good", "bad")],
            producers=[{"name": n, "featureFlag": {"name": n}} for n in ("flag", "worse")],
            breakers=[],
            database=None,
        )
        here = Known(workload(), NOW), Known(per_replica(4), NOW)
        services = SimpleNamespace(
            clock=lambda: NOW,
            targets=SimpleNamespace(ask=lambda _: None),
            workloads=SimpleNamespace(read=lambda *_: self._read("target", here)),
            autoscalers=SimpleNamespace(read=lambda *_: self._read("autoscaler", Known(None, NOW))),
            queues=self,
            producers=self,
            secrets=None,
            databases=None,
            isolation=FaultIsolation(lambda: NOW, self.counted),
        )
        one = SimpleNamespace(key="ns/etl", namespace="ns", uid="u", body={}, spec=policy)
        return await observe(cast(Services, services), cast(Policy, one), ())


Pick = Callable[[Snapshot], object]
READINGS: dict[str, Pick] = {
    "target": lambda s: s.workload,
    "autoscaler": lambda s: s.autoscaler,
    "bad": lambda s: s.queues["bad"].waiting,
    "worse": lambda s: s.producers["worse"],
}


@pytest.mark.parametrize("broken", READINGS)
async def test_a_bug_in_one_source_leaves_the_others(broken: str) -> None:
    world = World(broken)
    whole, seen = await World().snapshot(), await world.snapshot()
    for name, pick in READINGS.items():
        found = pick(seen)
        if name == broken:
            assert isinstance(found, Unknown)
            assert (found.why, SECRET in found.message) == (Why.ERROR, False)
        else:
            assert found == pick(whole), name
    assert seen.queues["good"] == whole.queues["good"]
    assert len(world.counted.found) == 1


async def test_bugs_everywhere_are_a_snapshot_of_unknowns() -> None:
    seen = await World("target", "autoscaler", "good", "bad", "flag", "worse").snapshot()
    assert all(isinstance(pick(seen), Unknown) for pick in READINGS.values())


class Statuses:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.status = QueueBacklogPolicyStatus(summary="all is well")

    def current(self, body: Any) -> QueueBacklogPolicyStatus:
        return self.status

    async def write(self, *name: str) -> None:
        self.status = cast(Any, name[-1])


async def test_a_bug_in_a_rule_is_in_status_and_passes_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def reconcile(*_: Any) -> None:
        raise TypeError(SECRET)

    monkeypatch.setattr(scheduler, "reconcile", reconcile)
    statuses, counted = Statuses(), Counted()
    services = SimpleNamespace(
        statuses=statuses,
        health=Health(),
        guards=SimpleNamespace(keep=lambda *_: None),
        isolation=FaultIsolation(lambda: NOW, counted),
    )
    body = {
        "metadata": {"name": "etl", "namespace": "ns", "uid": "u", "generation": 3},
        "spec": {"target": {"name": "w"}, "queues": [{"name": "q", "prometheus": {"url": "x"}}]},
    }
    runner = scheduler.PassScheduler(
        cast(Services, services), lambda: body, asyncio.Event(), lambda: False, asyncio.Lock()
    )
    interval, _ = await runner._one(0.0)
    assert interval.total_seconds() == 15
    ready = statuses.status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason, ready.observed_generation) == ("False", "OperatorBug", 3)
    assert "bug in pass: TypeError at test_isolation.py" in statuses.status.summary
    assert SECRET not in str(statuses.status)
    assert counted.found == [("pass", BUG)]
