"""Job types that are held back: the rows say whose, the due times come back exactly (P4)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any

import psycopg
import pytest
from tests.producers.table import AT, Hands, Operators
from tests.queues.schemas import ENUM, FIRST_MIGRATION, MODEL, SCHEMA_SQL

from local.postgres import PostgresServer
from starforge_backlog.api.pausing import JobTypes
from starforge_backlog.api.status import PausedBy, PauseState, PauseStatus
from starforge_backlog.clock import utc_now
from starforge_backlog.databases import held_back
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.job_types_plan import HoldPlan, parse_plan
from starforge_backlog.snapshot import FlagValue, Unknown, Why

pytestmark = pytest.mark.postgres

# Waiting jobs of all ages and in all precisions, of a type that is held and one that is not.
JOBS = """
INSERT INTO queue_jobs (type, status, run_after)
SELECT type, status, due
  FROM unnest(ARRAY['backfill_range', 'process_snapshot']) AS type,
       unnest(ARRAY['pending', 'failed']) AS status,
       (SELECT now() - n * interval '7 hours 3 minutes 0.123457 seconds' AS due
          FROM generate_series(-3, 20) AS n) AS dues
"""
ALL = "SELECT * FROM queue_jobs ORDER BY id"
FAR = "run_after > now() + interval '90 years'"
HELD = f"SELECT count(*) FROM queue_jobs WHERE {FAR}"


PLAN = HoldPlan(7, ("backfill_range",)).text


def held(got: Paused) -> int:
    """How many jobs are held, as the status keeps it."""
    plan = parse_plan(got.previous, "", "")
    assert plan is not None
    return plan.held


def at_first_choice() -> str:
    """A policy that gets the slot that it asks for first."""
    return next(
        f"uid-{n}"
        for n in range(100)
        if not held_back.has_round_dates(held_back.slot_of(f"uid-{n}/etl"), utc_now())
    )


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


async def test_held_and_released_without_a_trace(hands: Hands, operators: Operators) -> None:
    before = hands.rows(ALL)
    policy = operators.job_types()
    assert (await policy.seen()).value is FlagValue.RUNNING
    got = await policy.pause()
    assert (got.outcome, held(got), got.complete) == (PauseOutcome.PAUSED, 24, True)
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, False)
    assert hands.one(HELD) == 24
    # The other type, the other status, and every other column are as they were.
    changed = set(hands.rows(ALL)) - set(before)
    assert {(row[1], row[6]) for row in changed} == {("backfill_range", "pending")}
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(ALL) == before
    assert (await policy.seen()).value is FlagValue.RUNNING


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
async def test_clock_changes_and_zones_shift_nothing(
    hands: Hands, operators: Operators, zone: str, kind: str
) -> None:
    """Held in winter by a session of one zone, released in another: hours are hours."""
    hands.run(f"ALTER TABLE queue_jobs ALTER run_after TYPE {kind}")
    before = hands.rows(ALL)
    name = hands.session.info.dbname
    hands.run(f"""ALTER DATABASE "{name}" SET timezone = '{zone}'""")
    policy = operators.job_types()
    await policy.pause()
    hands.run(f"""ALTER DATABASE "{name}" SET timezone = 'Europe/Berlin'""")
    other = operators.job_types()
    other.entry = policy.entry
    assert hands.one(HELD) == 24
    assert (await other.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(ALL) == before


@pytest.mark.parametrize("schema", [MODEL, SCHEMA_SQL, ENUM])
async def test_each_schema_with_a_due_time(
    hands: Hands, operators: Operators, schema: tuple[str, ...]
) -> None:
    hands.fresh()
    jobs = JOBS.replace("type, status, due", "type, status::job_status, due")
    hands.run(*schema, jobs if schema is ENUM else JOBS)
    before = hands.rows(ALL)
    policy = operators.job_types()
    assert (await policy.pause()).outcome is PauseOutcome.PAUSED
    assert hands.one(HELD) == 24
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(ALL) == before


async def test_no_due_time_is_refused_with_the_fix(hands: Hands, operators: Operators) -> None:
    hands.fresh()
    hands.run(*FIRST_MIGRATION, "INSERT INTO queue_jobs (type) VALUES ('backfill_range')")
    before = hands.rows(ALL)
    policy = operators.job_types()
    reading = await policy.pausable.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.COLUMN_NOT_FOUND
    got = await policy.pausable.pause(owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN)
    assert got == Paused(PauseOutcome.BAD_SHAPE, message=reading.message)
    assert "no column run_after" in reading.message
    assert "jobTypes.dueColumn" in reading.message
    assert hands.rows(ALL) == before


async def test_new_jobs_are_held_as_well(hands: Hands, operators: Operators) -> None:
    policy = operators.job_types()
    await policy.pause()
    hands.run("INSERT INTO queue_jobs (type) VALUES ('process_snapshot')")
    assert not (await policy.seen()).leaking
    hands.run("INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1, 3)")
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, True)
    got = await policy.write()
    assert (got.outcome, held(got)) == (PauseOutcome.PAUSED, 27)
    assert not (await policy.seen()).leaking
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.one(HELD) == 0


async def test_nothing_to_hold_is_held_all_the_same(hands: Hands, operators: Operators) -> None:
    hands.run("DELETE FROM queue_jobs WHERE type = 'backfill_range'")
    policy = operators.job_types()
    assert (await policy.pause()).outcome is PauseOutcome.PAUSED
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, False)
    hands.run("INSERT INTO queue_jobs (type) VALUES ('backfill_range')")
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, True)
    hands.run("DELETE FROM queue_jobs WHERE type = 'backfill_range'")
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED


async def test_more_than_one_pass_can_do(
    hands: Hands, operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First in order first; each pass says that more is left, and the release does the same."""
    monkeypatch.setattr("starforge_backlog.producers.job_types_table.BATCHES_FOR", AT - AT)
    before = hands.rows(ALL)
    line = hands.rows(
        "SELECT id FROM queue_jobs WHERE type = 'backfill_range' AND status = 'pending'"
        " ORDER BY run_after"
    )
    policy = operators.job_types(batch=10)
    got = await policy.pause()
    assert (got.complete, hands.one(HELD)) == (False, 10)
    assert line[:10] == hands.rows(
        "SELECT id FROM queue_jobs WHERE run_after > '2100-01-01' ORDER BY run_after"
    )
    assert (await policy.seen()).leaking
    assert not (await policy.write()).complete
    got = await policy.write()
    assert (got.complete, held(got), hands.one(HELD)) == (True, 24, 24)
    assert (await policy.resume()).outcome is ResumeOutcome.PARTLY
    assert (await policy.resume()).outcome is ResumeOutcome.PARTLY
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(ALL) == before


