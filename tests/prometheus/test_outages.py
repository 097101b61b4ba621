"""A server that hangs, restarts, is not there, or is something else; and what others notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp import web
from tests.prometheus.conftest import LIMITS, question, until_known

from local.ports import free_ports
from local.prometheus import PrometheusServer
from local.waiting import eventually
from starforge_backlog.prometheus.hub import Prometheus, PrometheusHub
from starforge_backlog.prometheus.server import Server
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

pytestmark = pytest.mark.prometheus

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Start = Callable[..., PrometheusServer]
GIVE_UP = LIMITS.give_up_after.total_seconds()
# Until threads have stopped, and replies were sent.
A_MOMENT = 0.1
# What a caller waits at most when the answer is known already: less than it takes to ask a server
# that hangs, and long for a busy machine.
AT_ONCE = 4.0


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """The URL of a web server that answers everything with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(speak: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a server that says what `speak` writes, whatever it is asked."""

    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await speak(writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for one in talks:
            one.cancel()
        await asyncio.gather(*talks)


async def timed(reading: Awaitable[Reading[float]]) -> tuple[Reading[float], float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = await reading
    return found, loop.time() - began


def threads() -> int:
    """Of ours, that are not back."""
    return sum(thread.name.startswith("prometheus") for thread in threading.enumerate())


async def threads_are_back() -> None:
    """Their sockets are shut, so that takes a moment."""
    await asyncio.to_thread(
        eventually, lambda: not threads(), within=60, what="no thread is left", every=0.02
    )


async def busy_no_more(prometheus: Prometheus) -> None:
    """Until its thread is back."""
    busy = prometheus._connection._busy
    if busy is not None:
        await asyncio.wait([busy])


async def test_a_server_that_hangs(start_prometheus: Start) -> None:
    """Its callers wait once, the next ones not at all, and one of them finds it back."""
    server = start_prometheus()
    hub = PrometheusHub(limits=replace(LIMITS, retry_after=timedelta(seconds=5)))
    prometheus = hub.get(Server(server.url), owner="ns/a")
    await until_known(prometheus, question("1"))
    server.freeze()
    await asyncio.sleep(A_MOMENT)  # each of its threads has to stop
    try:
        asked = [timed(prometheus.number(question(str(n)))) for n in range(10, 30)]
        for reading, lasted in await asyncio.gather(*asked):
            assert isinstance(reading, Unknown)
            assert reading.why is Why.TIMEOUT
            assert "make the expression cheaper" in reading.message
            assert lasted < GIVE_UP + AT_ONCE
        reading, lasted = await timed(prometheus.number(question("2")))
        assert isinstance(reading, Unknown)
        assert lasted < AT_ONCE
    finally:
        server.thaw()
    await until_known(prometheus, question("3"))
    await hub.close()


async def test_who_hangs_delays_nobody_else(start_prometheus: Start, hub: PrometheusHub) -> None:
    good, bad = start_prometheus(), start_prometheus()
    other, hangs = (hub.get(Server(one.url), owner="ns/a") for one in (good, bad))
    await asyncio.gather(other.number(question("1")), hangs.number(question("1")))
    bad.freeze()
    await asyncio.sleep(A_MOMENT)  # each of its threads has to stop
    try:
        stuck = [asyncio.create_task(hangs.number(question(str(n)))) for n in range(10)]
        await asyncio.sleep(0.2)
        for n in range(30):
            reading = await other.number(question(f"1 + {n}"))
            assert isinstance(reading, Known)
        assert not any(one.done() for one in stuck), "all 30 came while these wait"
    finally:
        bad.thaw()
    await asyncio.gather(*stuck)


def vector(*values: tuple[float, str]) -> web.Response:
    """Each with the label of an age, so that it is an answer to both questions."""
    result = [{"metric": {"starforge_part": "newest0"}, "value": value} for value in values]
    return shaped({"resultType": "vector", "result": result})


def shaped(data: object) -> web.Response:
    return web.json_response({"status": "success", "data": data})


async def number_now(request: web.Request) -> web.Response:
    return vector((time.time(), str(time.time())))


class Resolver:
    """Names that nobody answers for: their resolution hangs until the end of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answered = threading.Event()
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith(".example"):
            return self._real(host, *rest, **more)
        self.asked.append(host)
        self.answered.wait(250)
        raise socket.gaierror(-3, "Temporary failure in name resolution")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver(monkeypatch)
    yield made
    made.answered.set()


async def test_names_that_do_not_resolve_delay_nobody_else(
    hasty_hub: PrometheusHub, resolver: Resolver
) -> None:
    """Resolving has no limit and no socket to shut: its thread is away, and only its own."""
    async with serving(number_now) as url:
        good = hasty_hub.get(Server(url), owner="ns/a")
        await until_known(good, question("a"))
        bad = [hasty_hub.get(Server(f"http://{n}.example"), owner="ns/b") for n in range(5)]
        first = await asyncio.gather(*(one.number(question("a")) for one in bad))
        assert [isinstance(r, Unknown) and r.why for r in first] == [Why.TIMEOUT] * 5
        assert isinstance(first[0], Unknown)
        assert "check DNS" in first[0].message
        for again in range(3):
            await asyncio.sleep(LIMITS.retry_after.total_seconds())
            for one in bad:
                reading, lasted = await timed(one.number(question(f"a + {again}")))
                assert isinstance(reading, Unknown)
                assert lasted < AT_ONCE, "its thread hangs: the last fault, at once"
            reading, lasted = await timed(good.number(question(f"a + {again}")))
            assert isinstance(reading, Known), reading
            assert lasted < AT_ONCE
        assert len(resolver.asked) == 5, "nobody asks again while a thread is away"
        await hasty_hub.close()
        assert not resolver.answered.is_set()
        assert threads(), "nobody waits for them"
    resolver.answered.set()
    await threads_are_back()


async def test_a_name_that_resolves_again_is_asked_again(
    hasty_hub: PrometheusHub, resolver: Resolver
) -> None:
    prometheus = hasty_hub.get(Server("http://prom.example"), owner="ns/a")
    assert isinstance(await prometheus.number(question("a")), Unknown)
    resolver.answered.set()
    await asyncio.sleep(LIMITS.retry_after.total_seconds() + A_MOMENT)
    await busy_no_more(prometheus)
    reading = await prometheus.number(question("a"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.HOST_UNKNOWN


async def test_servers_are_bounded_also_while_their_threads_are_away(resolver: Resolver) -> None:
    hub = PrometheusHub(limits=replace(LIMITS, servers=2))
    for n in range(2):
        reading = await hub.get(Server(f"http://{n}.example"), owner=f"ns/{n}").number(
            question("a")
        )
        assert isinstance(reading, Unknown)
        hub.release(f"ns/{n}")
    third = hub.get(Server("http://127.0.0.1:1"), owner="ns/c")
    reading = await third.number(question("a"))
    assert isinstance(reading, Unknown)
    assert "more than 2 Prometheus servers" in reading.message
    resolver.answered.set()
    await threads_are_back()
    async with asyncio.timeout(60):  # the loop is notified a moment later
        while "more than 2" in reading.message:
            await asyncio.sleep(A_MOMENT)
            reading = await third.number(question("a"))
            assert isinstance(reading, Unknown)
    assert reading.why is Why.UNREACHABLE
    await hub.close()


async def test_questions_that_wait_for_their_turn_are_not_late(hasty_hub: PrometheusHub) -> None:
    """One connection per server; what the queue costs is not the server's fault."""
    together = most = 0

    async def slow(request: web.Request) -> web.Response:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.6)
        together -= 1
        return await number_now(request)

    async with serving(slow) as url:
        prometheus = hasty_hub.get(Server(url), owner="ns/a")
        asked = [timed(prometheus.number(question(f"a + {n}"))) for n in range(9)]
        found = await asyncio.gather(*asked)
    assert all(isinstance(reading, Known) for reading, _ in found), found
    assert max(lasted for _, lasted in found) > GIVE_UP
    assert most == 1


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"resultType": "vector", "result": None}, Why.BAD_ANSWER),
        ({"resultType": "vector", "result": "abc"}, Why.BAD_ANSWER),
        ({"resultType": "scalar", "result": [1, "2"]}, Why.BAD_ANSWER),
        ({"resultType": "vector", "result": [{"metric": {}, "value": [1, "x"]}]}, Why.BAD_ANSWER),
        (
            {"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]},
            Why.BAD_ANSWER,
        ),
        (None, Why.NOT_PROMETHEUS),
        ({}, Why.NOT_PROMETHEUS),
    ],
)
async def test_an_answer_of_another_shape(hub: PrometheusHub, data: object, why: Why) -> None:
    async def odd(request: web.Request) -> web.Response:
        return shaped(data)

    async with serving(odd) as url:
        reading = await hub.get(Server(url), owner="ns/a").number(question("sum(jobs)"))
    assert isinstance(reading, Unknown)
    assert reading.why is why
    assert "(sum(jobs))" in reading.message
    assert "correct url" in reading.message


