"""The second stack of the demo, as the recorder sees it: BullMQ on Redis beside PostgreSQL."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import redis

from demo.recording import Backfill, Jobs

SNAPSHOTS, BACKFILL = "etl-snapshots", "etl-backfill"

BACKFILL_JOBS = 3_000
"""More than the backfill's worker can do within the story: it is busy until it is stopped."""

ANSWER_SECONDS = 2.0
"""Time limit of one read."""


@dataclass(frozen=True, slots=True)
class QueuesView:
    """One read of both queues, without what is done: that is in PostgreSQL."""

    waiting: int
    running: int
    failed: int
    oldest_seconds: float
    backfill_waiting: int
    backfill_running: int
    backfill_stopped: bool

    def jobs(self, done: int, repeated: int) -> Jobs:
        """With what the workers noted in the database."""
        return Jobs(
            waiting=self.waiting,
            running=self.running,
            done=done,
            failed=self.failed,
            oldest_seconds=self.oldest_seconds,
            repeated=repeated,
        )

    def backfill(self, done: int) -> Backfill:
        """The same for the background queue."""
        return Backfill(
            waiting=self.backfill_waiting,
            running=self.backfill_running,
            done=done,
            stopped=self.backfill_stopped,
        )


class QueuesEye:
    """A connection of the demo's own; counts with BullMQ's keys, not with the operator's code."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=ANSWER_SECONDS
        )

    def read(self) -> QueuesView:
        """One round trip, and one more for the oldest job."""
        with self._redis.pipeline(transaction=True) as pipe:
            for name in (SNAPSHOTS, BACKFILL):
                pipe.llen(_key(name, "wait"))
                pipe.llen(_key(name, "active"))
                pipe.zcard(_key(name, "delayed"))
            pipe.zcard(_key(SNAPSHOTS, "failed"))
            pipe.hget(_key(BACKFILL, "meta"), "concurrency")
            pipe.lindex(_key(SNAPSHOTS, "wait"), -1)
            found: list[Any] = pipe.execute()
        waiting, running, delayed, back_waiting, back_running, back_delayed = found[:6]
        return QueuesView(
            waiting=waiting + delayed,
            running=running,
            failed=found[6],
            oldest_seconds=self._age(found[8]),
            backfill_waiting=back_waiting + back_delayed,
            backfill_running=back_running,
            backfill_stopped=found[7] == "00",  # as only the operator's brake writes it
        )

    def close(self) -> None:
        """Give the connection back."""
        self._redis.close()

    def _age(self, job: str | None) -> float:
        if job is None:
            return 0.0
        made = cast("str | None", self._redis.hget(_key(SNAPSHOTS, job), "timestamp"))
        return max(0.0, time.time() - int(made) / 1000) if made else 0.0


def _key(queue: str, suffix: str) -> str:
    return f"bull:{queue}:{suffix}"
