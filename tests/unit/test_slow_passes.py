"""Passes that waited for a source that hangs do not go on in a crowd."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from starforge_backlog.slow_passes import APART_SECONDS, LONGEST_PART, SLOW_SECONDS, SlowPassPacer

INTERVAL = timedelta(seconds=15)


@dataclass
class Time:
    """Stands still, and notes who sleeps until when."""

    at: float = 1000.0
    ends: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.ends.append(self.at + seconds)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pacer(time: Time) -> SlowPassPacer:
    return SlowPassPacer(now=time.now, sleep=time.sleep)


async def test_who_was_quick_goes_on_at_once_even_beside_a_crowd(
    pacer: SlowPassPacer, time: Time
) -> None:
    for _ in range(20):
        await pacer.wait_turn(time.at - 5, INTERVAL)
    waiting = len(time.ends)
    await pacer.wait_turn(time.at - SLOW_SECONDS / 2, INTERVAL)
    assert len(time.ends) == waiting


async def test_who_was_slow_goes_on_one_after_the_other(pacer: SlowPassPacer, time: Time) -> None:
    for _ in range(20):
        await pacer.wait_turn(time.at - 5, INTERVAL)
    # The first does not wait.
    assert time.ends == pytest.approx([time.at + n * APART_SECONDS for n in range(1, 20)])


async def test_later_there_is_nobody_to_wait_for(pacer: SlowPassPacer, time: Time) -> None:
    for _ in range(20):
        await pacer.wait_turn(time.at - 5, INTERVAL)
    time.ends.clear()
    time.at += 20 * APART_SECONDS
    await pacer.wait_turn(time.at - 5, INTERVAL)
    assert time.ends == []


async def test_nobody_waits_until_its_next_pass(pacer: SlowPassPacer, time: Time) -> None:
    short = timedelta(seconds=2)
    for _ in range(200):
        await pacer.wait_turn(time.at - 1, short)
    assert max(time.ends) <= time.at + 2 * LONGEST_PART


async def test_in_the_real_loop() -> None:
    pacer, order = SlowPassPacer(), list[str]()

    async def one(name: str, took: float) -> None:
        await pacer.wait_turn(pacer.now() - took, INTERVAL)
        order.append(name)

    await asyncio.gather(one("slow 1", 1), one("slow 2", 1), one("slow 3", 1), one("quick", 0))
    assert order == ["slow 1", "quick", "slow 2", "slow 3"]
