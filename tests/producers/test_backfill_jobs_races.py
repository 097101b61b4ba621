"""Operators that are killed, backfills that write their progress, and a person who pauses: what a
person paused stays so, everything else runs in the end (P4, P6)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import psycopg
import pytest
from tests.producers.nursery import nursery
from tests.producers.table import Hands, Operators, settled
from tests.producers.test_backfill_jobs import AUDIT, SCHEMA
from tests.thorough import THOROUGH

from starforge_backlog.decide.results import Resumed, ResumeOutcome

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1800)]

KILLS = 80 if THOROUGH else 24
BACKFILLS = 12
ROUNDS = 40 if THOROUGH else 12

# Each backfill stores its progress after a batch, whatever was written meanwhile.
PROGRESS = """
UPDATE backfill_jobs SET processed_count = processed_count + 1, last_checkpoint = '{}'
 WHERE job_id = 'x' || %s
"""
# A person halts one for good: it must never run again.
HALT = """
UPDATE backfill_jobs SET status = 'paused', owner = 'alice' WHERE job_id = 'halt' || %s
"""
ALICES = "owner = 'alice' AND status <> 'paused'"


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    with Hands.at(
        rows_url,
        SCHEMA,
        "DELETE FROM backfill_jobs",
        "INSERT INTO backfill_jobs (job_id, status)"
        f" SELECT 'x' || n, 'running' FROM generate_series(1, {BACKFILLS}) AS n",
        "INSERT INTO backfill_jobs (job_id, status)"
        f" SELECT 'halt' || n, 'running' FROM generate_series(1, {KILLS}) AS n",
    ) as person:
        yield person


async def test_two_policies_at_once(hands: Hands, operators: Operators) -> None:
    """Each backfill is paused by one of them, and resumed by that one alone."""
    pair = [operators.backfills(uid=uid, audit_table=AUDIT) for uid in ("first", "second")]
    everything = hands.one("SELECT count(*) FROM backfill_jobs")
    for _ in range(ROUNDS):
        got = await asyncio.gather(*(policy.pause() for policy in pair))
        while any(not one.complete for one in got):  # a row in the other one's hands
            got = await asyncio.gather(*(policy.write() for policy in pair))
        paused = "SELECT count(*) FROM backfill_jobs WHERE status = 'paused'"
        assert hands.one(paused) == everything
        left = await asyncio.gather(*(policy.resume() for policy in pair))
        assert {one.outcome for one in left} <= {ResumeOutcome.RESUMED, ResumeOutcome.PARTLY}
        for policy in pair:
            while policy.entry is not None:
                await policy.resume()
        assert hands.one("SELECT count(*) FROM backfill_jobs WHERE status <> 'running'") == 0


async def test_operators_killed_at_random(
    hands: Hands, operators: Operators, rows_url: str
) -> None:
    chance = random.Random(17)
    over = asyncio.Event()
    beside = asyncio.create_task(_progress(rows_url, over))
    successor = operators.backfills(audit_table=AUDIT).pausable
    outcomes: list[ResumeOutcome] = []
    async with nursery("tests.producers.lives:by_backfills", rows_url, AUDIT) as births:
        for kill in range(KILLS):
            person = asyncio.create_task(_halt_soon(rows_url, chance.uniform(0, 0.06), kill + 1))
            token = await births.live_and_be_killed(f"{kill}", chance)
            await person
            await settled(hands, 1)
            while True:
                left = await successor.resume(token=token, version="", previous=None)
                if isinstance(left, Resumed) and left.outcome is not ResumeOutcome.PARTLY:
                    break
            outcomes.append(left.outcome)
            stuck = "SELECT count(*) FROM backfill_jobs WHERE status <> 'running' AND owner IS NULL"
            assert hands.one(stuck) == 0, "all of ours run again"
            again = (
                "SELECT count(*) FROM backfill_jobs WHERE status <> 'paused' AND owner = 'alice'"
            )
            assert hands.one(again) == 0, "what a person halted stays so"
    over.set()
    await beside
    assert outcomes.count(ResumeOutcome.RESUMED) + outcomes.count(ResumeOutcome.CHANGED_SINCE) > 5
    assert ResumeOutcome.NOT_PAUSED in outcomes
    assert hands.one("SELECT count(*) FROM backfill_jobs WHERE owner = 'alice'") == KILLS
    assert hands.one("SELECT min(processed_count) FROM backfill_jobs WHERE owner IS NULL") > 0


async def _progress(url: str, over: asyncio.Event) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
        while not over.is_set():
            for number in range(1, BACKFILLS + 1):
                await session.execute(PROGRESS, (f"{number}",))
            await asyncio.sleep(0.005)


async def _halt_soon(url: str, delay: float, number: int) -> None:
    await asyncio.sleep(delay)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
        await session.execute(HALT, (f"{number}",))
