"""Backfills that are paused row by row, with people and the backfills writing the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.producers.table import AT, Hands, Operators

from local.postgres import PostgresServer
from starforge_backlog.api.status import PauseState
from starforge_backlog.decide.results import Paused, PauseOutcome, ResumeOutcome
from starforge_backlog.producers.backfill_jobs_table import MOST_HELD
from starforge_backlog.snapshot import FlagValue, Unknown, Why

pytestmark = pytest.mark.postgres

# As published by StarForge.
SCHEMA = """
CREATE TABLE backfill_jobs (
    job_id text PRIMARY KEY, owner text, from_ts timestamptz, to_ts timestamptz,
    batch_size int DEFAULT 500, concurrency int DEFAULT 2,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'paused', 'failed', 'done')),
    processed_count bigint DEFAULT 0, error_count bigint DEFAULT 0, last_checkpoint jsonb,
    started_at timestamptz, finished_at timestamptz);
CREATE TABLE audit_logs (
    id bigserial PRIMARY KEY, action text NOT NULL, user_id text, guild_id text,
    metadata jsonb, ip_address text, user_agent text, created_at timestamptz DEFAULT now());
INSERT INTO backfill_jobs (job_id, status)
VALUES ('r1', 'running'), ('r2', 'running'), ('p1', 'paused'), ('d1', 'done'), ('n1', 'pending')
"""
STATES = "SELECT job_id, status FROM backfill_jobs ORDER BY job_id"
BEFORE = [("d1", "done"), ("n1", "pending"), ("p1", "paused"), ("r1", "running"), ("r2", "running")]
HELD = [("d1", "done"), ("n1", "pending"), ("p1", "paused"), ("r1", "paused"), ("r2", "paused")]
AUDIT = "audit_logs"


@pytest.fixture
def hands(rows_url: str) -> Iterator[Hands]:
    with Hands.at(rows_url, SCHEMA) as person:
        yield person


def said(hands: Hands, word: str, job: str) -> None:
    hands.run(f"UPDATE backfill_jobs SET status = '{word}' WHERE job_id = '{job}'")


@pytest.mark.parametrize("audit_table", [None, AUDIT])
async def test_paused_and_resumed(
    hands: Hands, operators: Operators, audit_table: str | None
) -> None:
    policy = operators.backfills(audit_table=audit_table)
    seen = await policy.seen()
    assert (seen.value, seen.plan) == (FlagValue.RUNNING, '{"r1": null, "r2": null}')
    got = await policy.pause()
    assert (got.outcome, got.complete) == (PauseOutcome.PAUSED, True)
    assert json.loads(got.previous or "").keys() == {"r1", "r2"}
    assert hands.rows(STATES) == HELD
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, False)
    assert policy.entry is not None
    token = policy.entry.token
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(STATES) == BEFORE
    logged = hands.rows("SELECT action, metadata ->> 'token' FROM audit_logs ORDER BY id")
    expected = [("backfill_paused", token), ("backfill_resumed", token)]
    assert logged == (expected if audit_table else [])


async def test_running_backfills_that_start_meanwhile(hands: Hands, operators: Operators) -> None:
    policy = operators.backfills()
    await policy.pause()
    said(hands, "running", "n1")
    seen = await policy.seen()
    assert (seen.value, seen.leaking, seen.plan) == (FlagValue.PAUSED, True, '{"n1": null}')
    assert policy.entry is not None
    merged = json.loads(policy.entry.previous or "") | json.loads(seen.plan or "")
    policy.entry = policy.entry.model_copy(update={"previous": json.dumps(merged)})
    got = await policy.write()
    assert json.loads(got.previous or "").keys() == {"r1", "r2", "n1"}
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert dict(hands.rows(STATES))["n1"] == "running"
    assert dict(hands.rows(STATES))["p1"] == "paused"


async def test_nothing_to_pause_is_held_all_the_same(hands: Hands, operators: Operators) -> None:
    hands.run("DELETE FROM backfill_jobs")
    policy = operators.backfills()
    assert (await policy.seen()).value is FlagValue.RUNNING
    got = await policy.pause()
    assert (got.outcome, got.previous) == (PauseOutcome.PAUSED, "{}")
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, False)
    hands.run("INSERT INTO backfill_jobs (job_id, status) VALUES ('r9', 'running')")
    assert (await policy.seen()).leaking
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(STATES) == [("r9", "running")]


async def test_the_batch_under_way_may_still_write_its_progress(
    hands: Hands, operators: Operators
) -> None:
    """A backfill that is asked to pause finishes its batch: that is no person's hand."""
    policy = operators.backfills()
    await policy.pause()
    hands.run(
        "UPDATE backfill_jobs SET processed_count = 500, last_checkpoint = '{\"at\": 7}'"
        " WHERE job_id = 'r1'"
    )
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(STATES) == BEFORE


