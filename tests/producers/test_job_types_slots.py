"""Whose held jobs are: each holder moves them into a slot of its own, far away (P4)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest
from tests.producers.held_jobs import ALL, HELD, JOBS, at_first_choice, held
from tests.producers.table import AT, Hands, Operators
from tests.queues.schemas import MODEL

from starforge_backlog.api.status import PausedBy, PauseState, PauseStatus
from starforge_backlog.databases import held_back
from starforge_backlog.decide.results import (
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.job_types_plan import HoldPlan, parse_plan
from starforge_backlog.snapshot import FlagValue

pytestmark = pytest.mark.postgres


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    """The table of the runbook, with jobs."""
    with Hands.at(rows_url, *MODEL, JOBS) as person:
        yield person


def test_slots_do_not_overlap_and_end_before_the_year_that_tools_can_read() -> None:
    ranges = [held_back.slot_range(slot) for slot in range(held_back.SLOTS)]
    assert all(a[1] == b[0] for a, b in pairwise(ranges))
    year = 8766
    assert ranges[0][0] > 90 * year
    assert 2026 + ranges[-1][1] / year < 9_000
    # Whatever may be held comes back to its own slot, now and two years later.
    for slot in (0, 1, held_back.SLOTS - 1):
        first, last = held_back.slot_range(slot)
        for due in (-held_back.HELD_PAST, held_back.HELD_AHEAD - 1):
            for later in (0, held_back.LONGEST_HOLD):
                assert first <= due + held_back.shift_hours(slot) - later < last


@pytest.mark.parametrize("year", range(2026, 2040))
def test_round_dates_are_in_no_slot_that_is_chosen(year: int) -> None:
    """Neither when the hold begins nor two years later, at either end of the year."""
    for month, day in ((1, 1), (7, 1), (12, 31)):
        now = datetime(year, month, day, 1, tzinfo=UTC)
        chosen = [s for s in range(held_back.SLOTS) if not held_back.has_round_dates(s, now)]
        assert len(chosen) > 300
        for slot in chosen:
            first, last = held_back.slot_range(slot)
            begins, ends = (
                now.year + (now.timetuple().tm_yday - 1) / 366 + hours / 8766
                for hours in (first, last + held_back.LONGEST_HOLD)
            )
            assert begins // 10 == ends // 10, "no first of January of a year like 2500 in it"


async def test_a_lost_status_is_reported_with_the_statement_that_fixes_it(
    hands: Hands, operators: Operators
) -> None:
    """The slot alone proves nothing, so nothing is released by it. A person can."""
    before = hands.rows(ALL)
    policy = operators.job_types(uid=at_first_choice())
    await policy.pause()
    policy.entry = None
    held_rows = hands.rows(ALL)
    seen = await policy.seen()
    assert (seen.value, seen.token) == (FlagValue.RUNNING, None)
    assert seen.note.startswith("24 jobs of table queue_jobs are due where this policy would hold")
    # A new incident meanwhile: other jobs, another slot.
    hands.run("INSERT INTO queue_jobs (type) VALUES ('backfill_range')")
    assert held(await policy.pause()) == 1
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    hands.run("DELETE FROM queue_jobs WHERE created_at > (SELECT min(created_at) FROM queue_jobs)")
    assert hands.rows(ALL) == held_rows
    hands.run(seen.note.partition("run: ")[2])
    assert hands.rows(ALL) == before
    assert not (await policy.seen()).note


async def test_a_release_that_knows_only_its_intent(hands: Hands, operators: Operators) -> None:
    """Killed between the write and the status after it."""
    before = hands.rows(ALL)
    policy = operators.job_types()
    await policy.intend()
    intent = policy.entry
    await policy.write()
    assert intent is not None
    other = operators.job_types().pausable
    got = await other.resume(token=intent.token, version="", previous=intent.previous)
    assert got == Resumed(ResumeOutcome.RESUMED)
    assert hands.rows(ALL) == before


async def test_a_hold_of_before_slots_were_chosen_is_released(
    hands: Hands, operators: Operators
) -> None:
    before = hands.rows(ALL)
    policy = operators.job_types()
    slot = held_back.slot_of("ns/etl")
    await policy.pausable.pause(
        owner="ns/etl", token="ns/etl/1", at=AT, plan=HoldPlan(slot, ("backfill_range",)).text
    )
    policy.entry = PauseStatus(
        producer="etl",
        by=PausedBy.US,
        state=PauseState.HELD,
        since=AT,
        token="ns/etl/1",
        version=f"slot {slot}",
        previous='{"held": 24}',
    )
    assert (await policy.seen()).value is FlagValue.PAUSED
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(ALL) == before


FAR_AWAY = """
INSERT INTO queue_jobs (type, run_after)
SELECT type, now() + make_interval(hours => {hours}) + n * interval '8 hours 0.000123 seconds'
  FROM unnest(ARRAY['backfill_range', 'import']) AS type, generate_series(0, 9) AS n
