"""Clients that hold connections: the web application, and the other client that takes most of them.

Some of the sessions do a little reading now and then, as idle pools do.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import psycopg
from aiohttp import web
from psycopg import AsyncConnection

from demo import environment, pod

RETRY_SECONDS = 1.0
"""Between attempts to open a connection that was refused."""

GLANCE_SECONDS = 4.0
"""Mean time between two small statements of a session."""

log = logging.getLogger(__name__)


class Holder:
    """Holds `count` sessions until asked to stop; a session that ends is opened again."""

    def __init__(self, url: str, count: int, name: str) -> None:
        self._url = url
        self._count = count
        self._name = name
        self._open = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Hold them."""
        sessions = [asyncio.create_task(self._session()) for _ in range(self._count)]
        await stop.wait()
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    async def ready(self, _: web.Request) -> web.Response:
        """Ready when all sessions are open."""
        return web.Response(status=200 if self._open >= self._count else 503)

    async def _session(self) -> None:
        while True:
            try:
                connection = await AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, application_name=self._name
                )
            except psycopg.Error as error:
                log.warning("refused: %s", type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))
                continue
            self._open += 1
            try:
                await self._hold(connection)
            except psycopg.Error as error:
                log.warning("session ended: %s", type(error).__name__)
            finally:
                self._open -= 1
                await connection.close()

    async def _hold(self, connection: AsyncConnection[Any]) -> None:
        while True:
            await asyncio.sleep(random.expovariate(1 / GLANCE_SECONDS))
            await connection.execute("SELECT 1")


async def main(stop: asyncio.Event) -> None:
    """`CONNECTIONS` sessions under the name `NAME`."""
    holder = Holder(
        environment.text("DATABASE_URL"),
        environment.integer("CONNECTIONS", 40),
        environment.text("NAME", "webapp"),
    )
    async with pod.serving({"GET /readyz": holder.ready}, environment.integer("PORT", 8080)):
        await holder.run(stop)


if __name__ == "__main__":
    pod.run(main)