async def test_an_answer_without_a_bottom(hub: PrometheusHub) -> None:
    async def deep(request: web.Request) -> web.Response:
        return web.Response(body=b'{"a":' + b"[" * 200_000, content_type="application/json")

    async with serving(deep) as url:
        reading = await hub.get(Server(url), owner="ns/a").number(question("sum(jobs)"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.NOT_PROMETHEUS


async def test_a_restart_costs_one_reading_at_the_most(
    start_prometheus: Start, hub: PrometheusHub
) -> None:
    server = start_prometheus()
    prometheus = hub.get(Server(server.url), owner="ns/a")
    assert isinstance(await prometheus.number(question("1")), Known)
    server.stop()
    await asyncio.sleep(0.1)
    down = await prometheus.number(question("2"))
    assert isinstance(down, Unknown)
    assert down.why is Why.UNREACHABLE
    server.restart()
    await asyncio.sleep(LIMITS.retry_after.total_seconds())
    assert isinstance(await prometheus.number(question("3")), Known)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{free}", Why.UNREACHABLE),
        ("http://no-such-host.invalid:9090", Why.HOST_UNKNOWN),
        ("https://127.0.0.1:{free}", Why.UNREACHABLE),
    ],
)
async def test_nobody_there(hub: PrometheusHub, url: str, why: Why) -> None:
    (free,) = free_ports(1)
    prometheus = hub.get(Server(url.format(free=free)), owner="ns/a")
    reading = await prometheus.number(question("1"))
    assert isinstance(reading, Unknown)
    # Name resolution has no limit of its own, so a slow resolver counts as a slow server.
    assert reading.why in {why, Why.TIMEOUT} if why is Why.HOST_UNKNOWN else reading.why is why