async def test_jobs_without_or_beyond_a_due_time_are_left(
    hands: Hands, operators: Operators
) -> None:
    hands.run(
        "ALTER TABLE queue_jobs ALTER run_after DROP NOT NULL",
        "DELETE FROM queue_jobs",
        "INSERT INTO queue_jobs (type, run_after) VALUES ('backfill_range', NULL),"
        " ('backfill_range', '-infinity'), ('backfill_range', 'infinity'),"
        " ('backfill_range', now() - interval '3 years'),"
        " ('backfill_range', '9999-12-31'), ('backfill_range', now())",
    )
    everything = "SELECT id, run_after::text FROM queue_jobs ORDER BY id"
    before = hands.rows(everything)
    policy = operators.job_types()
    assert held(await policy.pause()) == 1
    assert not (await policy.seen()).leaking
    await policy.resume()
    assert hands.rows(everything) == before


async def test_two_policies_each_release_their_own(hands: Hands, operators: Operators) -> None:
    before = hands.rows(ALL)
    first, second = operators.job_types(uid="first"), operators.job_types(uid="second")
    await first.pause()
    assert (await second.seen()).value is FlagValue.RUNNING, "not its own"
    assert held(await second.pause()) == 0, "nothing waits any more"
    hands.run("INSERT INTO queue_jobs (type, run_after) VALUES ('backfill_range', '2026-01-01')")
    await second.write()
    assert hands.one(HELD) == 25
    await first.resume()
    assert hands.one(HELD) == 1
    seen = await second.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, True), "now it is the second's to hold"
    await second.write()
    assert hands.one(HELD) == 25
    assert (await second.resume()).outcome is ResumeOutcome.RESUMED
    hands.run("DELETE FROM queue_jobs WHERE run_after = '2026-01-01'")
    assert hands.rows(ALL) == before


