"""Operators that set and lift the brake of one BullMQ queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.node.bull import Version
from tests.node.handles import BullWorker

from starforge_backlog.api.secret import SecretValue
from starforge_backlog.decide.results import (
    Paused,
    Resumed,
)
from starforge_backlog.producers.brake import BrakeProducer
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
MARK = "starforge-backlog"
BRAKE = "00"  # as no setGlobalConcurrency() writes it
NEW: tuple[Version, ...] = (5, 6)
NOWHERE = SecretValue.model_validate({"secretKeyRef": {"name": "redis", "key": "url"}})

Brake = Callable[..., BrakeProducer]


async def paused(producer: BrakeProducer, token: str = "ns/etl/1") -> Paused:
    got = await producer.pause(owner="ns/etl", token=token, at=AT, why="storm")
    assert isinstance(got, Paused), got
    return got


async def resumed(producer: BrakeProducer, after: Paused, token: str = "ns/etl/1") -> Resumed:
    got = await producer.resume(token=token, version=after.version, previous=after.previous)
    assert isinstance(got, Resumed), got
    return got


async def seen(producer: BrakeProducer) -> ProducerReading:
    got = await producer.read()
    assert isinstance(got, Known), got
    return got.value


def assert_ours(now: ProducerReading, held: Paused) -> None:
    assert (now.value, now.token, now.version) == (FlagValue.PAUSED, "ns/etl/1", held.version)


def meta(hands: Any) -> dict[str, str]:
    found: dict[str, str] = hands.hgetall("bull:etl-backfill:meta")
    return {
        key: value for key, value in found.items() if key not in {"version", "opts.maxLenEvents"}
    }


async def until(come: Callable[[], object], within: float = 60.0) -> None:
    """Bounded, and without blocking the loop."""
    async with asyncio.timeout(within):
        while True:
            if come():
                return
            await asyncio.sleep(0.01)


# Seconds in which the first job starts after a release, also on a busy machine …
SOONEST = 30.0
# … and after which a worker that sleeps polls again without the marker.
SLEEPS: dict[str, Any] = {"drainDelay": 90}


async def first_start(worker: BullWorker, since: float, within: float = 60.0) -> float:
    """Seconds from `since` (Unix time) to the first job that started after it."""
    while time.time() < since + within:
        starts = [run["start"] / 1000 for run in worker.ran() if run["start"] / 1000 >= since]
        if starts:
            return float(min(starts) - since)
        await asyncio.sleep(0.01)
    return within
