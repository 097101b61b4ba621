"""`/healthz`, `/readyz` and `/metrics`: whether passes go on, and what they saw.

Liveness is about ourselves only: a database or an API server that is down must not get the
operator restarted, but passes that have stopped must.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from aiohttp import web

# Passes may be late by whole intervals while the API server is slow; this many in a row are a
# hang of ours.
STALLED_AFTER_INTERVALS = 4
# With intervals of a few seconds the rule above would call a hiccup of the node a hang.
STALLED_AT_LEAST_SECONDS = 60.0
# A request is a GET without a body; anything larger is no probe.
LARGEST_REQUEST_BYTES = 1024
# Prometheus keeps its connection for a scrape interval or two.
KEEPALIVE_SECONDS = 75.0
# On the way out, probes and scrapes are not worth waiting for.
SHUTDOWN_SECONDS = 1.0

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Monotonic = Callable[[], float]


class Health:
    """What is known about our own life. Fed by the handlers, asked by the probes."""

    def __init__(self, monotonic: Monotonic = time.monotonic) -> None:
        self._monotonic = monotonic
        self._intervals: dict[str, float] = {}
        self._last_sign = monotonic()
        self._reached = False
        self._listed = False

    def policy_seen(self, uid: str, interval: timedelta) -> None:
        """A policy is ours to run, at this interval."""
        if not self._intervals:
            self._last_sign = self._monotonic()  # there was nothing to do until now
        self._intervals[uid] = interval.total_seconds()

    @property
    def policies(self) -> int:
        """How many are ours to run."""
        return len(self._intervals)

    def policy_gone(self, uid: str) -> None:
        """A policy was deleted, or is somebody else's to run."""
        self._intervals.pop(uid, None)

    def pass_finished(self) -> None:
        """A pass came to its end, whatever it found."""
        self._last_sign = self._monotonic()

    def api_reached(self) -> None:
        """The API server answered once."""
        self._reached = True

    def policies_listed(self) -> None:
        """The first list of policies is complete."""
        self._listed = True

    def sick(self) -> str | None:
        """Why we should be restarted, or None."""
        if not self._intervals:
            return None
        patience = max(
            STALLED_AT_LEAST_SECONDS, STALLED_AFTER_INTERVALS * max(self._intervals.values())
        )
        silence = self._monotonic() - self._last_sign
        if silence <= patience:
            return None
        return (
            f"passes stopped: none finished for {silence:.0f} s although there are "
            f"{len(self._intervals)} policies; one should in {patience:.0f} s"
        )

    def unready(self) -> str | None:
        """Why we are not ready to serve, or None."""
        if not self._reached:
            return "the API server has not answered yet"
        if not self._listed:
            return "the policies are not listed yet"
        return None


class HealthServer:
    """Serves the three paths until it is closed."""

    def __init__(self, health: Health, render: Callable[[], bytes]) -> None:
        self._health = health
        self._render = render
        # Rendering for thousands of policies takes a moment: in a thread, and one at a time.
        self._scrape = asyncio.Lock()
        app = web.Application(client_max_size=LARGEST_REQUEST_BYTES)
        app.router.add_get("/healthz", self._probe(health.sick))
        app.router.add_get("/readyz", self._probe(health.unready))
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which matters when 0 (any free one) was asked for.

        Raises OSError when the address cannot be bound.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    def _probe(
        self, wrong: Callable[[], str | None]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_request: web.Request) -> web.Response:
            reason = wrong()
            if reason is None:
                return web.Response(text="ok\n")
            return web.Response(status=503, text=f"{reason}\n")

        return answer

    async def _metrics(self, _request: web.Request) -> web.Response:
        async with self._scrape:
            body = await asyncio.to_thread(self._render)
        return web.Response(body=body, headers={"Content-Type": METRICS_CONTENT_TYPE})