@pytest.mark.parametrize(
    "write",
    [
        "UPDATE backfill_jobs SET status = 'paused' WHERE job_id = 'r1'",
        "UPDATE backfill_jobs SET status = 'paused', batch_size = 50 WHERE job_id = 'r1'",
        "UPDATE backfill_jobs SET owner = 'alice', processed_count = 9 WHERE job_id = 'r1'",
    ],
)
async def test_a_person_who_writes_over_our_pause(
    hands: Hands, operators: Operators, write: str
) -> None:
    policy = operators.backfills()
    await policy.pause()
    hands.run(write)
    got = await policy.resume()
    assert got.outcome is ResumeOutcome.CHANGED_SINCE
    assert "r1" in got.message
    assert "r2" not in got.message
    states = dict(hands.rows(STATES))
    assert (states["r1"], states["r2"]) == ("paused", "running")
    assert policy.entry is not None
    policy.entry = policy.entry.model_copy(update={"state": PauseState.CHANGED})
    said(hands, "running", "r1")
    assert (await policy.seen()).value is FlagValue.RUNNING, "forgotten once it runs"


async def test_what_people_resumed_or_finished_is_let_be(
    hands: Hands, operators: Operators
) -> None:
    policy = operators.backfills()
    await policy.pause()
    said(hands, "running", "r1")
    seen = await policy.seen()
    assert (seen.value, seen.leaking) == (FlagValue.PAUSED, False)
    version = hands.one("SELECT xmin FROM backfill_jobs WHERE job_id = 'r1'")
    assert not json.loads((await policy.write()).previous or "").keys() - {"r1", "r2"}
    assert hands.one("SELECT xmin FROM backfill_jobs WHERE job_id = 'r1'") == version
    said(hands, "done", "r2")
    assert (await policy.resume()).outcome is ResumeOutcome.NOT_PAUSED
    assert dict(hands.rows(STATES))["r2"] == "done"


async def test_a_person_pauses_between_our_read_and_our_write(
    hands: Hands, operators: Operators
) -> None:
    policy = operators.backfills(audit_table=AUDIT)
    await policy.intend()
    said(hands, "paused", "r1")
    got = await policy.write()
    assert json.loads(got.previous or "").keys() == {"r2"}
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert dict(hands.rows(STATES))["r1"] == "paused", "theirs"


async def test_two_policies_each_resume_their_own(hands: Hands, operators: Operators) -> None:
    first, second = operators.backfills(uid="first"), operators.backfills(uid="second")
    await first.pause()
    said(hands, "running", "n1")
    assert (await second.pause()).outcome is PauseOutcome.PAUSED
    await first.resume()
    states = dict(hands.rows(STATES))
    assert (states["r1"], states["n1"]) == ("running", "paused")
    assert (await second.seen()).leaking, "what the first let go is the second's to pause"
    await second.resume()
    assert dict(hands.rows(STATES))["n1"] == "running"


async def test_after_a_crash_the_audit_table_proves_it(hands: Hands, operators: Operators) -> None:
    policy = operators.backfills(audit_table=AUDIT)
    await policy.intend()
    intent = policy.entry
    first = await policy.write()
    policy.entry = intent  # killed before the result reached the status
    said(hands, "paused", "n1")  # a person, meanwhile
    second = await policy.write()
    assert second.outcome is PauseOutcome.ALREADY_OURS
    assert json.loads(second.previous or "") == json.loads(first.previous or "")
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert dict(hands.rows(STATES))["n1"] == "paused"
    assert hands.one("SELECT count(*) FROM audit_logs") == 2


async def test_a_release_that_knows_only_its_token(hands: Hands, operators: Operators) -> None:
    policy = operators.backfills(audit_table=AUDIT)
    await policy.intend()
    intent = policy.entry
    await policy.write()
    policy.entry = intent
    seen = await policy.seen()
    assert (seen.value, seen.token) == (FlagValue.PAUSED, None), "the resume shows whose"
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(STATES) == BEFORE


async def test_without_an_audit_table_a_crash_leaves_it_to_people(
    hands: Hands, operators: Operators
) -> None:
    policy = operators.backfills()
    await policy.intend()
    intent = policy.entry
    await policy.write()
    policy.entry = intent
    seen = await policy.seen()
    assert (seen.value, seen.token) == (FlagValue.PAUSED, None)
    again = await policy.write()
    assert again.outcome is PauseOutcome.PAUSED
    assert "r1, r2" in again.message
    assert "auditTable" in again.message
    got = await policy.resume()
    assert got.outcome is ResumeOutcome.NOT_OURS
    assert "r1, r2" in got.message
    assert "auditTable" in got.message
    assert hands.rows(STATES) == HELD


