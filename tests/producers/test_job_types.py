"""Job types that are held back: the rows say whose, the due times come back exactly (P4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.producers.held_jobs import ALL, FAR, HELD, JOBS, PLAN, held
from tests.producers.table import AT, Hands, Operators
from tests.queues.schemas import ENUM, FIRST_MIGRATION, MODEL, SCHEMA_SQL

from local.postgres import PostgresServer
from starforge_backlog.api.pausing import JobTypes
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Unknown, Why

pytestmark = pytest.mark.postgres


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    """The table of the runbook, with jobs."""
    with Hands.at(rows_url, *MODEL, JOBS) as person:
        yield person


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


@pytest.mark.parametrize(
    ("done", "lifted"),
    [
        ("DELETE FROM queue_jobs WHERE run_after > '2100-01-01'", False),
        ("UPDATE queue_jobs SET status = 'done' WHERE run_after > '2100-01-01'", False),
        ("UPDATE queue_jobs SET run_after = now() WHERE run_after > '2100-01-01'", True),
        # ... and most of them were worked on before anybody read them.
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
