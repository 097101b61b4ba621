"""Nothing but the end of its policy ends a policy's passes (P11)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starforge_backlog import observe as observing
from starforge_backlog import scheduler
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.context import Services
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import ConsoleHub
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.isolation import FaultIsolation
from starforge_backlog.observe import observe
from starforge_backlog.policy import Policy
from starforge_backlog.producers.adapters import ProducerAdapters
from starforge_backlog.producers.outside import OutsideAdapters
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.queues.adapters import QueueAdapters
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.report.health import Health
from starforge_backlog.snapshot import Known, Unknown, Why

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = {
    "metadata": {"name": "etl", "namespace": "ns", "uid": "u", "generation": 3},
    "spec": {"target": {"name": "w"}, "queues": [{"name": "q", "prometheus": {"url": "x"}}]},
}


class Statuses:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.summaries: list[str] = []

    def current(self, _body: Any) -> QueueBacklogPolicyStatus:
        return QueueBacklogPolicyStatus()

    async def write(self, *name: Any) -> None:
        self.summaries.append(name[-1].summary)


class Passes:
    """`reconcile`, and a runner whose waits are over at once."""

    def __init__(self, *ends: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self._ends = list(ends)
        self.done, self.begun = 0, asyncio.Event()
        self.statuses = Statuses()
        self.enough = False
        monkeypatch.setattr(scheduler, "reconcile", self._reconcile)
        monkeypatch.setattr(scheduler.PassScheduler, "_next", lambda *_, **__: 0.0)
        monkeypatch.setattr(scheduler, "AFTER_BUG_SECONDS", 0.0)
        services = SimpleNamespace(
            statuses=self.statuses,
            health=Health(),
            guards=SimpleNamespace(keep=lambda *_: None),
            isolation=FaultIsolation(lambda: NOW, lambda *_: None),
            clock=lambda: NOW,
        )
        self.runner = scheduler.PassScheduler(
            cast(Services, services),
            lambda: BODY,
            asyncio.Event(),
            lambda: self.enough,
            asyncio.Lock(),
        )

    async def _reconcile(self, *_: Any) -> Any:
        self.done += 1
        self.begun.set()
        if not self._ends:
            self.enough = True
            raise ValueError("the last pass")
        return await self._ends.pop(0)()


async def cancelled_by_nobody() -> None:
    work = asyncio.get_running_loop().create_future()
    work.cancel()
    await work


async def times_out() -> None:
    raise TimeoutError


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_cancellation_that_nobody_asked_for_is_one_bad_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported = Passes(cancelled_by_nobody, times_out, cancelled_by_nobody, monkeypatch=monkeypatch)
    await asyncio.wait_for(reported.runner.run(), 60)
    assert reported.done == 4
    first, second, *_ = reported.statuses.summaries
    assert "bug in pass: CancelledError" in first
    assert "bug in pass: TimeoutError" in second, "not ours: its limit is not the pass'"


async def test_not_even_a_report_that_is_cancelled_ends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported = Passes(times_out, times_out, monkeypatch=monkeypatch)
    monkeypatch.setattr(reported.statuses, "write", lambda *_: cancelled_by_nobody())
    await asyncio.wait_for(reported.runner.run(), 60)
    assert reported.done == 3


async def test_a_pass_that_hangs_is_given_up_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LONGEST_PASS", timedelta(milliseconds=20))
    reported = Passes(for_ever, monkeypatch=monkeypatch)
    await asyncio.wait_for(reported.runner.run(), 60)
    assert reported.done == 2
    assert "the pass was given up after" in reported.statuses.summaries[0]


async def test_the_end_of_the_policy_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(for_ever, monkeypatch=monkeypatch)
    running = asyncio.create_task(passes.runner.run())
    await passes.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert passes.done == 1


# --- a silent API server --------------------------------------------------------------------------


class Silent:
    """Every request hangs."""

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        await asyncio.Event().wait()
        raise AssertionError("it never answers")


async def test_no_reading_of_a_pass_ends_with_the_deadline_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All kinds of sources wait for one Secret; each is late, the pass comes to its end."""
    monkeypatch.setattr(observing, "LONGEST_WAIT", timedelta(milliseconds=50))
    url = {"secretKeyRef": {"name": "db", "key": "url"}}
    body = {
        **BODY,
        "spec": {
            "target": {"name": "w"},
            "database": {"url": url, "pgbouncer": {"url": url}},
            "queues": [
                {"name": "table", "postgres": {}},
                {"name": "redis", "bullmq": {"url": url, "name": "etl"}},
                {
                    "name": "series",
                    "prometheus": {"url": "http://p", "auth": {"bearerToken": url}},
                },
            ],
            "producers": [
                {"name": "flag", "featureFlag": {}},
                {"name": "types", "jobTypes": {"types": ["x"]}},
                {"name": "backfills", "backfillJobs": {}},
            ],
        },
    }
    databases, prometheus, redis = DatabaseHub(), PrometheusHub(), RedisHub()
    outside = OutsideAdapters(cast(Any, Silent()), HttpCaller(), lambda: NOW)

    async def known(got: Any) -> Any:
        return got

    nothing = Unknown(Why.NOT_YET, "not yet", NOW)
    services = SimpleNamespace(
        clock=lambda: NOW,
        targets=SimpleNamespace(ask=lambda _: None),
        workloads=SimpleNamespace(read=lambda *_: known((nothing, nothing))),
        autoscalers=SimpleNamespace(read=lambda *_: known(Known(None, NOW))),
        secrets=SecretReader(KeyValueStore(Silent())),
        databases=databases,
        poolers=ConsoleHub(),
        prometheus=prometheus,
        redis=redis,
        queues=QueueAdapters(databases, prometheus, redis, lambda: NOW),
        producers=ProducerAdapters(databases, redis, outside, lambda: NOW),
        isolation=FaultIsolation(
            lambda: NOW, lambda source, reason: pytest.fail(f"{reason} in {source}")
        ),
    )
    seen = await asyncio.wait_for(observe(cast(Services, services), Policy.parse(body), ()), 60)
    assert seen.database is not None
    late = {
        "database": seen.database.connections,
        **{name: queue.waiting for name, queue in seen.queues.items()},
        **seen.producers,
    }
    reasons = {name: r.why if isinstance(r, Unknown) else r for name, r in late.items()}
    assert reasons == dict.fromkeys(late, Why.TIMEOUT)