async def test_two_producers_of_one_policy_do_not_mix(hands: Hands, operators: Operators) -> None:
    ranges, snapshots = operators.job_types(), operators.job_types(types=("process_snapshot",))
    snapshots.name = "snapshots"
    await ranges.pause()
    await snapshots.pause()
    assert hands.one(HELD) == 48
    await ranges.resume()
    held = hands.rows(
        "SELECT DISTINCT type FROM queue_jobs WHERE run_after > now() + interval '90 years'"
    )
    assert held == [("process_snapshot",)]


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


async def test_more_holders_than_one_read_lists(hands: Hands, operators: Operators) -> None:
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


@pytest.mark.parametrize(
    ("done", "lifted"),
    [
        ("DELETE FROM queue_jobs WHERE run_after > '2100-01-01'", False),
        ("UPDATE queue_jobs SET status = 'done' WHERE run_after > '2100-01-01'", False),
        ("UPDATE queue_jobs SET run_after = now() WHERE run_after > '2100-01-01'", True),
        # ... and most of them were worked on before the next read.
        (
            f"UPDATE queue_jobs SET run_after = now(), status = 'done' WHERE {FAR}",
            True,
        ),
    ],
)
async def test_lifted_is_what_is_due_again(
    hands: Hands, operators: Operators, done: str, lifted: bool
) -> None:
    policy = operators.job_types()
    await policy.pause()
    hands.run(
        done, "INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1, 500)"
    )
    seen = await policy.seen()
    assert seen.value is (FlagValue.RUNNING if lifted else FlagValue.PAUSED)
    if not lifted:
        assert seen.leaking
        assert held(await policy.write()) == 524


async def test_types_that_the_policy_dropped_since_are_released(
    hands: Hands, operators: Operators
) -> None:
    before = hands.rows(ALL)
    policy = operators.job_types(types=("backfill_range", "process_snapshot"))
    await policy.pause()
    other = operators.job_types()
    other.entry = policy.entry
    assert (await other.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(ALL) == before


async def test_what_people_reschedule_is_theirs(hands: Hands, operators: Operators) -> None:
    policy = operators.job_types()
    await policy.pause()
    chosen = hands.one("SELECT min(id::text) FROM queue_jobs WHERE run_after > '2100-01-01'")
    hands.run(f"UPDATE queue_jobs SET run_after = '2026-12-24 18:00Z' WHERE id = '{chosen}'")
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    due = hands.one(f"SELECT run_after FROM queue_jobs WHERE id = '{chosen}'")
    assert due.isoformat() == "2026-12-24T18:00:00+00:00"
    assert hands.one(HELD) == 0


async def test_people_who_lift_the_hold_are_respected(hands: Hands, operators: Operators) -> None:
    policy = operators.job_types()
    await policy.pause()
    hands.run("UPDATE queue_jobs SET run_after = now() WHERE run_after > '2100-01-01'")
    before = hands.rows(ALL)
    assert (await policy.seen()).value is FlagValue.RUNNING, "which decide/ takes for Overridden"
    assert (await policy.resume()).outcome is ResumeOutcome.NOT_PAUSED
    assert hands.rows(ALL) == before


async def test_jobs_in_a_workers_hands_are_the_workers(
    hands: Hands, operators: Operators, rows_url: str
) -> None:
    policy = operators.job_types()
    with psycopg.connect(rows_url) as worker:
        worker.execute(
            "SELECT id FROM queue_jobs WHERE type = 'backfill_range' AND status = 'pending'"
            " ORDER BY run_after LIMIT 1 FOR UPDATE"
        )
        got = await policy.pause()
        assert (held(got), got.complete) == (23, False)
        assert hands.one(HELD) == 23
        worker.execute(
            "SELECT id FROM queue_jobs WHERE run_after > '2100-01-01' LIMIT 1 FOR UPDATE"
        )
        assert (await policy.resume()).outcome is ResumeOutcome.PARTLY
        assert hands.one(HELD) == 1
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED


@pytest.mark.parametrize(
    ("statement", "spec", "why"),
    [
        ("DROP TABLE queue_jobs", {}, Why.TABLE_NOT_FOUND),
        ("SELECT 1", {"type_column": "kind"}, Why.COLUMN_NOT_FOUND),
        ("SELECT 1", {"id_column": "job_id"}, Why.COLUMN_NOT_FOUND),
        ("SELECT 1", {"status_column": "state"}, Why.COLUMN_NOT_FOUND),
    ],
)
async def test_a_table_of_another_make(
    hands: Hands, operators: Operators, statement: str, spec: dict[str, Any], why: Why
) -> None:
    hands.run(statement)
    producer = operators.job_types(**spec).pausable
    got = await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN)
    assert isinstance(got, Unknown)
    assert got.why is why
    if "type_column" not in spec:  # a release needs no types
        left = await producer.resume(token="ns/etl/1", version="1", previous=PLAN)
        assert isinstance(left, Unknown)
        assert left.why is why


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "ALTER TABLE queue_jobs ALTER run_after DROP DEFAULT, ALTER run_after TYPE text",
            "no timestamp",
        ),
        ("ALTER TABLE queue_jobs ADD CHECK (run_after < '2100-01-01')", "CHECK constraint"),
    ],
)
async def test_a_due_time_that_cannot_be_moved_is_refused(
    hands: Hands, operators: Operators, statement: str, said: str
) -> None:
    hands.run(statement)
    before = hands.rows(ALL)
    got = await operators.job_types().pausable.pause(
        owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN
    )
    assert not isinstance(got, Unknown)
    assert got.outcome is PauseOutcome.BAD_SHAPE
    assert said in got.message
    assert hands.rows(ALL) == before


