"""The rules and the table together: a pause of job types from pass to pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.producers.held_jobs import ALL, HELD, JOBS
from tests.producers.passes import Loop
from tests.producers.table import AT, Hands, Operators
from tests.queues.schemas import MODEL

from starforge_backlog.api.status import PauseState
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.decide.results import Resumed, ResumeOutcome

pytestmark = pytest.mark.postgres

NEW = "INSERT INTO queue_jobs (type) VALUES ('backfill_range')"


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    with Hands.at(rows_url, *MODEL, JOBS) as person:
        yield person


def loop(operators: Operators, batch: int = 2_000) -> Loop:
    return Loop(operators.job_types(batch=batch).table, "jobTypes")


async def test_held_quiet_swept_and_released(hands: Hands, operators: Operators) -> None:
    before = hands.rows(ALL)
    policy = loop(operators)
    assert await policy.run(wanted=False) == ()
    assert [type(a) for a in await policy.run(wanted=True)] == [Pause]
    assert (policy.state, hands.one(HELD)) == (PauseState.HELD, 24)
    held = policy.status
    for _ in range(3):
        assert await policy.run(wanted=True) == (), "nothing to do, nothing to write"
    assert policy.status == held
    hands.run(NEW)
    (again,) = await policy.run(wanted=True)
    assert isinstance(again, Pause)
    assert again.again, "no news to people"
    assert hands.one(HELD) == 25
    assert await policy.run(wanted=True) == ()
    assert [type(a) for a in await policy.run(wanted=False)] == [Resume]
    assert policy.entry is None
    assert hands.one(HELD) == 0
    assert await policy.run(wanted=False) == ()
    after = hands.rows(ALL)
    assert (set(before) <= set(after), len(after)) == (True, len(before) + 1)


async def test_in_parts(
    hands: Hands, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starforge_backlog.producers.job_types_table.BATCHES_FOR", AT - AT)
    before = hands.rows(ALL)
    policy = loop(operators, batch=10)
    for held in (10, 20, 24):
        await policy.run(wanted=True)
        assert hands.one(HELD) == held
    assert await policy.run(wanted=True) == ()
    await policy.run(wanted=False)
    assert (policy.state, hands.one(HELD)) == (PauseState.HELD, 14)
    await policy.run(wanted=True)  # it is bad again before the release was done
    assert hands.one(HELD) == 24
    for _ in range(3):
        await policy.run(wanted=False)
    assert policy.entry is None
    assert hands.rows(ALL) == before


@pytest.mark.parametrize("killed", ["act", "status"])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("deleted", [True, False])
async def test_killed_in_the_middle(
    hands: Hands, operators: Operators, killed: str, wanted: bool, deleted: bool
) -> None:
    before = hands.rows(ALL)
    policy = loop(operators)
    await policy.run(wanted=True, killed=killed)
    assert policy.state is PauseState.INTENDED
    await policy.run(wanted=wanted)
    assert hands.one(HELD) == (24 if wanted else 0)
    await policy.run(wanted=False, killed=killed)
    if deleted:
        await policy.delete()
    else:
        await policy.run(wanted=False)
    assert (policy.entry, hands.rows(ALL)) == (None, before)


async def test_nothing_to_hold_is_no_override(hands: Hands, operators: Operators) -> None:
    hands.run("DELETE FROM queue_jobs")
    policy = loop(operators)
    await policy.run(wanted=True)
    assert policy.state is PauseState.HELD
    assert await policy.run(wanted=True) == ()
    hands.run(NEW)
    await policy.run(wanted=True)
    assert (policy.state, hands.one(HELD)) == (PauseState.HELD, 1)
    await policy.delete()
    assert hands.one(HELD) == 0


async def test_a_person_who_lifts_the_hold(hands: Hands, operators: Operators) -> None:
    policy = loop(operators)
    await policy.run(wanted=True)
    hands.run("UPDATE queue_jobs SET run_after = now() WHERE run_after > '2100-01-01'")
    for _ in range(2):
        assert await policy.run(wanted=True) == ()
        assert policy.state is PauseState.OVERRIDDEN
    assert await policy.run(wanted=False) == ()
    assert policy.entry is None


async def test_without_a_status_nothing_is_released(hands: Hands, operators: Operators) -> None:
    await loop(operators).run(wanted=True)
    held = hands.rows(ALL)
    policy = loop(operators)
    for _ in range(2):
        assert await policy.run(wanted=False) == ()
    assert (policy.entry, hands.rows(ALL)) == (None, held)


async def test_held_jobs_that_are_cancelled_end_no_pause(
    hands: Hands, operators: Operators
) -> None:
    """Three are held, the application cancels them and enqueues others in the same incident."""
    policy = loop(operators)
    await policy.run(wanted=True)
    hands.run(
        "DELETE FROM queue_jobs",
        "INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1, 500)",
    )
    await policy.run(wanted=True)
    assert (policy.state, hands.one(HELD)) == (PauseState.HELD, 500)


async def test_a_release_in_parts_ends_as_one(
    hands: Hands, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 jobs in parts of 8: the third part does not know that it was the last, and the fourth
    finds nothing. It was us all the same, and the next release waits for its window."""
    monkeypatch.setattr("starforge_backlog.producers.job_types_table.BATCHES_FOR", AT - AT)
    policy = loop(operators, batch=8)
    for _ in range(4):
        await policy.run(wanted=True)
    assert hands.one(HELD) == 24
    for _ in range(3):
        await policy.run(wanted=False)
        assert policy.entry is not None
    assert hands.one(HELD) == 0
    last_part = policy.status.released_at
    await policy.run(wanted=False)
    assert policy.entry is None
    assert policy.outcomes[-1] == Resumed(ResumeOutcome.RESUMED)
    assert (policy.status.released_at or AT) > (last_part or AT)


async def test_a_table_without_a_due_time_is_refused(hands: Hands, operators: Operators) -> None:
    hands.run("ALTER TABLE queue_jobs DROP COLUMN run_after")
    policy = loop(operators)
    await policy.run(wanted=True)
    assert policy.entry is not None
    assert (policy.state, "run_after" in policy.entry.message) == (PauseState.REFUSED, True)
    await policy.run(wanted=False)
    assert policy.entry is None