async def test_a_pause_of_a_person_is_not_taken_by_a_stray_resume(
    hands: Hands, operators: Operators
) -> None:
    for audit_table in (None, AUDIT):
        policy = operators.backfills(audit_table=audit_table)
        got = await policy.pausable.resume(token="ns/etl/9", version="", previous=None)
        assert not isinstance(got, Unknown)
        assert got.outcome is ResumeOutcome.NOT_PAUSED
        assert hands.rows(STATES) == BEFORE


async def test_rows_in_somebodys_hands_are_not_waited_for(
    hands: Hands, operators: Operators, rows_url: str
) -> None:
    policy = operators.backfills()
    with psycopg.connect(rows_url) as editor:
        editor.execute("SELECT * FROM backfill_jobs WHERE job_id = 'r1' FOR UPDATE")
        got = await policy.pause()
        assert (got.complete, "r1" in got.message) == (False, True)
        states = dict(hands.rows(STATES))
        assert (states["r1"], states["r2"]) == ("running", "paused")
        editor.execute("SELECT * FROM backfill_jobs WHERE job_id = 'r2' FOR UPDATE")
        assert (await policy.resume()).outcome is ResumeOutcome.PARTLY
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED


async def test_more_than_one_pause_holds(hands: Hands, operators: Operators) -> None:
    hands.run(
        "INSERT INTO backfill_jobs (job_id, status)"
        f" SELECT 'x' || n, 'running' FROM generate_series(1, {MOST_HELD}) AS n"
    )
    policy = operators.backfills()
    got = await policy.pause()
    assert len(json.loads(got.previous or "")) == MOST_HELD
    assert not (await policy.seen()).leaking, "no pass can do more"
    assert policy.entry is not None
    merged = json.loads(policy.entry.previous or "") | json.loads((await policy.seen()).plan or "")
    policy.entry = policy.entry.model_copy(update={"previous": json.dumps(merged)})
    got = await policy.write()
    assert "2" in got.message
    assert f"{MOST_HELD}" in got.message
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.one("SELECT count(*) FROM backfill_jobs WHERE status = 'running'") == 202


@pytest.mark.parametrize(
    ("change", "spec", "said_so"),
    [
        (
            (
                "ALTER TABLE backfill_jobs DROP CONSTRAINT backfill_jobs_status_check;"
                "ALTER TABLE backfill_jobs ADD CHECK (status IN ('pending', 'running', 'done'))"
                " NOT VALID"
            ),
            {},
            "backfillJobs.paused",
        ),
        (
            (
                "CREATE TYPE state AS ENUM ('pending', 'running', 'halted', 'paused', 'done');"
                "ALTER TABLE backfill_jobs DROP CONSTRAINT backfill_jobs_status_check,"
                " ALTER status DROP DEFAULT, ALTER status TYPE state USING status::state"
            ),
            {"paused": "on-hold"},
            "backfillJobs.running and backfillJobs.paused",
        ),
        (
            "ALTER TABLE audit_logs ALTER user_id SET NOT NULL",
            {"audit_table": AUDIT},
            "auditTable",
        ),
    ],
)
async def test_a_table_that_refuses_the_word(
    hands: Hands, operators: Operators, change: str, spec: dict[str, Any], said_so: str
) -> None:
    hands.run(change)
    policy = operators.backfills(**spec)
    got = await policy.pausable.pause(
        owner="ns/etl", token="ns/etl/1", at=AT, plan='{"r1": null, "r2": null}'
    )
    assert isinstance(got, Paused)
    assert got.outcome is PauseOutcome.BAD_SHAPE
    assert said_so in got.message
    assert hands.rows(STATES.replace("status", "status::text")) == BEFORE


async def test_an_enum_is_as_good(hands: Hands, operators: Operators) -> None:
    hands.run(
        "CREATE TYPE state AS ENUM ('pending', 'running', 'paused', 'done');"
        "ALTER TABLE backfill_jobs DROP CONSTRAINT backfill_jobs_status_check,"
        " ALTER status DROP DEFAULT, ALTER status TYPE state USING status::state"
    )
    policy = operators.backfills()
    assert (await policy.pause()).outcome is PauseOutcome.PAUSED
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.rows(STATES) == BEFORE


@pytest.mark.parametrize(
    ("statement", "spec", "why"),
    [
        ("DROP TABLE backfill_jobs", {}, Why.TABLE_NOT_FOUND),
        ("SELECT 1", {"id_column": "uuid"}, Why.COLUMN_NOT_FOUND),
        ("SELECT 1", {"status_column": "state"}, Why.COLUMN_NOT_FOUND),
        ("DROP TABLE audit_logs", {"audit_table": AUDIT}, Why.TABLE_NOT_FOUND),
    ],
)
async def test_a_table_of_another_make(
    hands: Hands, operators: Operators, statement: str, spec: dict[str, Any], why: Why
) -> None:
    hands.run(statement)
    producer = operators.backfills(**spec).pausable
    got = await producer.pause(owner="o", token="ns/etl/1", at=AT, plan='{"r1": null}')
    assert isinstance(got, Unknown)
    assert got.why is why
    left = await producer.resume(token="ns/etl/1", version="", previous='{"r1": null}')
    assert isinstance(left, Unknown)
    assert left.why is why


