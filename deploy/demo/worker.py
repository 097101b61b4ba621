"""`etl-worker`: claims jobs, holds a connection while it works, stops without losing any."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from dataclasses import dataclass
from typing import Any

import psycopg
from aiohttp import web
from psycopg import AsyncConnection

from demo import environment, pod
from demo.database import statement
from demo.pool import Pool

IDLE_POLL_SECONDS = 0.25
"""How often an idle slot polls for work; jittered, so that slots do not march in step."""

STOP_SECONDS = 6.0
"""Jobs in hand get this long to finish before they are given back; below the grace period."""

RETRY_BASE_SECONDS, RETRY_MOST_SECONDS = 1.0, 300.0
"""The application's back-off: exponential from 1 s, at most 5 minutes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job; `attempts` is the proof that the claim is still ours."""

    id: uuid.UUID
    attempts: int


@dataclass(frozen=True, slots=True)
class Settings:
    """From the Deployment's environment."""

    url: str
    pool: int
    concurrency: int
    job_ms: int  # mean time of a job's database part
    jitter_percent: int
    fail_percent: int
    port: int

    @classmethod
    def read(cls) -> Settings:
        """Defaults are the application's."""
        return cls(
            url=environment.text("DATABASE_URL"),
            pool=environment.integer("PG_POOL_MAX", 4),
            concurrency=environment.integer("WORKER_CONCURRENCY", 4),
            job_ms=environment.integer("JOB_MS", 400),
            jitter_percent=environment.integer("JOB_JITTER_PERCENT", 30),
            fail_percent=environment.integer("JOB_FAIL_PERCENT", 0),
            port=environment.integer("METRICS_PORT", 9091),
        )


class JobFailedError(Exception):
    """The job's own fault, on purpose: `JOB_FAIL_PERCENT`."""


class Worker:
    """`concurrency` slots over one pool."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = Pool(settings.url, settings.pool, "etl-worker")
        self._in_hand: set[Job] = set()
        self._connected = False
        self._finished = self._failed = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until asked to stop; then finish what is in hand, or give it back."""
        slots = [asyncio.create_task(self._slot(stop)) for _ in range(self._settings.concurrency)]
        await stop.wait()
        _, late = await asyncio.wait(slots, timeout=STOP_SECONDS)
        for job in tuple(self._in_hand):
            await self._give_back(job)
        for task in late:
            task.cancel()
        await self._pool.close()
        log.info("stopped: %d finished, %d failed", self._finished, self._failed)

    async def ready(self, _: web.Request) -> web.Response:
        """Ready once the database has answered: a worker without one adds nothing."""
        return web.Response(status=200 if self._connected else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        """The application's own metric names."""
        lines = [
            f'starforge_etl_snapshots_processed_total{{result="success"}} {self._finished}',
            f'starforge_etl_snapshots_failed_total{{error_type="DEMO"}} {self._failed}',
            f"starforge_etl_jobs_in_progress {len(self._in_hand)}",
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _slot(self, stop: asyncio.Event) -> None:
        pause = IDLE_POLL_SECONDS
        while not stop.is_set():
            try:
                worked = await self._one(stop)
                pause = IDLE_POLL_SECONDS
            except psycopg.Error as error:
                # A lost or refused connection: again, but not in a stampede.
                log.warning("database: %s", type(error).__name__)
                worked = False
                pause = min(pause * 2, 5.0)
            if not worked:
                try:
                    await asyncio.wait_for(stop.wait(), pause * random.uniform(0.5, 1.5))
                except TimeoutError:
                    continue

    async def _one(self, stop: asyncio.Event) -> bool:
        async with self._pool.connection() as connection:
            self._connected = True
            row = await (await connection.execute(statement("claim"))).fetchone()
            if row is None:
                return False
            job = Job(row[0], row[1])
            self._in_hand.add(job)
            if stop.is_set():
                return False  # claimed while the signal came: `run` gives it back
            try:
                await self._work(connection, job)
            except (JobFailedError, psycopg.Error) as error:
                self._failed += 1
                failed = error
            else:
                self._finished += 1
                self._in_hand.discard(job)
                return True
        await self._fail(job, failed)
        return True

    async def _work(self, connection: AsyncConnection[Any], job: Job) -> None:
        # The work itself, on the server, as a transformation in SQL would be.
        await connection.execute("SELECT pg_sleep(%s)", (self._seconds(),))
        if random.uniform(0, 100) < self._settings.fail_percent:
            raise JobFailedError
        await connection.execute(statement("finish"), {"id": job.id, "attempts": job.attempts})

    def _seconds(self) -> float:
        jitter = self._settings.jitter_percent / 100
        return self._settings.job_ms / 1000 * random.uniform(1 - jitter, 1 + jitter)

    async def _fail(self, job: Job, error: Exception) -> None:
        """On another connection: the one in use may be what broke."""
        delay = min(RETRY_BASE_SECONDS * 2 ** (job.attempts - 1), RETRY_MOST_SECONDS)
        async with self._pool.connection() as connection:
            await connection.execute(
                statement("fail"),
                {
                    "id": job.id,
                    "attempts": job.attempts,
                    "error": type(error).__name__,
                    "delay": delay * random.uniform(0.5, 1.5),
                },
            )
        self._in_hand.discard(job)

    async def _give_back(self, job: Job) -> None:
        """Best effort on a connection of its own: the pool's may be stuck."""
        try:
            async with await psycopg.AsyncConnection.connect(
                self._settings.url, autocommit=True, connect_timeout=2
            ) as connection:
                await connection.execute(
                    statement("give_back"), {"id": job.id, "attempts": job.attempts}
                )
        except psycopg.Error as error:
            log.warning("job %s not given back: %s", job.id, type(error).__name__)


async def main(stop: asyncio.Event) -> None:
    """Work, and answer probes meanwhile."""
    settings = Settings.read()
    worker = Worker(settings)
    routes = {"GET /readyz": worker.ready, "GET /metrics": worker.metrics}
    async with pod.serving(routes, settings.port):
        await worker.run(stop)


if __name__ == "__main__":
    pod.run(main)
