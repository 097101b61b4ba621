"""`/healthz`, `/readyz` and `/metrics`: whether each policy's passes go on, and what they saw.

Liveness is about ourselves only: a database or an API server that is down must not get the
operator restarted, but a policy whose passes do not come back must, however well the others are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

# Passes may be late by whole intervals while the API server is slow; this many in a row are a
# hang of ours.
STALLED_AFTER_INTERVALS = 4
# With intervals of a few seconds the rule above would call a hiccup of the node a hang.
STALLED_AT_LEAST_SECONDS = 60.0
# A pass is given up after two minutes (`passes.LONGEST_PASS`), and then writes its status. One that
# is still there after this does not even let go, and only a restart ends it.
HUNG_AFTER_SECONDS = 240.0
# Policies that are named in an answer; with hundreds of them the first few are enough.
MOST_NAMED = 3
# A request is a GET without a body; anything larger is no probe.
LARGEST_REQUEST_BYTES = 1024
# Prometheus keeps its connection for a scrape interval or two.
KEEPALIVE_SECONDS = 75.0
# On the way out, probes and scrapes are not worth waiting for.
SHUTDOWN_SECONDS = 1.0

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Monotonic = Callable[[], float]


@dataclass(slots=True)
class _Passes:
    """Of one policy; times of the monotonic clock, seconds."""

    policy: str  # namespace/name
    interval: float  # seconds
    ended: float  # the last one, or when the policy was seen first
    began: float | None = None  # the one that runs

    @property
    def patience(self) -> float:
        """Seconds after which the next pass is missed."""
        return max(STALLED_AT_LEAST_SECONDS, STALLED_AFTER_INTERVALS * self.interval)

    def late(self, now: float) -> float | None:
        """Seconds without an end of a pass, when that is too long."""
        silence = now - self.ended
        return silence if silence > self.patience else None

    def hung(self, now: float) -> bool:
        """Nothing but a restart helps: no pass runs although one is due, or one does not end."""
        if self.began is None:
            return self.late(now) is not None
        return now - self.began > HUNG_AFTER_SECONDS


class Health:
    """What is known about our own life. Fed by the handlers, asked by the probes."""

    def __init__(self, monotonic: Monotonic = time.monotonic) -> None:
        self._monotonic = monotonic
        self._passes: dict[str, _Passes] = {}  # by uid
        self._reached = False
        self._listed = False

    def pass_began(self, uid: str, policy: str, interval: timedelta) -> None:
        """A policy is ours to run, at this interval, and a pass of it has begun."""
        now = self._monotonic()
        kept = self._passes.setdefault(uid, _Passes(policy, 0.0, now))
        kept.interval, kept.began = interval.total_seconds(), now

    def pass_ended(self, uid: str) -> None:
        """It came to its end, whatever it found."""
        kept = self._passes.get(uid)
        if kept is not None:
            kept.ended, kept.began = self._monotonic(), None

    def policy_gone(self, uid: str) -> None:
        """A policy was deleted, or its passes were ended by whoever may."""
        self._passes.pop(uid, None)

    @property
    def policies(self) -> int:
        """How many are ours to run."""
        return len(self._passes)

    def api_reached(self) -> None:
        """The API server answered once."""
        self._reached = True

    def policies_listed(self) -> None:
        """The first list of policies is complete."""
        self._listed = True

    def sick(self) -> str | None:
        """Why we should be restarted, or None."""
        now = self._monotonic()
        hung = [one for one in self._passes.values() if one.hung(now)]
        return f"passes stopped: {self._named(hung, now)}" if hung else None

    def unready(self) -> str | None:
        """Why we are not ready to serve, or None."""
        if not self._reached:
            return "the API server has not answered yet"
        if not self._listed:
            return "the policies are not listed yet"
        now = self._monotonic()
        late = [one for one in self._passes.values() if one.late(now) is not None]
        return f"passes are late: {self._named(late, now)}" if late else None

    def _named(self, found: list[_Passes], now: float) -> str:
        """The policies that nothing is heard of, the longest first."""
        found = sorted(found, key=lambda one: one.ended)
        named = ", ".join(f"{one.policy} for {now - one.ended:.0f} s" for one in found[:MOST_NAMED])
        more = len(found) - MOST_NAMED
        return (
            f"none finished of {named}{f' and of {more} more' if more > 0 else ''};"
            f" there are {len(self._passes)} policies"
        )


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
