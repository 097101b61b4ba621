"""Work that several await: who gives up leaves it to the others, and its own cancellation is a
fault for them and not their end (P11). First the helper, then each place where work is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

import starforge_backlog
from starforge_backlog.api.policy import PostgresQueue
from starforge_backlog.connections.reconnecting import Reconnecting
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.headroom import HeadroomReader
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.databases.pgbouncer import Console, ConsoleLimits
from starforge_backlog.databases.url import parse_url
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.connection import Limits, Threads
from starforge_backlog.prometheus.hub import Prometheus
from starforge_backlog.prometheus.server import Server
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.queues.bullmq.queue import QueueObserver
from starforge_backlog.queues.bullmq.settings import ObserverSettings as BullmqSettings
from starforge_backlog.queues.postgres.settings import ObserverSettings as TableSettings
from starforge_backlog.queues.postgres.table import TableObserver
from starforge_backlog.redis.node import Node, Pacing
from starforge_backlog.redis.topology import Sentinels
from starforge_backlog.redis.url import parse_url as redis_url
from starforge_backlog.shared_tasks import CancellationCheck, WorkCancelled, await_shared
from starforge_backlog.snapshot import Unknown, Why

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = 0.02  # seconds; an asker gives up
NOBODY = cast(Any, None)  # a part that work which never gets that far does not use

Ask = Callable[[], Awaitable[object]]


class Work:
    """Hangs until it is let go, and remembers the tasks that do it."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.begun, self.over = asyncio.Event(), asyncio.Event()

    async def __call__(self, *_: object, **__: object) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        self.begun.set()
        await self.over.wait()
        return "done"


