"""A connection pool as a worker has one: it fills under load and empties when there is none."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from psycopg import AsyncConnection

IDLE_SECONDS = 12.0
"""An unused connection is given back after this: it is what the operator saves for others."""

CONNECT_SECONDS = 5
"""A server that does not answer must not hold a place in the pool for ever."""

log = logging.getLogger(__name__)


class Pool:
    """At most `size` connections. The one used last is used next, so the others become idle."""

    def __init__(self, url: str, size: int, name: str) -> None:
        self._url = url
        self._name = name
        self._places = asyncio.Semaphore(size)
        self._idle: list[tuple[AsyncConnection[Any], float]] = []
        self._sweeper: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection in autocommit mode. One that breaks is closed and not used again."""
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        async with self._places:
            connection = await self._take()
            whole = False
            try:
                yield connection
                whole = not (connection.closed or connection.broken)
            except psycopg.Error:
                whole = not (connection.closed or connection.broken)
                raise
            finally:
                if whole:
                    self._idle.append((connection, time.monotonic()))
                else:
                    await connection.close()

    async def _take(self) -> AsyncConnection[Any]:
        while self._idle:
            connection, _ = self._idle.pop()
            if not (connection.closed or connection.broken):
                return connection
        return await AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name=self._name,
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(IDLE_SECONDS / 4)
            oldest = time.monotonic() - IDLE_SECONDS
            stale = [c for c, since in self._idle if since < oldest]
            self._idle = [(c, since) for c, since in self._idle if since >= oldest]
            for connection in stale:
                await connection.close()

    async def close(self) -> None:
        """Give every idle connection back."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection, _ in self._idle:
            await connection.close()
        self._idle.clear()
