"""The clients: a fleet that sends snapshots by a schedule and obeys Retry-After.

`POST /start` begins the schedule, `POST /stop` ends it, `GET /counts` returns what happened so far.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import asdict, dataclass

import aiohttp
from aiohttp import web

from demo import environment, pod
from demo.schedule import Schedule

TICK_SECONDS = 0.02
"""Requests that have become due are sent this often."""

ANSWER_SECONDS = 5.0
"""After this the client gives up; whether the job exists is then unsure."""

MOST_IN_FLIGHT = 300
"""Beyond this requests are skipped and counted: a demo must not run out of sockets."""

ACCEPTED, UNAVAILABLE = 202, 503


@dataclass(slots=True)
class Counts:
    """See `recording.Clients`."""

    wanted: int = 0
    sent: int = 0
    accepted: int = 0
    refused: int = 0
    held_back: int = 0
    unsure: int = 0
    skipped: int = 0


class Fleet:
    """`clients` independent clients; each keeps quiet for as long as its last answer asked for."""

    def __init__(self, url: str, schedule: Schedule, clients: int) -> None:
        self._url = url
        self._schedule = schedule
        self._quiet_until = [0.0] * clients
        self._in_flight: set[asyncio.Task[None]] = set()
        self._begin = asyncio.Event()
        self._end = asyncio.Event()
        self._ended = asyncio.Event()
        self._started = 0.0
        self.counts = Counts()

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the start, then send until asked to stop."""
        waiters = [asyncio.create_task(e.wait()) for e in (self._begin, stop)]
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
        if not stop.is_set():
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                await self._send_all(session, stop)
            self._ended.set()
            await stop.wait()

    async def start(self, _: web.Request) -> web.Response:
        """Begin the schedule."""
        self._begin.set()
        return self._answer()

    async def stop(self, _: web.Request) -> web.Response:
        """Send no more; answers once every request in flight has its outcome."""
        self._end.set()
        if self._begin.is_set():
            await self._ended.wait()
        return self._answer()

    async def show_counts(self, _: web.Request) -> web.Response:
        """What happened so far."""
        return self._answer()

    def _answer(self) -> web.Response:
        seconds = time.monotonic() - self._started if self._started else 0.0
        return web.json_response({"seconds": seconds, **asdict(self.counts)})

    async def _send_all(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        self._started = started = time.monotonic()
        while not (stop.is_set() or self._end.is_set()):
            due = int(self._schedule.due(time.monotonic() - started))
            while self.counts.wanted < due:
                self.counts.wanted += 1
                self._one(session)
            await asyncio.sleep(TICK_SECONDS)
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    def _one(self, session: aiohttp.ClientSession) -> None:
        client = random.randrange(len(self._quiet_until))
        if time.monotonic() < self._quiet_until[client]:
            self.counts.held_back += 1
        elif len(self._in_flight) >= MOST_IN_FLIGHT:
            self.counts.skipped += 1
        else:
            self.counts.sent += 1
            task = asyncio.create_task(self._post(session, client))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _post(self, session: aiohttp.ClientSession, client: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await session.post(f"{self._url}/snapshots", json=_snapshot())
                body = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.counts.unsure += 1
            return
        if answer.status == ACCEPTED:
            self.counts.accepted += 1
        elif answer.status == UNAVAILABLE and json.loads(body).get("reason") == "storage":
            self.counts.unsure += 1
            self._be_quiet(client, answer)
        elif answer.status == UNAVAILABLE:
            self.counts.refused += 1
            self._be_quiet(client, answer)
        else:
            self.counts.unsure += 1

    def _be_quiet(self, client: int, answer: aiohttp.ClientResponse) -> None:
        seconds = float(answer.headers.get("Retry-After", "1"))
        # Spread, as RFC 9110 clients should: all at once would be the next storm.
        self._quiet_until[client] = time.monotonic() + seconds * random.uniform(0.7, 1.3)


def _snapshot() -> dict[str, object]:
    heroes = [{"hero": random.randrange(120), "power": random.randrange(10_000)} for _ in range(8)]
    return {"source": "client", "heroes": heroes}


async def main(stop: asyncio.Event) -> None:
    """Serve the controls while the fleet runs."""
    fleet = Fleet(
        environment.text("API_URL"),
        Schedule.parse(environment.text("SCHEDULE")),
        environment.integer("CLIENTS", 40),
    )
    routes = {
        "POST /start": fleet.start,
        "POST /stop": fleet.stop,
        "GET /counts": fleet.show_counts,
        "GET /readyz": fleet.show_counts,
    }
    async with pod.serving(routes, environment.integer("PORT", 8080)):
        await fleet.run(stop)


if __name__ == "__main__":
    pod.run(main)
