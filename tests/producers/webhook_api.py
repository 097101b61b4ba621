"""An API on loopback that pauses itself, answers as the page says, and fails as it is asked to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ssl import SSLContext
from typing import Any

from aiohttp import web

from starforge_backlog.clock import utc_now
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.http.caller import HttpCaller, Trust
from starforge_backlog.producers.webhook import WebhookProducer
from starforge_backlog.producers.webhook_calls import Endpoint, WebhookCalls
from starforge_backlog.snapshot import Unknown

SECRET = "planted-signing-key"
BEARER = "planted-bearer-token"

# A test reads again at once; the operator shares readings for a second.
_NEVER = timedelta(0)

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class FakeApi:
    """What a good receiver does. `faults` are used up one per request, before it acts."""

    keeps_owner: bool = True
    paused: bool = False
    owner: str | None = None
    faults: deque[Fault] = field(default_factory=deque)
    after: deque[Fault] = field(default_factory=deque)  # used up after it has acted
    # Who pauses it by hand right before the request of that number; None: another client without a
    # name.
    by_hand: dict[int, str | None] = field(default_factory=dict)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    url: str = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.paths.add(request.path)
        self.got.append((request.method, dict(request.headers), body))
        if len(self.got) in self.by_hand:
            self.paused, self.owner = True, self.by_hand[len(self.got)]
        if self.faults:
            return await self.faults.popleft()(request)
        if request.method == "POST":
            self.act(json.loads(body))
            if self.after:
                return await self.after.popleft()(request)
        return web.json_response(self.says())

    def act(self, asked: dict[str, Any]) -> None:
        if asked["action"] == "pause" and not self.paused:
            self.paused, self.owner = True, asked["token"] if self.keeps_owner else None
        elif asked["action"] == "resume" and self.owner in {None, asked["token"]}:
            self.paused, self.owner = False, None

    def says(self) -> dict[str, object]:
        return {"paused": self.paused, **({"owner": self.owner} if self.owner else {})}

    @property
    def methods(self) -> list[str]:
        return [method for method, _, _ in self.got]

    @property
    def posts(self) -> list[dict[str, Any]]:
        return [json.loads(body) for method, _, body in self.got if method == "POST"]


@asynccontextmanager
async def served(api: FakeApi, tls: SSLContext | None = None) -> AsyncIterator[FakeApi]:
    """On a free port, until the end of the test."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0][:2]
    api.url = f"{'https' if tls else 'http'}://{host}:{port}/ingest"
    try:
        yield api
    finally:
        await runner.cleanup()


def producer_of(
    caller: HttpCaller,
    url: str,
    *,
    readable: bool = True,
    seconds: float = 20,
    attempts: int = 2,
    trust: Trust | None = None,
    invalidated: list[Unknown] | None = None,
) -> WebhookProducer:
    """The policy ns/etl's producer `partner`."""
    endpoint = Endpoint(
        url=url,
        readable=readable,
        seconds=seconds,
        attempts=attempts,
        trust=trust or Trust(),
        secret=SECRET,
        bearer=BEARER,
    )
    calls = WebhookCalls(caller, endpoint, utc_now)
    shared = SharedAnswer(calls.read, max_age=_NEVER)
    invalidate = invalidated.append if invalidated is not None else _nobody
    return WebhookProducer(
        calls, shared, policy="ns/etl", producer="partner", invalidate=invalidate
    )


def _nobody(_: Unknown) -> None:
    """No message is sent."""


def genuine(headers: dict[str, str], signed: bytes) -> bool:
    """By another hand than the operator's."""
    moment, digest = headers["X-StarForge-Signature"].removeprefix("t=").split(",v1=")
    wanted = hmac.new(SECRET.encode(), f"{moment}.".encode() + signed, hashlib.sha256).hexdigest()
    return wanted == digest


def answers(status: int, text: str = "", **headers: str) -> Fault:
    """That answer instead of its own."""

    async def fault(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return fault


async def hangs(_: web.Request) -> web.StreamResponse:
    """Longer than any attempt."""
    await asyncio.sleep(250)
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """In the middle of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