async def given_up(ask: Awaitable[object]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(MOMENT):
            await ask


async def begun(work: Work) -> None:
    """Until every asker has come as far as it gets."""
    await work.begun.wait()
    for _ in range(20):
        await asyncio.sleep(0)


# --- the helper -----------------------------------------------------------------------------------


async def test_who_gives_up_leaves_the_work_to_the_others() -> None:
    work = Work()
    task = asyncio.create_task(work())
    others = [asyncio.create_task(await_shared(task)) for _ in range(3)]
    await given_up(await_shared(task))
    others.pop().cancel()
    await asyncio.sleep(0)
    work.over.set()
    assert await asyncio.gather(*others) == ["done", "done"]
    assert await await_shared(task) == "done", "also of work that is over"


async def test_work_that_is_cancelled_is_a_fault_for_who_waits() -> None:
    task = asyncio.create_task(Work()())
    waiting = [asyncio.create_task(await_shared(task)) for _ in range(3)]
    await asyncio.sleep(0)
    task.cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [WorkCancelled] * 3
    with pytest.raises(WorkCancelled):
        await await_shared(task)


async def test_what_the_work_raised_is_raised_in_all() -> None:
    async def breaks() -> None:
        raise ValueError("broken")

    task = asyncio.create_task(breaks())
    found = await asyncio.gather(*(await_shared(task) for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in found] == ["broken"] * 3


async def test_a_cancellation_is_ours_only_when_somebody_asked_for_it() -> None:
    requested: list[bool] = []

    async def await_it(work: asyncio.Future[None]) -> None:
        cancellation = CancellationCheck()
        try:
            await work
        except asyncio.CancelledError:
            requested.append(cancellation.requested)

    loop = asyncio.get_running_loop()
    stray = loop.create_future()
    task = asyncio.create_task(await_it(stray))
    await asyncio.sleep(0)
    stray.cancel()
    await task
    task = asyncio.create_task(await_it(loop.create_future()))
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert requested == [False, True]


async def test_a_deadline_that_passed_before_is_no_request_to_end() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
    assert not CancellationCheck().requested


# --- each place -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where work is shared: the method that does it, and how it is asked for."""

    made_by: type
    method: str
    ask: Callable[[], Ask]
    # Askers that share one task; others wait for a turn of their own.
    askers: int = 2

    def __str__(self) -> str:
        return self.ask.__name__.removeprefix("of_")


def of_access() -> Ask:
    deadline = Deadline(asyncio.get_running_loop().time() + 60)
    late = Unknown(Why.TIMEOUT, "late", NOW)
    return PolicyAccess(
        policy="ns/etl",
        namespace="ns",
        database=NOBODY,
        secrets=NOBODY,
        databases=DatabaseHub(),
        deadline=deadline,
        late=late,
    ).database


def of_headroom() -> Ask:
    return HeadroomReader(NOBODY, lambda: NOW).read


def of_table() -> Ask:
    observer = TableObserver(
        NOBODY, PostgresQueue(), clock=lambda: NOW, timer=lambda: 0.0, settings=TableSettings()
    )
    return lambda: observer.observe(timedelta(0))


def of_queue() -> Ask:
    observer = QueueObserver(
        NOBODY,
        Keys("bull", "etl"),
        NOBODY,
        clock=lambda: NOW,
        timer=lambda: 0.0,
        settings=BullmqSettings(),
    )
    return lambda: observer.observe(timedelta(0))


def of_prometheus() -> Ask:
    limits = Limits()
    server = Prometheus(Server("http://prometheus"), Threads(1), lambda: NOW, limits)
    return lambda: server._ask("up")


def of_producer() -> Ask:
    async def never() -> None:
        raise AssertionError("replaced by the test")

    return SharedAnswer(never, timedelta(0)).get


def of_console() -> Ask:
    url = parse_url("postgresql://u:p@pooler/pgbouncer")
    return Console(url, lambda: NOW, ConsoleLimits()).sample


def of_database() -> Ask:
    database = Database(parse_url("postgresql://u:p@db/etl"))
    return lambda: database.fetch("SELECT 1")


def of_redis() -> Ask:
    node = Node(NOBODY, Pacing())
    return lambda: node.run([("PING",)], timedelta(seconds=1))


def of_sentinels() -> Ask:
    url = redis_url("redis+sentinel://one,two/0?master=main")
    return Sentinels(url, NOBODY, NOBODY, Pacing())._named


PLACES = (
    Place(PolicyAccess, "_open", of_access),
    Place(HeadroomReader, "_sample", of_headroom),
    Place(TableObserver, "_read", of_table),
    Place(QueueObserver, "_read", of_queue),
    Place(Prometheus, "_send", of_prometheus),
    Place(Console, "_shown", of_console),
    Place(Sentinels, "_ask_all", of_sentinels),
    Place(Reconnecting, "_connected", of_database, askers=1),
    Place(Reconnecting, "_connected", of_redis, askers=1),
)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_a_deadline_of_one_does_not_end_what_the_others_wait_for(
    place: Place, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.made_by, place.method, work)
    ask = place.ask()
    await given_up(ask())
    (task,) = work.tasks
    assert not task.done()
    waiting = [asyncio.create_task(cast(Any, ask())) for _ in range(place.askers - 1)]
    await begun(work)
    assert work.tasks == [task], "they wait for the same work"
    work.over.set()
    await asyncio.wait((task, *waiting))
    assert not any(one.cancelled() for one in (task, *waiting))


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_work_that_is_cancelled_ends_nobody_else(
    place: Place, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.made_by, place.method, work)
    ask = place.ask()
    waiting = [asyncio.create_task(cast(Any, ask())) for _ in range(place.askers)]
    await begun(work)
    (task,) = work.tasks
    task.cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [WorkCancelled] * place.askers

    # And the next one asks again: nobody is left with work that is no more, or without a turn.
    work.over.set()
    again = asyncio.create_task(cast(Any, ask()))
    await asyncio.wait((again,), timeout=60)
    assert len(work.tasks) == 2
    assert again.done()
    assert not again.cancelled()
    again.exception()  # what it makes of "done" is its own


async def test_a_producers_reading_too() -> None:
    work = Work()
    shared: SharedAnswer[str] = SharedAnswer(work, timedelta(0))
    await given_up(shared.get())
    waiting = asyncio.create_task(shared.get())
    await begun(work)
    work.over.set()
    assert await waiting == "done"


def test_nothing_is_shared_in_another_way() -> None:
    """`asyncio.shield` hands the work's own cancellation on to all who wait."""
    package = Path(starforge_backlog.__file__).parent
    found = [p.name for p in package.rglob("*.py") if "asyncio.shield(" in p.read_text()]
    assert found == []
