"""One question for all who ask it at the same moment: how long its answer lasts, what ends it, and
what does not. That nobody's end is another's (P11) is tried in test_shared_tasks.py."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from starforge_backlog.connections.shared_answer import SharedAnswer

MAX_AGE = timedelta(seconds=10)


class Refused(Exception):
    """An expected fault."""


@dataclass
class Source:
    """Answers with a number of its own each time, when it is asked to; its clock is ours."""

    now: float = 0.0
    takes: float = 0.0
    fault: Exception | None = None
    asked: int = 0
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers.set()

    async def ask(self) -> int:
        self.asked += 1
        number = self.asked
        await self.answers.wait()
        self.now += self.takes
        if self.fault is not None:
            raise self.fault
        return number

    def shared(
        self, *, faults: tuple[type[Exception], ...] = (), from_end: bool = False
    ) -> SharedAnswer[int]:
        return SharedAnswer(
            self.ask, MAX_AGE, timer=lambda: self.now, faults=faults, from_end=from_end
        )


async def started(shared: SharedAnswer[int]) -> asyncio.Task[int]:
    task = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_a_hundred_askers_cost_one_question() -> None:
    source = Source()
    shared = source.shared()
    assert await asyncio.gather(*(shared.get() for _ in range(100))) == [1] * 100
    assert source.asked == 1


@pytest.mark.parametrize(
    ("from_end", "at", "expected"),
    [(False, 10, 1), (False, 10.1, 2), (True, 13, 1), (True, 13.1, 2)],
    ids=["young", "old", "young from its end", "old from its end"],
)
async def test_an_answer_lasts_for_its_age(from_end: bool, at: float, expected: int) -> None:
    source = Source(takes=3)
    shared = source.shared(from_end=from_end)
    await shared.get()
    source.now = at
    assert await shared.get() == expected


async def test_a_caller_has_a_bound_of_its_own() -> None:
    source = Source()
    shared = source.shared()
    await shared.get()
    source.now = 5
    assert await shared.get(timedelta(seconds=5)) == 1
    assert await shared.get(timedelta(0)) == 2
    source.now = 60
    assert await shared.get(timedelta.max) == 2


async def test_who_comes_while_it_is_under_way_gets_its_answer_however_long_it_takes() -> None:
    source = Source()
    shared = source.shared()
    source.answers.clear()
    first = await started(shared)
    source.now = 100
    assert shared.under_way
    assert shared.asked_at == 0
    second = await started(shared)
    source.answers.set()
    assert (await first, await second) == (1, 1)
    assert not shared.under_way


@pytest.mark.parametrize("since", [None, 2.0], ids=["from now", "from a moment"])
async def test_an_expensive_answer_lasts_longer(since: float | None) -> None:
    source = Source(now=2)
    shared = source.shared()
    await shared.get()
    shared.rest(30, since=since)
    source.now = 31.9
    assert await shared.get(timedelta(0)) == 1
    source.now = 32
    assert await shared.get(timedelta(0)) == 2


async def test_what_was_expensive_is_not_repeated_because_of_a_bug() -> None:
    source = Source(fault=KeyError("odd"))
    shared = source.shared()
    with pytest.raises(KeyError):
        await shared.get()
    shared.rest(30)
    source.now = 20
    with pytest.raises(KeyError):
        await shared.get()
    assert source.asked == 1
    source.now, source.fault = 30, None
    assert await shared.get() == 2


async def test_what_was_written_makes_every_answer_old_also_that_of_a_question_under_way() -> None:
    source = Source()
    shared = source.shared()
    await shared.get()
    shared.forget()
    source.answers.clear()
    before = await started(shared)
    shared.forget()
    after = await started(shared)
    source.answers.set()
    assert (await before, await after) == (2, 3)
    assert await shared.get() == 3, "the later question is the one that is kept"


async def test_an_answer_that_expires_does_not_take_a_question_under_way_with_it() -> None:
    source = Source()
    shared = source.shared()
    await shared.get()
    shared.rest(60)
    shared.expire()
    source.answers.clear()
    under_way = await started(shared)
    shared.expire()
    joined = await started(shared)
    source.answers.set()
    assert (await under_way, await joined) == (2, 2)


async def test_an_exception_is_raised_in_all_who_wait_and_is_no_answer() -> None:
    source = Source(fault=ValueError("a bug"))
    shared = source.shared(faults=(Refused,))
    found = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
    assert [str(one) for one in found] == ["a bug"] * 3
    source.fault = None
    assert await shared.get() == 2


async def test_an_expected_fault_is_an_answer_while_it_is_young() -> None:
    source = Source(fault=Refused())
    shared = source.shared(faults=(Refused,))
    for _ in range(3):
        with pytest.raises(Refused):
            await shared.get()
    assert source.asked == 1
    source.fault, source.now = None, 11
    assert await shared.get() == 2


async def test_it_can_be_waited_for_without_asking() -> None:
    source = Source()
    shared = source.shared()
    await shared.settle()
    assert source.asked == 0
    source.answers.clear()
    task = await started(shared)
    settled = asyncio.create_task(shared.settle())
    await asyncio.sleep(0)
    assert not settled.done()
    source.answers.set()
    await settled
    assert await task == 1
