"""Two operators, a person, and SIGKILL, at the same time: the row ends as it began (P4, P6)."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import pytest
from tests.producers.conftest import RUNBOOK, Human, Operator
from tests.producers.nursery import nursery
from tests.thorough import THOROUGH

from local.postgres import PostgresServer
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import Unknown, Why

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)
ROUNDS = 40 if THOROUGH else 12
KILLS = 100 if THOROUGH else 25


async def test_two_operators_at_once(human: Human, operator: Operator) -> None:
    """Exactly one pauses; the other sees a lock or a pause, and neither releases the other's."""
    pair = (operator(), operator())
    for _ in range(ROUNDS):
        got = await asyncio.gather(
            *(p.pause(owner="ns/etl", token=f"t{n}", at=AT) for n, p in enumerate(pair))
        )
        outcomes = [g.outcome if isinstance(g, Paused) else g.why for g in got]
        assert outcomes.count(PauseOutcome.PAUSED) == 1
        assert set(outcomes) <= {PauseOutcome.PAUSED, PauseOutcome.ALREADY_PAUSED, Why.LOCK_BUSY}
        winner = outcomes.index(PauseOutcome.PAUSED)
        loser = 1 - winner
        held = got[winner]
        assert isinstance(held, Paused)
        stray = await pair[loser].resume(token=f"t{loser}", version=held.version, previous=None)
        assert isinstance(stray, Resumed)
        assert stray.outcome is ResumeOutcome.NOT_OURS
        left = await asyncio.gather(
            *(p.resume(token=f"t{winner}", version=held.version, previous=None) for p in pair)
        )
        ended = [x.outcome if isinstance(x, Resumed) else x.why for x in left]
        assert ended.count(ResumeOutcome.RESUMED) == 1
        assert set(ended) <= {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED, Why.LOCK_BUSY}
        assert human.read() == {}


@pytest.mark.parametrize(
    ("write", "outcome", "after"),
    [
        # Paused between our snapshot and our lock: theirs.
        (RUNBOOK, PauseOutcome.ALREADY_PAUSED, {"ingest_paused": True}),
        # Another key of the same row: kept, and our pause goes on top of it.
        (
            """UPDATE feature_flags SET data = '{"other": 1}'""",
            PauseOutcome.PAUSED,
            {"other": 1},
        ),
    ],
)
async def test_a_write_between_our_snapshot_and_our_lock(
    human: Human,
    operator: Operator,
    postgres_server: PostgresServer,
    write: str,
    outcome: PauseOutcome,
    after: object,
) -> None:
    """A row policy that waits until the gate is opened holds our statement in that moment."""
    name = human.session.info.dbname
    role = f"slow_{name}"
    human.run(
        "CREATE TABLE gate (closed bool); INSERT INTO gate VALUES (true);"
        f"CREATE ROLE {role} LOGIN PASSWORD 'planted'; GRANT ALL ON feature_flags, gate TO {role};"
        "CREATE FUNCTION doze() RETURNS bool LANGUAGE plpgsql VOLATILE AS $$ BEGIN"
        " WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.1); END LOOP;"
        " RETURN true; END $$;"
        "ALTER TABLE feature_flags ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY doze ON feature_flags USING (doze())"
    )
    producer = operator(url=postgres_server.url(role, name, "planted"))
    pausing = asyncio.create_task(producer.pause(owner="ns/etl", token="t1", at=AT))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event = 'PgSleep'"
    async with asyncio.timeout(60):
        while True:
            if human.session.execute(asleep, (role,)).fetchone() == (1,):
                break
            await asyncio.sleep(0.01)
    human.run(write)
    human.run("DELETE FROM gate")
    got = await pausing
    assert isinstance(got, Paused)
    assert got.outcome is outcome
    left = await producer.resume(token="t1", version=got.version, previous=got.previous)
    assert isinstance(left, Resumed)
    assert (left.outcome is ResumeOutcome.RESUMED) == (outcome is PauseOutcome.PAUSED)
    assert human.read() == after
    human.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_backends_terminated_at_random(human: Human, operator: Operator) -> None:
    """An Unknown may have happened or not; the same token again settles it."""
    human.write({"ingest_paused": False, "other": 1})
    producer = operator()
    chance = random.Random(7)
    for round_ in range(ROUNDS):
        token = f"t{round_}"
        terminator = asyncio.create_task(_terminate_soon(human, chance.uniform(0, 0.004)))
        got: Paused | Unknown = await producer.pause(owner="ns/etl", token=token, at=AT)
        await terminator
        while isinstance(got, Unknown):
            got = await producer.pause(owner="ns/etl", token=token, at=AT)
        assert got.outcome in {PauseOutcome.PAUSED, PauseOutcome.ALREADY_OURS}
        assert human.read()["ingest_paused"] is True
        terminator = asyncio.create_task(_terminate_soon(human, chance.uniform(0, 0.004)))
        left: Resumed | Unknown = Unknown(Why.NOT_YET, "", AT)
        while isinstance(left, Unknown):
            left = await producer.resume(token=token, version=got.version, previous=got.previous)
        await terminator
        assert left.outcome in {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED}
        assert human.read() == {"ingest_paused": False, "other": 1}


async def _terminate_soon(human: Human, delay: float) -> None:
    await asyncio.sleep(delay)
    human.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'starforge-backlog' AND datname = current_database()"
    )


async def test_operators_killed_at_random(human: Human, operator: Operator, flag_url: str) -> None:
    """SIGKILL between any two instructions; the token in status is all that the next one has."""
    human.write({"ingest_paused": False, "other": 1})
    chance = random.Random(11)
    successor = operator()
    held = 0
    async with nursery("tests.producers.lives:by_feature_flag", flag_url) as forks:
        for kill in range(KILLS):
            token = await forks.live_and_be_killed(f"t{kill}", chance)
            left: Resumed | Unknown = Unknown(Why.NOT_YET, "", AT)
            while isinstance(left, Unknown):  # the dead one's backend may still hold the row
                left = await successor.resume(token=token, version="", previous=None)
            held += left.outcome is ResumeOutcome.RESUMED
            assert left.outcome in {ResumeOutcome.RESUMED, ResumeOutcome.NOT_PAUSED}
            await _settled(human)
            if human.read()["ingest_paused"]:  # sent before the kill, carried out after our read
                await successor.resume(token=token, version="", previous=None)
            assert human.read() == {"ingest_paused": False, "other": 1}
    assert 0 < held < KILLS, "the kills met one side of the write only"


async def _settled(human: Human) -> None:
    """Until the dead operator's backend has noticed that it is alone."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'starforge-backlog'"
        " AND datname = current_database()"
    )
    while True:
        row = human.session.execute(query.encode()).fetchone()
        assert row is not None
        if row[0] <= 1:  # the successor's own
            return
        await asyncio.sleep(0.002)
