"""The page's own receiver as a process, two operators, and SIGKILL at random points (P4, P6)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
from tests.producers.nursery import nursery
from tests.producers.objects import AT, OWNER
from tests.producers.webhook_api import FakeApi, producer_of, served
from tests.producers.webhook_page import running
from tests.thorough import THOROUGH

from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.http.caller import HttpCaller
from starforge_backlog.producers.webhook import WebhookProducer
from starforge_backlog.snapshot import Known, Unknown, Why

pytestmark = pytest.mark.timeout(1800)

ROUNDS: Final = 40 if THOROUGH else 12
KILLS: Final = 80 if THOROUGH else 24


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of the receiver, running."""
    with running() as address:
        yield address


@pytest.fixture
async def caller() -> AsyncIterator[HttpCaller]:
    caller = HttpCaller()
    yield caller
    await caller.close()


async def is_paused(producer: WebhookProducer) -> bool:
    got = await producer.read()
    assert isinstance(got, Known), got
    return got.value.value == "Paused"


async def test_the_receiver_of_the_page(caller: HttpCaller, url: str) -> None:
    producer = producer_of(caller, url, seconds=30)
    held = await producer.pause(owner=OWNER, token="uid/partner/1", at=AT)
    assert held == Paused(PauseOutcome.PAUSED, "uid/partner/1")
    other = await producer.pause(owner=OWNER, token="uid/partner/2", at=AT)
    assert isinstance(other, Paused)
    assert other.outcome is PauseOutcome.ALREADY_PAUSED
    stray = await producer.resume(token="uid/partner/2", version="", previous=None)
    assert isinstance(stray, Resumed)
    assert stray.outcome is ResumeOutcome.NOT_OURS
    left = await producer.resume(token="uid/partner/1", version=held.version, previous=None)
    assert left == Resumed(ResumeOutcome.RESUMED)
    assert not await is_paused(producer)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_receiver_refuses_another_key(
    caller: HttpCaller, url: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.producers.webhook_api.SECRET", "another")
    producer = producer_of(caller, url, seconds=30, readable=method == "GET")
    got = await producer.pause(owner=OWNER, token="uid/partner/1", at=AT)
    assert isinstance(got, Unknown)
    assert got.why is Why.WRONG_PASSWORD


async def test_two_operators_at_once(url: str) -> None:
    callers = HttpCaller(), HttpCaller()
    pair = [producer_of(caller, url, seconds=30) for caller in callers]
    for _ in range(ROUNDS):
        got = await asyncio.gather(
            *(p.pause(owner=OWNER, token=f"t{n}", at=AT) for n, p in enumerate(pair))
        )
        outcomes = [g.outcome if isinstance(g, Paused) else g.why for g in got]
        assert sorted(outcomes) == [PauseOutcome.ALREADY_PAUSED, PauseOutcome.PAUSED]
        winner = outcomes.index(PauseOutcome.PAUSED)
        for n in (1 - winner, winner):
            left = await pair[n].resume(token=f"t{n}", version=f"t{n}", previous=None)
            assert isinstance(left, Resumed)
            assert (left.outcome is ResumeOutcome.RESUMED) == (n == winner)
        assert not await is_paused(pair[0])
    for caller in callers:
        await caller.close()


async def test_operators_killed_at_random(caller: HttpCaller, url: str) -> None:
    """The token in status is all that the next one has."""
    successor = producer_of(caller, url, seconds=30)
    chance = random.Random(3)
    held = 0
    async with nursery("tests.producers.lives:by_webhook", url) as forks:
        for kill in range(KILLS):
            token = await forks.live_and_be_killed(f"t{kill}", chance)
            quiet = 0
            while quiet < 3:
                left = await successor.resume(token=token, version="", previous=None)
                assert isinstance(left, Resumed), left
                assert left.outcome in {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED}
                held += left.outcome is ResumeOutcome.RESUMED
                quiet = 0 if left.outcome is ResumeOutcome.RESUMED else quiet + 1
                await asyncio.sleep(0.003)
            assert not await is_paused(successor)
    assert 0 < held < KILLS, "the kills met one side of the call only"


@pytest.mark.parametrize("point", [1, 2, 3, 4])
async def test_a_person_pauses_at_each_point(caller: HttpCaller, point: int) -> None:
    """Before read and call of our pause (1, 2) and of our resume (3, 4): it stays theirs."""
    async with served(FakeApi()) as api:
        api.by_hand[point] = "alice"
        producer = producer_of(caller, api.url)
        held = await producer.pause(owner=OWNER, token="t", at=AT)
        assert isinstance(held, Paused)
        ours = held.outcome is PauseOutcome.PAUSED
        assert ours == (point > 2)
        left = await producer.resume(token="t", version=held.version, previous=None)
        assert isinstance(left, Resumed)
        assert left.outcome is ResumeOutcome.NOT_OURS
        assert (api.paused, api.owner) == (True, "alice")


async def test_a_person_pauses_an_api_that_keeps_no_owner(caller: HttpCaller) -> None:
    """What is seen before our call is theirs. Afterwards it is not known, as the page says."""
    async with served(FakeApi(keeps_owner=False)) as api:
        api.by_hand[1] = None
        producer = producer_of(caller, api.url)
        held = await producer.pause(owner=OWNER, token="t", at=AT)
        assert isinstance(held, Paused)
        assert held.outcome is PauseOutcome.ALREADY_PAUSED
        left = await producer.resume(token="t", version=held.version, previous=None)
        assert isinstance(left, Resumed)
        assert left.outcome is ResumeOutcome.NOT_OURS
        assert (api.paused, len(api.posts)) == (True, 0)
