"""Probes over real HTTP, with a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest

from starforge_backlog.report.health import HUNG_AFTER_SECONDS, Health, HealthServer
from starforge_backlog.scheduler import LONGEST_PASS


class Turned:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Turned:
    return Turned()


@pytest.fixture
def health(clock: Turned) -> Health:
    return Health(clock)


SHORT, LONG = timedelta(seconds=15), timedelta(minutes=5)


def passed(health: Health, uid: str, interval: timedelta = SHORT) -> None:
    health.pass_began(uid, f"ns/{uid}", interval)
    health.pass_ended(uid)


def test_without_policies_nothing_is_late(clock: Turned, health: Health) -> None:
    clock.now += 10_000
    assert health.sick() is None
    # the clock starts with the first policy, not with the process
    passed(health, "a")
    clock.now += 60
    assert health.sick() is None
    clock.now += 1
    assert health.sick() == ("passes stopped: none finished of ns/a for 61 s; there are 1 policies")


def test_one_whose_passes_stopped_is_reported_however_well_the_others_are(
    clock: Turned, health: Health
) -> None:
    """Its loop has ended, and only the next process starts it again."""
    passed(health, "a")
    for _ in range(5):
        clock.now += 15
        passed(health, "b")
    assert "ns/a for 75 s" in str(health.sick())
    passed(health, "a")
    assert health.sick() is None


def test_each_has_the_patience_of_its_own_interval(clock: Turned, health: Health) -> None:
    passed(health, "long", LONG)
    clock.now += 20 * 60
    passed(health, "short")
    assert health.sick() is None
    clock.now += 1
    assert "ns/long for 1201 s" in str(health.sick())
    health.policy_gone("long")
    assert health.sick() is None


def test_a_pass_that_runs_long_is_late_and_one_that_does_not_let_go_is_a_hang(
    clock: Turned, health: Health
) -> None:
    """A source that is down makes a pass long; it ends by itself, and a restart fixes nothing."""
    health.api_reached()
    health.policies_listed()
    passed(health, "a")
    health.pass_began("a", "ns/a", SHORT)
    clock.now += 61
    assert health.unready() == (
        "passes are late: none finished of ns/a for 61 s; there are 1 policies"
    )
    assert health.sick() is None
    clock.now += HUNG_AFTER_SECONDS - 61
    assert health.sick() is None
    clock.now += 1
    assert health.sick() is not None
    assert LONGEST_PASS.total_seconds() + 60 < HUNG_AFTER_SECONDS, "given up, and said so, before"


def test_the_first_few_are_named(clock: Turned, health: Health) -> None:
    for number in range(5):
        passed(health, f"p{number}")
        clock.now += 1
    clock.now += 100
    assert health.sick() == (
        "passes stopped: none finished of ns/p0 for 105 s, ns/p1 for 104 s, ns/p2 for 103 s and of"
        " 2 more; there are 5 policies"
    )


def test_the_end_of_a_pass_of_a_policy_that_is_gone_is_nothing(health: Health) -> None:
    passed(health, "a")
    health.policy_gone("a")
    health.pass_ended("a")
    assert health.policies == 0


def test_ready_after_an_answer_and_a_list(health: Health) -> None:
    assert health.unready() == "the API server has not answered yet"
    health.api_reached()
    assert health.unready() == "the policies are not listed yet"
    health.policies_listed()
    assert health.unready() is None


def slow_render() -> bytes:
    time.sleep(0.6)
    return b"metric 1\n"


@pytest.fixture
async def url(health: Health) -> AsyncIterator[str]:
    server = HealthServer(health, slow_render)
    port = await server.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await server.close()


async def test_over_http(clock: Turned, health: Health, url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, await answer.text()) == (
                503,
                "the API server has not answered yet\n",
            )
        async with session.get(f"{url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        passed(health, "a")
        clock.now += 100
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 503
            assert (await answer.text()).startswith("passes stopped")
        async with session.get(f"{url}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert await answer.read() == b"metric 1\n"
        async with session.get(f"{url}/nothing") as answer:
            assert answer.status == 404


async def test_a_scrape_holds_up_neither_passes_nor_probes(health: Health) -> None:
    begun, over = threading.Event(), threading.Event()

    def render() -> bytes:
        begun.set()
        over.wait(60)
        return b"metric 1\n"

    server = HealthServer(health, render)
    url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
    async with aiohttp.ClientSession() as session:
        scrape = asyncio.create_task(session.get(f"{url}/metrics"))
        assert await asyncio.to_thread(begun.wait, 60)
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        assert not scrape.done(), "it came while the scrape was made"
        over.set()
        (await scrape).release()
    await server.close()


async def test_a_taken_port_is_an_error_at_the_start(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    server = HealthServer(Health(), slow_render)
    with pytest.raises(OSError, match="address already in use"):
        await server.start("127.0.0.1", port)
    await server.close()