async def test_a_web_page(hub: PrometheusHub) -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="<html>Grafana</html>", content_type="text/html")

    async with serving(page) as url:
        reading = await hub.get(Server(url), owner="ns/a").number(question("1"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.NOT_PROMETHEUS
    assert "correct url" in reading.message


async def test_a_login_page(hub: PrometheusHub) -> None:
    """A redirect is not followed: the token would travel with it."""

    async def login(request: web.Request) -> web.Response:
        raise web.HTTPFound("http://login.example.com/?next=secret")

    async with serving(login) as url:
        reading = await hub.get(Server(url), owner="ns/a").number(question("1"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.NOT_PROMETHEUS
    assert "login.example.com" in reading.message
    assert "secret" not in reading.message


async def test_a_store_that_did_not_answer(hub: PrometheusHub) -> None:
    """Thanos says so in `warnings`, and answers with the rest."""

    async def half(request: web.Request) -> web.Response:
        data = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "5"]}]}
        return web.json_response({"status": "success", "data": data, "warnings": ["store 2"]})

    async with serving(half) as url:
        reading = await hub.get(Server(url), owner="ns/a").number(question("1"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.PARTIAL
    assert "store 2" in reading.message


async def test_an_answer_of_thousands_of_series_is_not_read(hub: PrometheusHub) -> None:
    """To read 4 MB of JSON in a thread stopped the whole process for 0.25 s."""
    body = vector(*[(1.0, "5")] * 40_000).body

    async def series(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with serving(series) as url:
        reading = await hub.get(Server(url), owner="ns/a").number(question("1"))
    assert isinstance(reading, Unknown)
    assert reading.why is Why.SEVERAL_SERIES
    assert "MiB" in reading.message


async def test_an_answer_without_end(hasty_hub: PrometheusHub) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(OSError):
            while True:
                await response.write(b" " * 65536)
        return response

    async with serving(flood) as url:
        prometheus = hasty_hub.get(Server(url), owner="ns/a")
        reading, lasted = await timed(prometheus.number(question("1")))
    assert isinstance(reading, Unknown)
    assert reading.why in {Why.SEVERAL_SERIES, Why.TIMEOUT}
    assert lasted < GIVE_UP + 2 * AT_ONCE


@pytest.mark.parametrize("drops", [b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n "])
async def test_byte_by_byte(hasty_hub: PrometheusHub, drops: bytes) -> None:
    """Each byte is in time; the whole never is. The threads come back all the same."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(drops)
        for _ in range(1000):
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.write(b" ")

    async with speaking(drip) as url:
        prometheus = hasty_hub.get(Server(url), owner="ns/a")
        asked = [timed(prometheus.number(question(str(n)))) for n in range(4)]
        for reading, lasted in await asyncio.gather(*asked):
            assert isinstance(reading, Unknown)
            assert reading.why is Why.TIMEOUT
            assert lasted < GIVE_UP + 2 * AT_ONCE
        await hasty_hub.close()
        await threads_are_back()


async def test_a_policy_that_leaves_takes_its_session_along(
    start_prometheus: Start, hub: PrometheusHub
) -> None:
    server = start_prometheus()
    prometheus = hub.get(Server(server.url), owner="ns/a")
    assert hub.get(Server(server.url), owner="ns/b") is prometheus
    await prometheus.number(question("1"))
    hub.release("ns/a")
    assert hub.get(Server(server.url), owner="ns/b") is prometheus
    hub.release("ns/b")
    assert hub.get(Server(server.url), owner="ns/b") is not prometheus


async def test_a_caller_that_gives_up_costs_the_others_nothing(hub: PrometheusHub) -> None:
    given_up = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await given_up.wait()
        data = {"resultType": "scalar", "result": [1, "5"]}
        return web.json_response({"status": "success", "data": data})

    async with serving(slow) as url:
        prometheus: Prometheus = hub.get(Server(url), owner="ns/a")
        patient = asyncio.create_task(prometheus.number(question("1")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(prometheus.number(question("1")), 0.1)
        given_up.set()
        assert isinstance(await patient, Known)
