"""Pausing by HTTP: what is sent, what is believed, and what is never done twice (P2, P4)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from tests.producers.objects import AT, OWNER, TOKEN
from tests.producers.webhook_api import (
    BEARER,
    SECRET,
    FakeApi,
    Fault,
    answers,
    breaks_off,
    genuine,
    hangs,
    producer_of,
    served,
)

from local.certificates import Authority
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.http.caller import HttpCaller, Trust, retry_after
from starforge_backlog.producers.webhook import UNOWNED, WebhookProducer
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Unknown, Why


@pytest.fixture
async def caller() -> AsyncIterator[HttpCaller]:
    caller = HttpCaller()
    yield caller
    await caller.close()


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with served(FakeApi()) as api:
        yield api


@pytest.fixture
async def producer(caller: HttpCaller, api: FakeApi) -> WebhookProducer:
    return producer_of(caller, api.url)


async def paused(producer: WebhookProducer, token: str = TOKEN) -> Paused:
    got = await producer.pause(owner=OWNER, token=token, at=AT, why="5,200 wait")
    assert isinstance(got, Paused), got
    return got


async def resumed(
    producer: WebhookProducer, after: Paused | None = None, token: str = TOKEN
) -> Resumed:
    version = after.version if after is not None else ""
    got = await producer.resume(token=token, version=version, previous=None)
    assert isinstance(got, Resumed), got
    return got


async def seen(producer: WebhookProducer) -> ProducerReading:
    got = await producer.read()
    assert isinstance(got, Known), got
    return got.value


async def test_a_pause_and_its_resume(api: FakeApi, producer: WebhookProducer) -> None:
    assert (await seen(producer)).value is FlagValue.RUNNING
    held = await paused(producer)
    assert held == Paused(PauseOutcome.PAUSED, TOKEN)
    assert await seen(producer) == ProducerReading(FlagValue.PAUSED, TOKEN, held.version)
    assert await resumed(producer, held) == Resumed(ResumeOutcome.RESUMED)
    assert (api.paused, api.owner) == (False, None)
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_PAUSED
    pause, resume = api.posts
    assert pause == {
        "action": "pause",
        "producer": "partner",
        "policy": "ns/etl",
        "token": TOKEN,
        "at": "2026-01-01T03:00:00+00:00",
        "reason": "5,200 wait",
    }
    assert {**resume, "at": "", "reason": ""} == {
        **pause,
        "action": "resume",
        "at": "",
        "reason": "",
    }


async def test_each_call_is_signed_and_keyed(api: FakeApi, producer: WebhookProducer) -> None:
    held = await paused(producer)
    await resumed(producer, held)
    for method, headers, body in api.got:
        assert genuine(headers, body or b"/ingest")
        assert headers["Authorization"] == f"Bearer {BEARER}"
        assert ("Idempotency-Key" in headers) == (method == "POST")
    keys = [h["Idempotency-Key"] for m, h, _ in api.got if m == "POST"]
    assert keys == [f"{TOKEN}/pause", f"{TOKEN}/resume"]


async def test_after_a_crash_the_pause_is_known_again(
    api: FakeApi, producer: WebhookProducer
) -> None:
    held = await paused(producer)
    assert await paused(producer) == Paused(PauseOutcome.ALREADY_OURS, held.version)
    assert len(api.posts) == 1
    assert (await resumed(producer)).outcome is ResumeOutcome.RESUMED


@pytest.mark.parametrize("owner", ["alice", "other-uid/api/1", None])
async def test_a_person_paused_before(
    api: FakeApi, producer: WebhookProducer, owner: str | None
) -> None:
    api.paused, api.owner = True, owner
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert "the operator does not resume it" in got.message
    assert (await resumed(producer)).outcome is ResumeOutcome.NOT_OURS
    assert api.methods == ["GET", "GET"], "nothing was asked for"


async def test_a_person_paused_between_our_read_and_our_call(
    api: FakeApi, producer: WebhookProducer
) -> None:
    async def pause_meanwhile(request: web.Request) -> web.StreamResponse:
        said = json.dumps(api.says())
        api.paused, api.owner = True, "alice"
        return await answers(200, said)(request)

    api.faults.append(pause_meanwhile)
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    assert "alice" in got.message
    assert (api.paused, api.owner) == (True, "alice")


async def test_a_person_resumed_meanwhile(api: FakeApi, producer: WebhookProducer) -> None:
    held = await paused(producer)
    api.paused, api.owner = False, None
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_PAUSED
    assert len(api.posts) == 1


@pytest.mark.parametrize(
    ("owner", "outcome"),
    [("alice", ResumeOutcome.NOT_OURS), (None, ResumeOutcome.CHANGED_SINCE)],
)
async def test_a_person_paused_over_ours(
    api: FakeApi, producer: WebhookProducer, owner: str | None, outcome: ResumeOutcome
) -> None:
    held = await paused(producer)
    api.owner = owner
    now = await seen(producer)
    assert (now.token, now.version != held.version) == (owner, True)
    assert (await resumed(producer, held)).outcome is outcome
    assert (api.paused, len(api.posts)) == (True, 1)


async def test_an_api_that_keeps_no_owner(api: FakeApi, producer: WebhookProducer) -> None:
    api.keeps_owner = False
    held = await paused(producer)
    assert held == Paused(PauseOutcome.PAUSED, UNOWNED)
    assert (await seen(producer)).version == held.version
    # After a crash it cannot be distinguished from a person's pause: safe.
    assert (await paused(producer)).outcome is PauseOutcome.ALREADY_PAUSED
    assert (await resumed(producer)).outcome is ResumeOutcome.NOT_OURS
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED


async def test_an_api_that_cannot_be_read(caller: HttpCaller, api: FakeApi) -> None:
    producer = producer_of(caller, api.url, readable=False)
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.NOT_CONFIGURED
    held = await paused(producer)
    assert held == Paused(PauseOutcome.PAUSED, TOKEN)
    assert (await paused(producer)) == held
    assert (await resumed(producer)).outcome is ResumeOutcome.RESUMED, "the token proves it there"
    api.paused, api.owner = True, "alice"
    assert (await paused(producer)).outcome is PauseOutcome.ALREADY_PAUSED
    assert (await resumed(producer, held)).outcome is ResumeOutcome.NOT_OURS
    assert set(api.methods) == {"POST"}


@pytest.mark.parametrize("fault", [hangs, breaks_off, answers(503, "restarting"), answers(429)])
async def test_what_passes_is_tried_again_under_the_same_key(
    caller: HttpCaller, api: FakeApi, fault: Fault
) -> None:
    limit = 3 if fault is hangs else 20
    producer = producer_of(caller, api.url, readable=False, seconds=limit)
    api.faults.append(fault)
    assert (await paused(producer)).outcome is PauseOutcome.PAUSED
    first, second = api.got
    assert first[2] == second[2]
    assert first[1]["Idempotency-Key"] == second[1]["Idempotency-Key"]


async def test_an_api_that_asks_to_wait_is_not_called_meanwhile(
    caller: HttpCaller, api: FakeApi
) -> None:
    producer = producer_of(caller, api.url, readable=False)
    api.faults.append(answers(429, **{"Retry-After": "60"}))
    for _ in range(2):  # the second as the next pass
        got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
        assert isinstance(got, Unknown)
        assert "asks not to be called for 60 s (429)" in got.message
    assert api.methods == ["POST"]


async def test_a_short_wait_is_waited_for(caller: HttpCaller, api: FakeApi) -> None:
    producer = producer_of(caller, api.url, readable=False)
    api.faults.append(answers(503, **{"Retry-After": "1"}))
    assert (await paused(producer)).outcome is PauseOutcome.PAUSED


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2020 00:00:30 GMT", 0.0),
        ("999999999999999999999", 300.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("٧", 0.0),
        ("Thu, 99 Jan 2026 00:00:30 GMT", 0.0),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    assert retry_after(header, datetime(2026, 1, 1, tzinfo=UTC)) == seconds


async def test_headers_that_are_too_large_are_said_as_that(
    caller: HttpCaller, api: FakeApi
) -> None:
    producer = producer_of(caller, api.url, readable=False)
    api.faults.append(answers(200, **{"X-Page": "x" * 20_000}))
    got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
    assert isinstance(got, Unknown)
    assert got.why is Why.BAD_ANSWER
    assert "headers" in got.message


@pytest.mark.parametrize("host", ["127.1:1", "0:1", "2130706433:1"])
async def test_an_address_that_is_none_is_no_outage(caller: HttpCaller, host: str) -> None:
    producer = producer_of(caller, f"http://{host}/", readable=False)
    got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
    assert isinstance(got, Unknown)
    assert got.why is Why.BAD_SHAPE
    assert "correct the url" in got.message


@pytest.mark.parametrize("lost", [hangs, breaks_off])
async def test_a_pause_whose_answer_was_lost(caller: HttpCaller, api: FakeApi, lost: Fault) -> None:
    """It happened. Neither the next attempt nor the next pass takes it for another client's."""
    producer = producer_of(caller, api.url, attempts=1, seconds=3 if lost is hangs else 20)
    api.after.append(lost)
    got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
    assert isinstance(got, Unknown)
    assert got.why in {Why.TIMEOUT, Why.UNREACHABLE}
    assert "the call may have taken effect" in got.message
    assert (await paused(producer)).outcome is PauseOutcome.ALREADY_OURS
    api.after.append(lost)
    left = await producer.resume(token=TOKEN, version=TOKEN, previous=None)
    assert isinstance(left, Unknown)
    assert (await resumed(producer)).outcome is ResumeOutcome.NOT_PAUSED