async def test_a_word_that_the_enum_does_not_have(hands: Hands, operators: Operators) -> None:
    hands.fresh()
    hands.run(*ENUM)
    policy = operators.job_types(waiting=("waiting",))
    got = await policy.pausable.pause(owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN)
    assert not isinstance(got, Unknown)
    assert got.outcome is PauseOutcome.BAD_SHAPE
    assert "jobTypes.waiting" in got.message


async def test_a_read_only_server(hands: Hands, operators: Operators) -> None:
    name = hands.session.info.dbname
    hands.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    policy = operators.job_types()
    assert (await policy.seen()).value is FlagValue.RUNNING
    got = await policy.pausable.pause(owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN)
    assert isinstance(got, Unknown)
    assert got.why is Why.READ_ONLY


async def test_without_the_right_to_write(
    hands: Hands, operators: Operators, postgres_server: PostgresServer
) -> None:
    name = hands.session.info.dbname
    role = f"reader_{name}"
    hands.run(f"CREATE ROLE {role} LOGIN PASSWORD 'planted'; GRANT SELECT ON queue_jobs TO {role}")
    policy = operators.job_types(url=postgres_server.url(role, name, "planted"))
    assert (await policy.seen()).value is FlagValue.RUNNING
    got = await policy.pausable.pause(owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN)
    assert isinstance(got, Unknown)
    assert (got.why, "GRANT" in got.message) == (Why.NO_PERMISSION, True)
    hands.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_write_that_is_swallowed_is_no_pause(hands: Hands, operators: Operators) -> None:
    hands.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE UPDATE ON queue_jobs FOR EACH ROW"
        " EXECUTE FUNCTION swallow()"
    )
    got = await operators.job_types().pausable.pause(
        owner="ns/etl", token="ns/etl/1", at=AT, plan=PLAN
    )
    assert isinstance(got, Unknown)
    assert got.why is Why.NO_PERMISSION


async def test_names_and_schema_are_the_applications(hands: Hands, operators: Operators) -> None:
    hands.run(
        'CREATE SCHEMA app; CREATE TABLE app."Order" ("select" bigserial PRIMARY KEY,'
        ' "from" text, "state" text, "When" timestamptz)',
        """INSERT INTO app."Order" ("from", "state", "When")
           VALUES ('it''s', 'neu', now()), ('x', 'neu', now()), ('it''s', 'alt', now())""",
    )
    spec = JobTypes(
        table="app.Order",
        types=("it's",),
        id_column="select",
        type_column="from",
        status_column="state",
        due_column="When",
        waiting=("neu", "wartend"),
    )
    before = hands.rows('SELECT * FROM app."Order" ORDER BY "select"')
    policy = operators.job_types(**spec.model_dump())
    assert held(await policy.pause()) == 1
    assert (await policy.seen()).value is FlagValue.PAUSED
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows('SELECT * FROM app."Order" ORDER BY "select"') == before
