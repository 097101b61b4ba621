"""Operators that are killed, workers that claim, and a person who reschedules, all at once: every
job is worked on exactly once, and every due time is what its owner made it (P4, P5, P6)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from tests.producers.nursery import nursery
from tests.producers.table import Hands, Operators, settled
from tests.queues.schemas import MODEL
from tests.thorough import THOROUGH

from starforge_backlog.decide.results import Resumed, ResumeOutcome
from starforge_backlog.producers.protocol import Pausable

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1800)]

KILLS = 80 if THOROUGH else 24
BATCH = 40  # small, so that a kill meets a pause or a release half way
JOBS = 1_200
SHARE = JOBS // (KILLS + 1)
"""Jobs that the workers may do before and after each kill: some are left on a slow machine too."""

# What is due when is kept in the payload by whoever decides it.
TRUTH = "(payload ->> 'due')::timestamptz"
FILL = f"""
INSERT INTO queue_jobs (type, run_after, payload)
SELECT (ARRAY['backfill_range', 'process_snapshot'])[1 + n % 2], due, jsonb_build_object('due', due)
  FROM (SELECT n, now() - n * interval '17.000123 s' AS due
          FROM generate_series(1, {JOBS}) AS n) AS jobs
"""
DONE = "CREATE TABLE jobs_done (job uuid NOT NULL, due timestamptz NOT NULL)"
# As workers of such tables do: claim, work, and say so in one transaction.
WORK = """
WITH claimed AS (
    SELECT id FROM queue_jobs WHERE status = 'pending' AND run_after <= now()
     ORDER BY run_after LIMIT 1 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE queue_jobs j SET status = 'done', updated_at = now() FROM claimed c WHERE j.id = c.id
    RETURNING j.id, j.run_after
)
INSERT INTO jobs_done SELECT id, run_after FROM moved RETURNING job
"""
# A person brings a job forward, held or not.
RESCHEDULE = """
WITH chosen AS (
    SELECT id FROM queue_jobs WHERE status = 'pending' AND payload ->> 'by' IS NULL
     ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE queue_jobs j
   SET run_after = '2026-01-01', payload = jsonb_build_object('due', '2026-01-01', 'by', 'alice')
  FROM chosen c WHERE j.id = c.id
"""


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    with Hands.at(rows_url, *MODEL, DONE, FILL) as person:
        yield person


@dataclass
class Allowance:
    """How much the workers may have done by now."""

    left: int = SHARE

    async def work(self, url: str, over: asyncio.Event, pause: float) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
            while not over.is_set():
                if self.left > 0:
                    self.left -= 1
                    await session.execute(WORK)
                await asyncio.sleep(pause)


async def _reschedule(url: str, over: asyncio.Event) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
        while not over.is_set():
            await session.execute(RESCHEDULE)
            await asyncio.sleep(0.02)


async def _release(successor: Pausable, announced: str) -> ResumeOutcome:
    """Knows the intent alone, as a status would that was written before the pause."""
    token, _, plan = announced.partition("|")
    while True:
        left = await successor.resume(token=token, version="", previous=plan)
        if isinstance(left, Resumed) and left.outcome is not ResumeOutcome.PARTLY:
            return left.outcome


async def test_operators_killed_at_random(
    hands: Hands, operators: Operators, rows_url: str
) -> None:
    """Two policies, one of which lives in processes that die; workers and a person beside them."""
    chance = random.Random(13)
    over = asyncio.Event()
    allowance = Allowance()
    beside = [asyncio.create_task(allowance.work(rows_url, over, 0.01)) for _ in range(2)]
    beside.append(asyncio.create_task(_reschedule(rows_url, over)))
    successor = operators.job_types(uid="mortal").pausable
    other = operators.job_types(uid="other", batch=BATCH)
    outcomes: list[ResumeOutcome] = []
    intents: list[str] = []
    given = (rows_url, "mortal", "backfill_range", f"{BATCH}")
    async with nursery("tests.producers.lives:by_job_types", *given) as births:
        for kill in range(KILLS):
            if kill % 2:  # the other one holds all of it, or the mortal one finds it free
                await other.pause()
            intents.append(await births.live_and_be_killed(f"{kill}", chance))
            outcomes.append(await _release(successor, intents[-1]))
            while other.entry and (await other.resume()).outcome is ResumeOutcome.PARTLY:
                pass
    await settled(hands, 2)
    for intent in intents:
        await _release(successor, intent)  # what it did after our last read
    over.set()
    await asyncio.gather(*beside)
    assert outcomes.count(ResumeOutcome.RESUMED) > KILLS / 10, "the kills met no pause"
    wrong = f"SELECT count(*) FROM queue_jobs WHERE run_after IS DISTINCT FROM {TRUTH}"
    assert hands.one(wrong) == 0, "every due time is what its owner made it"
    early = f"SELECT count(*) FROM jobs_done JOIN queue_jobs ON id = job WHERE due <> {TRUTH}"
    assert hands.one(early) == 0
    done = hands.one("SELECT count(*) FROM jobs_done")
    assert 0 < done < JOBS, "workers worked all the time"
    assert hands.one("SELECT count(DISTINCT job) FROM jobs_done") == done, "none twice"
    assert hands.one("SELECT count(*) FROM queue_jobs WHERE status = 'pending'") == JOBS - done
    assert hands.one("SELECT count(*) FROM queue_jobs WHERE payload ->> 'by' = 'alice'") > 20