async def test_a_read_only_server(hands: Hands, operators: Operators) -> None:
    name = hands.session.info.dbname
    hands.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    policy = operators.backfills()
    assert (await policy.seen()).value is FlagValue.RUNNING
    got = await policy.pausable.pause(owner="o", token="ns/etl/1", at=AT, plan='{"r1": null}')
    assert isinstance(got, Unknown)
    assert got.why is Why.READ_ONLY


async def test_without_the_right_to_write(
    hands: Hands, operators: Operators, postgres_server: PostgresServer
) -> None:
    name = hands.session.info.dbname
    role = f"reader_{name}"
    hands.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'planted'; GRANT SELECT ON backfill_jobs TO {role}"
    )
    producer = operators.backfills(url=postgres_server.url(role, name, "planted")).pausable
    got = await producer.pause(owner="o", token="ns/etl/1", at=AT, plan='{"r1": null}')
    assert isinstance(got, Unknown)
    assert (got.why, "GRANT" in got.message) == (Why.NO_PERMISSION, True)
    hands.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_write_that_is_swallowed_is_no_pause(hands: Hands, operators: Operators) -> None:
    hands.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE UPDATE ON backfill_jobs FOR EACH ROW"
        " EXECUTE FUNCTION swallow()"
    )
    producer = operators.backfills(audit_table=AUDIT).pausable
    got = await producer.pause(owner="o", token="ns/etl/1", at=AT, plan='{"r1": null}')
    assert isinstance(got, Unknown)
    assert got.why is Why.NO_PERMISSION
    assert hands.one("SELECT count(*) FROM audit_logs") == 0


async def test_names_and_types_are_the_applications(hands: Hands, operators: Operators) -> None:
    hands.run(
        'CREATE SCHEMA app; CREATE TABLE app."Order" ("select" bigserial PRIMARY KEY, "job" text,'
        ' "state" varchar(9));'
        """INSERT INTO app."Order" ("state") VALUES ('läuft'), ('läuft'), ('ruht')"""
    )
    spec = {
        "table": "app.Order",
        "id_column": "select",
        "status_column": "state",
        "running": "läuft",
        "paused": "ruht",
    }
    policy = operators.backfills(**spec)
    assert json.loads((await policy.pause()).previous or "").keys() == {"1", "2"}
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    query = """SELECT "state" FROM app."Order" ORDER BY "select" """
    assert hands.rows(query) == [("läuft",), ("läuft",), ("ruht",)]


@pytest.mark.parametrize("kind", ["text", "uuid", "bigint"])
async def test_rows_are_found_by_their_key_and_not_by_reading_the_table(
    hands: Hands, operators: Operators, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whatever the key's type: compared as text it would have no index."""
    keys = {"text": "'100%-' || n", "uuid": "md5(n::text)::uuid", "bigint": "n"}
    hands.run(
        "DROP TABLE backfill_jobs; CREATE TABLE backfill_jobs (job_id"
        f" {kind} PRIMARY KEY, status text NOT NULL)",
        f"INSERT INTO backfill_jobs SELECT {keys[kind]}, CASE WHEN n < 3 THEN 'running' ELSE 'done'"
        " END FROM generate_series(1, 20000) AS n",
        "CREATE INDEX ON backfill_jobs (status); ANALYZE backfill_jobs",
    )
    policy = operators.backfills(audit_table=AUDIT)
    database = policy.table.database
    write, plans = database.execute_write, list[str]()

    async def explained(query: Any, params: Any = (), **more: Any) -> Any:
        with psycopg.ClientCursor(hands.session) as cursor:
            statement = cursor.mogrify(query, params)
        plans.append("\n".join(line for (line,) in hands.rows(f"EXPLAIN {statement}")))
        return await write(query, params, **more)

    monkeypatch.setattr(database, "execute_write", explained)
    assert (await policy.pause()).outcome is PauseOutcome.PAUSED
    assert hands.one("SELECT count(*) FROM backfill_jobs WHERE status = 'paused'") == 2
    assert (await policy.resume()).outcome is ResumeOutcome.RESUMED
    assert hands.one("SELECT count(*) FROM backfill_jobs WHERE status = 'running'") == 2
    assert len(plans) == 2
    for plan in plans:
        assert "Seq Scan on backfill_jobs" not in plan, plan