HTML = "<html><body>sign in</body></html>"


@pytest.mark.parametrize(
    ("fault", "why", "says"),
    [
        (answers(200, HTML), Why.BAD_ANSWER, "no JSON (a web page)"),
        (answers(200, ""), Why.BAD_ANSWER, "no JSON (nothing)"),
        (answers(204), Why.BAD_ANSWER, "no JSON"),
        (answers(200, "[]"), Why.BAD_ANSWER, 'it must be {"paused": true|false}'),
        (answers(200, '{"paused": "true"}'), Why.BAD_ANSWER, "it must be"),
        (answers(200, '{"paused": null}'), Why.BAD_ANSWER, "it must be"),
        (answers(200, '{"paused": true, "owner": 7}'), Why.BAD_ANSWER, "its owner is no text"),
        (
            answers(200, json.dumps({"paused": True, "owner": "x" * 300})),
            Why.BAD_ANSWER,
            "at most 256",
        ),
        (answers(200, "x" * 10_000_000), Why.BAD_ANSWER, "no JSON (a long text)"),
        (
            answers(302, Location="https://evil.example/"),
            Why.BAD_ANSWER,
            "redirects to evil.example (302)",
        ),
        (answers(307, Location="/other"), Why.BAD_ANSWER, "correct webhook.url"),
        (answers(400, "no such producer"), Why.BAD_ANSWER, "400 with 16 bytes"),
        (answers(401), Why.WRONG_PASSWORD, "check webhook.secret and bearerToken"),
        (answers(403), Why.NO_PERMISSION, "forbids the call (403)"),
        (answers(404, HTML), Why.BAD_ANSWER, "correct webhook.url"),
        (answers(405), Why.BAD_ANSWER, "405"),
        (answers(503), Why.BAD_ANSWER, "503 with nothing"),
        (answers(200, "[" * 15_000), Why.BAD_ANSWER, "no JSON"),
        (hangs, Why.TIMEOUT, "did not answer within 0.3 s"),
        (breaks_off, Why.UNREACHABLE, "broke the connection off"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
async def test_what_is_no_answer_is_unknown_and_says_the_fix(
    caller: HttpCaller, api: FakeApi, fault: Fault, why: Why, says: str
) -> None:
    invalidated: list[Unknown] = []
    # What is not about time has all the time that a slow machine needs.
    limit = 0.3 if fault is hangs else 10
    reader = producer_of(caller, api.url, attempts=1, invalidated=invalidated, seconds=limit)
    writer = producer_of(caller, api.url, attempts=1, readable=False, seconds=limit)
    api.faults.extend([fault] * 8)  # the client repeats a cut GET itself
    for got in (
        await reader.read(),
        await reader.pause(owner=OWNER, token=TOKEN, at=AT),
        await writer.pause(owner=OWNER, token=TOKEN, at=AT),
        await writer.resume(token=TOKEN, version=TOKEN, previous=None),
    ):
        assert isinstance(got, Unknown), got
        assert (got.why, says in got.message) == (why, True), got.message
        assert BEARER not in got.message
        assert SECRET not in got.message
        assert len(got.message) < 500
        assert "\n" not in got.message
    assert api.paths == {"/ingest"}, "redirects are not followed"
    assert [unknown.why for unknown in invalidated] == [why, why]


# What an API in debug mode may make of a secret in its answer. 16 characters of it are too much:
# the cut of a quotation must not leave the first half.
FORMS: tuple[Callable[[str], str], ...] = (
    lambda secret: f"Authorization: Bearer {secret}",
    lambda secret: "x" * 105 + secret,
    lambda secret: json.dumps({"headers": {"authorization": secret}}),
    lambda secret: json.dumps(json.dumps([secret])).replace("a", "\\u0061"),
    lambda secret: base64.b64encode(secret.encode()).decode(),
    lambda secret: json.dumps({"paused": True, "owner": f"Bearer {secret}"}),
    lambda secret: json.dumps({"paused": secret}),
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("status", [200, 302, 400, 500])
@pytest.mark.parametrize("secret", [SECRET, BEARER])
async def test_no_part_of_a_secret_is_quoted(
    caller: HttpCaller, api: FakeApi, form: Callable[[str], str], status: int, secret: str
) -> None:
    text = form(secret)
    location = {"Location": f"https://evil.example/?q={text[:200]}"} if status == 302 else {}
    producer = producer_of(caller, api.url, attempts=1)
    api.faults.extend([answers(status, text, **location)] * 2)
    for got in (await producer.read(), await producer.pause(owner=OWNER, token=TOKEN, at=AT)):
        assert isinstance(got, Unknown), got
        for whole in (secret, base64.b64encode(secret.encode()).decode()):
            parts = [whole[i : i + 6] for i in range(len(whole) - 5)]
            assert not [part for part in parts if part in got.message]


async def test_an_api_that_hangs_keeps_no_other_waiting(caller: HttpCaller, api: FakeApi) -> None:
    """However many of them hang: more than any pool holds."""

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(250)
        writer.close()

    silent = [await asyncio.start_server(mute, "127.0.0.1", 0) for _ in range(40)]
    ports = [server.sockets[0].getsockname()[1] for server in silent]
    stuck = [
        producer_of(caller, f"http://127.0.0.1:{port}/", seconds=6, attempts=1) for port in ports
    ]
    hanging = [asyncio.create_task(one.read()) for one in stuck]
    await asyncio.sleep(0.2)
    assert (await seen(producer_of(caller, api.url))).value is FlagValue.RUNNING
    assert not any(one.done() for one in hanging), "it came while those are waited for"
    for found in await asyncio.gather(*hanging):
        assert isinstance(found, Unknown)
        assert "the call may have taken effect" in found.message
    for server in silent:
        server.close()


@pytest.mark.usefixtures("production_limits")
async def test_a_call_that_waits_for_others_says_that_nothing_was_sent(
    caller: HttpCaller, api: FakeApi
) -> None:
    """Of one API that hangs: what never left is distinguished from what may have happened."""
    producer = producer_of(caller, api.url, readable=False, seconds=10, attempts=1)
    api.faults.extend([hangs] * 8)
    got = await asyncio.gather(
        *(producer.pause(owner=OWNER, token=f"uid/p/{n}", at=AT) for n in range(4))
    )
    messages = sorted(one.message for one in got if isinstance(one, Unknown))
    assert len(api.got) == 2
    assert ["nothing was sent" in m for m in messages].count(True) == 2, messages
    assert ["the call may have taken effect" in m for m in messages].count(True) == 2, messages


async def test_the_clock_of_a_call_starts_when_its_turn_has_come(
    caller: HttpCaller, api: FakeApi
) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return await answers(200, '{"paused": true}')(request)

    # Two at a time: the last two have waited for four seconds by then.
    producer = producer_of(caller, api.url, readable=False, seconds=5, attempts=1)
    api.faults.extend([slow] * 6)
    got = await asyncio.gather(
        *(producer.pause(owner=OWNER, token=f"uid/p/{n}", at=AT) for n in range(6))
    )
    assert [isinstance(one, Paused) for one in got] == [True] * 6, got


async def test_a_host_that_was_not_reached_did_not_act(caller: HttpCaller) -> None:
    """A port that accepts no connection any more, as behind a firewall that drops."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):  # more than the backlog holds
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            producer = producer_of(
                caller, f"http://127.0.0.1:{full.getsockname()[1]}/", readable=False, seconds=1.5
            )
            got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
    assert isinstance(got, Unknown)
    assert got.why is Why.TIMEOUT
    assert "nothing was sent" in got.message
    assert "may have taken effect" not in got.message


async def test_another_state_than_was_asked_for_is_no_pause(
    caller: HttpCaller, api: FakeApi
) -> None:
    producer = producer_of(caller, api.url, readable=False)
    api.faults.append(answers(200, '{"paused": false}'))
    got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
    assert isinstance(got, Unknown)
    assert (got.why, "still runs" in got.message) == (Why.BAD_ANSWER, True)
    api.faults.append(answers(200, '{"paused": true}'))
    left = await producer.resume(token=TOKEN, version=TOKEN, previous=None)
    assert isinstance(left, Unknown)
    assert "still paused" in left.message


@pytest.mark.usefixtures("production_limits")
async def test_an_api_that_hangs_costs_no_more_than_the_effects_of_a_pass(
    caller: HttpCaller, api: FakeApi
) -> None:
    producer = producer_of(caller, api.url, seconds=4, attempts=3)
    api.faults.append(answers(200, '{"paused": false}'))
    api.faults.extend([hangs] * 3)
    began = asyncio.get_running_loop().time()
    got = await producer.pause(owner=OWNER, token=TOKEN, at=AT)
    assert isinstance(got, Unknown)
    assert 4 <= asyncio.get_running_loop().time() - began < 11, "and not three times 4 s"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/x", Why.UNREACHABLE),
        ("http://nowhere.invalid/x", Why.HOST_UNKNOWN),
        ("http://nöwhere.invalid/x", Why.HOST_UNKNOWN),
        # Whatever else the API server lets through is reported, and stops nobody's pass.
        ("http://127.0.0.1:99999/x", Why.BAD_SHAPE),
        ("http://127.0.0.1:port/x", Why.BAD_SHAPE),
        ("http://[::1/x", Why.BAD_SHAPE),
        ("http://a..b/x", Why.BAD_SHAPE),
        ("http://\\host/x", Why.BAD_SHAPE),
        (f"http://{'h' * 300}/x", Why.BAD_SHAPE),
    ],
)
async def test_nobody_there(caller: HttpCaller, url: str, why: Why) -> None:
    producer = producer_of(caller, url)
    for got in (await producer.read(), await producer.pause(owner=OWNER, token=TOKEN, at=AT)):
        assert isinstance(got, Unknown)
        assert got.why is why, got.message
        assert len(got.message) < 600


async def test_a_path_is_signed_as_it_goes_over_the_wire(caller: HttpCaller, api: FakeApi) -> None:
    await producer_of(caller, api.url.replace("/ingest", "/ä/%20x")).read()
    ((_, headers, _),) = api.got
    assert genuine(headers, b"/%C3%A4/%20x")
    assert api.paths == {"/ä/ x"}


async def test_a_login_with_a_line_break_is_reported_and_not_shown(
    caller: HttpCaller, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.producers.webhook_api.BEARER", "planted\r\nX-Evil: 1")
    got = await producer_of(caller, api.url).read()
    assert isinstance(got, Unknown)
    assert (got.why, "planted" in got.message) == (Why.BAD_SHAPE, False)
    assert api.got == []


def context(tmp_path: Path, *hosts: str) -> tuple[ssl.SSLContext, str]:
    """A server's TLS, and its authority's certificate."""
    authority = Authority(tmp_path)
    pair = authority.issue("server", hosts=hosts)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(pair.certificate, pair.key)
    return server, authority.certificate_file.read_text()


async def test_tls_by_an_authority_of_its_own(caller: HttpCaller, tmp_path: Path) -> None:
    server, ca = context(tmp_path, "partner")
    async with served(FakeApi(), server) as api:
        trusted = producer_of(caller, api.url, trust=Trust(ca, "partner"))
        held = await paused(trusted)
        assert (await resumed(trusted, held)).outcome is ResumeOutcome.RESUMED
        for trust in (Trust(), Trust(ca), Trust(None, "partner"), Trust(ca, "other")):
            got = await producer_of(caller, api.url, trust=trust).read()
            assert isinstance(got, Unknown)
            assert got.why is Why.TLS_FAILED
            assert "tls.ca" in got.message
        bad = await producer_of(caller, api.url, trust=Trust("no certificate")).read()
        assert isinstance(bad, Unknown)
        assert bad.why is Why.SECRET_MALFORMED


async def test_https_to_a_server_that_speaks_none(caller: HttpCaller, api: FakeApi) -> None:
    got = await producer_of(caller, api.url.replace("http://", "https://")).read()
    assert isinstance(got, Unknown)
    assert got.why in {Why.TLS_FAILED, Why.UNREACHABLE}


async def test_secrets_are_in_no_text_of_a_call(caller: HttpCaller, api: FakeApi) -> None:
    producer = producer_of(caller, api.url)
    shown = repr(vars(producer)) + repr(vars(producer._calls))  # what a traceback would show
    assert SECRET not in shown
    assert BEARER not in shown
