"""Readings of one flag are shared for a moment, and never across a write of ours."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.shared import SharedProducer
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Flag:
    """Answers when it is asked to."""

    def __init__(self) -> None:
        self.value = FlagValue.RUNNING
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self) -> Reading[ProducerReading]:
        self.reads += 1
        seen = self.value
        await self.answers.wait()
        return Known(ProducerReading(seen, None, "1"), NOW)

    async def where(self) -> None:
        return None

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        self.value = FlagValue.PAUSED
        return Paused(PauseOutcome.PAUSED, "2")

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        self.value = FlagValue.RUNNING
        return Resumed(ResumeOutcome.RESUMED)


async def value(shared: SharedProducer) -> FlagValue:
    reading = await shared.read()
    assert isinstance(reading, Known)
    return reading.value.value


async def test_a_hundred_policies_cost_one_statement() -> None:
    flag = Flag()
    shared = SharedProducer(flag, timedelta(seconds=1))
    assert await asyncio.gather(*(value(shared) for _ in range(100))) == [FlagValue.RUNNING] * 100
    assert flag.reads == 1


async def test_an_old_reading_is_not_shared() -> None:
    flag = Flag()
    shared = SharedProducer(flag, timedelta(0))
    await value(shared)
    await asyncio.sleep(0.01)
    await value(shared)
    assert flag.reads == 2


async def test_a_write_of_ours_is_seen_at_once_also_past_a_reading_under_way() -> None:
    flag = Flag()
    shared = SharedProducer(flag, timedelta(hours=1))
    flag.answers.clear()
    under_way = asyncio.create_task(value(shared))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await shared.pause(owner="etl", token="t", at=NOW)
    flag.answers.set()
    assert await under_way is FlagValue.RUNNING
    assert await value(shared) is FlagValue.PAUSED
    await shared.resume(token="t", version="2", previous=None)
    assert await value(shared) is FlagValue.RUNNING


async def test_a_pass_that_gives_up_leaves_the_reading_to_the_others() -> None:
    flag = Flag()
    shared = SharedProducer(flag, timedelta(hours=1))
    flag.answers.clear()
    hasty = asyncio.create_task(value(shared))
    patient = asyncio.create_task(value(shared))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.sleep(0)
    flag.answers.set()
    assert await patient is FlagValue.RUNNING
    assert flag.reads == 1
