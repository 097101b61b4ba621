"""The ingestion API: `POST /snapshots` → 202, or 503 with Retry-After while ingestion is paused."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import psycopg
from aiohttp import web

from demo import environment, pod
from demo.database import statement
from demo.pool import Pool

FLAG_SECONDS = 1.0
"""How long a reading of the flag is believed: a pause must work within a second."""

ANSWER_SECONDS = 2.0
"""A client gets 503 rather than be kept waiting on a database that does not answer."""

RETRY_AFTER = {"Retry-After": "3"}

log = logging.getLogger(__name__)


class Api:
    """One process with a small pool; state is only the cached flag."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._paused: bool | None = None  # None: not read yet
        self._flag_read = 0.0
        self._background: set[asyncio.Task[Any]] = set()

    async def post_snapshot(self, request: web.Request) -> web.Response:
        """Store the snapshot and its job, or say why not."""
        raw = await request.text()
        if self._paused is None or self._paused:
            return _unavailable("paused" if self._paused else "starting")
        try:
            # Shielded: cancelling a statement on a silent server would wait for that server too.
            # The row may still be written after the client got 503; clients count that as
            # unsure and do not believe that it is lost.
            await asyncio.wait_for(asyncio.shield(self._start(self._store(raw))), ANSWER_SECONDS)
        except (TimeoutError, psycopg.Error) as error:
            log.warning("snapshot not stored: %s", type(error).__name__)
            return _unavailable("storage")
        return web.json_response({"status": "accepted"}, status=202)

    async def ready(self, _: web.Request) -> web.Response:
        """Ready once the flag has been read: before that nobody knows if ingestion is paused."""
        return web.Response(status=503 if self._paused is None else 200)

    async def watch_flag(self, stop: asyncio.Event) -> None:
        """Keep the cached flag fresh; in doubt the last known value stays."""
        while not stop.is_set():
            started = time.monotonic()
            try:
                async with self._pool.connection() as connection:
                    row = await (await connection.execute(statement("flag"))).fetchone()
                self._paused = bool(row and row[0])
            except psycopg.Error as error:
                log.warning("flag not read: %s", type(error).__name__)
            rest = FLAG_SECONDS / 2 - (time.monotonic() - started)
            await asyncio.sleep(max(0.05, rest))

    async def _store(self, raw: str) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(statement("ingest"), {"raw": raw})

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.info("a late write failed: %s", type(task.exception()).__name__)


def _unavailable(reason: str) -> web.Response:
    return web.json_response({"reason": reason}, status=503, headers=RETRY_AFTER)


async def main(stop: asyncio.Event) -> None:
    """Serve until asked to stop."""
    pool = Pool(environment.text("DATABASE_URL"), environment.integer("PG_POOL_MAX", 4), "api")
    api = Api(pool)
    watcher = asyncio.create_task(api.watch_flag(stop))
    routes = {"POST /snapshots": api.post_snapshot, "GET /readyz": api.ready}
    async with pod.serving(routes, environment.integer("PORT", 8080)):
        await stop.wait()
    watcher.cancel()
    await pool.close()


if __name__ == "__main__":
    pod.run(main)