"""


@pytest.mark.parametrize("wanted", [True, False])
async def test_far_due_times_of_the_application_are_never_touched(
    hands: Hands, operators: Operators, wanted: bool
) -> None:
    """Wherever they lie: in the slots that the policy asks for first, and in all others."""
    hands.run("DELETE FROM queue_jobs")
    policy = operators.job_types(uid=at_first_choice())
    for slot in islice(held_back.slots_of(f"{policy.uid}/etl"), 12):
        hands.run(FAR_AWAY.format(hours=held_back.slot_range(slot)[0] + 100))
    theirs = hands.rows(ALL)
    seen = await policy.seen()
    assert (seen.value, seen.token) == (FlagValue.RUNNING, None)
    if wanted:
        hands.run("INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1,9)")
        everything = hands.rows(ALL)
        assert held(await policy.pause()) == 9
        assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
        assert hands.rows(ALL) == everything
    else:
        assert hands.rows(ALL) == theirs


async def test_other_types_in_our_slot_stay(hands: Hands, operators: Operators) -> None:
    """What the application enqueues there while we hold."""
    policy = operators.job_types()
    await policy.pause()
    assert policy.entry is not None
    plan = parse_plan(policy.entry.previous, "", "")
    assert plan is not None
    hours = held_back.shift_hours(plan.slot)
    hands.run(
        "INSERT INTO queue_jobs (type, run_after)"
        f" VALUES ('import', now() + make_interval(hours => {hours}))"
    )
    theirs = hands.rows("SELECT * FROM queue_jobs WHERE type = 'import'")
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows("SELECT * FROM queue_jobs WHERE type = 'import'") == theirs
    assert hands.one(HELD) == 1


async def test_two_holders_that_ask_for_the_same_slot(hands: Hands, operators: Operators) -> None:
    first = operators.job_types()
    await first.pause()
    assert first.entry is not None
    hands.run("INSERT INTO queue_jobs (type) VALUES ('backfill_range')")
    same = operators.job_types()  # the same names: another cluster on the same table
    await same.pause()
    assert same.entry is not None
    assert first.entry.version != same.entry.version
    await first.resume()
    assert hands.one(HELD) == 1


async def test_more_holders_than_one_reading_lists(hands: Hands, operators: Operators) -> None:
    """None of them takes its own hold for lifted, or the slot of another for free."""
    hands.run("DELETE FROM queue_jobs")
    policies = [operators.job_types(uid=f"uid-{number}") for number in range(20)]
    for policy in policies:
        hands.run("INSERT INTO queue_jobs (type) VALUES ('backfill_range')")
        await policy.pause()
    hands.run("INSERT INTO queue_jobs (type) VALUES ('backfill_range')")  # it leaks
    slots = {policy.entry.version for policy in policies if policy.entry is not None}
    assert len(slots) == 20
    for policy in policies:
        seen = await policy.seen()
        assert (seen.value, seen.leaking) == (FlagValue.PAUSED, True)
        plan = parse_plan((await operators.job_types(uid=policy.uid).seen()).plan, "", "")
        assert plan is not None
        assert plan.version not in slots, "another one of that name chooses a slot of its own"
    for policy in policies:
        assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.one(HELD) == 0
