"""Probes over real HTTP, with a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest

from starforge_backlog.report.health import Health, HealthServer


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


def test_without_policies_nothing_is_late(clock: Turned, health: Health) -> None:
    clock.now += 10_000
    assert health.sick() is None
    # the clock starts with the first policy, not with the process
    health.policy_seen("a", timedelta(seconds=15))
    assert health.sick() is None
    clock.now += 60
    assert health.sick() is None
    clock.now += 1
    assert health.sick() is not None


def test_silence_is_measured_by_the_largest_interval(clock: Turned, health: Health) -> None:
    health.policy_seen("a", timedelta(seconds=15))
    health.policy_seen("b", timedelta(minutes=5))
    clock.now += 20 * 60
    assert health.sick() is None
    clock.now += 1
    assert health.sick() == (
        "passes stopped: none finished for 1201 s although there are 2 policies; "
        "one should in 1200 s"
    )
    health.pass_finished()
    assert health.sick() is None
    health.policy_gone("b")
    clock.now += 61
    assert health.sick() is not None


def test_ready_after_an_answer_and_a_list(health: Health) -> None:
    assert health.unready() == "the API server has not answered yet"
    health.api_reached()
    assert health.unready() == "the policies are not listed yet"
    health.policies_listed()
    assert health.unready() is None


def slow_render() -> bytes:
    time.sleep(0.3)
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
        health.policy_seen("a", timedelta(seconds=15))
        clock.now += 100
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 503
            assert (await answer.text()).startswith("passes stopped")
        async with session.get(f"{url}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert await answer.read() == b"metric 1\n"
        async with session.get(f"{url}/nothing") as answer:
            assert answer.status == 404


async def test_a_scrape_holds_up_neither_passes_nor_probes(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        scrape = asyncio.create_task(session.get(f"{url}/metrics"))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        async with session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        assert time.monotonic() - started < 0.2
        (await scrape).release()


async def test_a_taken_port_is_an_error_at_the_start(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    server = HealthServer(Health(), slow_render)
    with pytest.raises(OSError, match="address already in use"):
        await server.start("127.0.0.1", port)
    await server.close()
