"""The protocol of a flag row, sentence by sentence, with people writing the same row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from tests.producers.conftest import RUNBOOK, Human, Operator

from starforge_backlog.api.bounds import MOST_PREVIOUS_BYTES
from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.producers.feature_flag import FeatureFlagProducer
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Unknown, Why

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, 3, tzinfo=UTC)


async def paused(producer: FeatureFlagProducer, token: str = "ns/etl/1") -> Paused:
    got = await producer.pause(owner="ns/etl", token=token, at=AT)
    assert isinstance(got, Paused), got
    return got


async def resumed(
    producer: FeatureFlagProducer,
    after: Paused,
    token: str = "ns/etl/1",
) -> Resumed:
    got = await producer.resume(token=token, version=after.version, previous=after.previous)
    assert isinstance(got, Resumed), got
    return got


async def seen(producer: FeatureFlagProducer) -> ProducerReading:
    got = await producer.read()
    assert isinstance(got, Known), got
    return got.value


async def test_a_pause_and_its_mark(human: Human, operator: Operator) -> None:
    producer = operator()
    assert (await seen(producer)).value is FlagValue.RUNNING
    got = await paused(producer)
    assert (got.outcome, got.previous, got.version) == (
        PauseOutcome.PAUSED,
        None,
        human.version(),
    )
    assert human.read() == {
        "ingest_paused": True,
        "ingest_paused_by": {
            "owner": "ns/etl",
            "token": "ns/etl/1",
            "at": "2026-01-01T03:00:00+00:00",
            "version": human.version(),
        },
    }
    where = await producer.where()
    assert isinstance(where, ServerPlace)
    assert await seen(producer) == ProducerReading(
        FlagValue.PAUSED, "ns/etl/1", human.version(), where=where
    )


@pytest.mark.parametrize("write_owner", [True, False])
@pytest.mark.parametrize(
    "before",
    [
        {},
        {"ingest_paused": False},
        {"ingest_paused": None},
        {"ingest_paused": "true"},  # text, so not paused for anybody who reads JSON
        {"ingest_paused": False, "other": {"deep": [1, "ü", None]}},
        {"ingest_paused": False, "ingest_paused_by": "alice"},  # the application's own key
        {"ingest_paused": False, "ingest_paused_by": {"name": "alice"}},
        {"ingest_paused": False, "ingest_paused_by": None},
    ],
)
async def test_the_value_before_comes_back(
    human: Human, operator: Operator, before: Any, write_owner: bool
) -> None:
    human.write(before)
    producer = operator(write_owner=write_owner)
    held = await paused(producer)
    assert held.outcome is PauseOutcome.PAUSED
    now = human.read()
    assert now["ingest_paused"] is True
    if not write_owner:
        assert {**now, "ingest_paused": 0} == {**before, "ingest_paused": 0}
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    assert human.read() == before
    again = await resumed(producer, held)
    assert again.outcome is ResumeOutcome.NOT_PAUSED
    assert human.read() == before


async def test_after_a_crash_the_pause_is_known_again(human: Human, operator: Operator) -> None:
    human.write({"ingest_paused": False})
    first = await paused(operator())
    second = await paused(operator())
    assert second == Paused(PauseOutcome.ALREADY_OURS, first.version, "false")
    assert (await resumed(operator(), second)).outcome is ResumeOutcome.RESUMED
    assert human.read() == {"ingest_paused": False}


async def test_a_release_that_knows_only_its_token(human: Human, operator: Operator) -> None:
    """Deleted between the write and the status: version and value before are in the mark."""
    human.write({"ingest_paused": False})
    await paused(operator())
    got = await operator().resume(token="ns/etl/1", version="", previous=None)
    assert got == Resumed(ResumeOutcome.RESUMED)
    assert human.read() == {"ingest_paused": False}


async def test_a_human_paused_before(human: Human, operator: Operator) -> None:
    human.run(RUNBOOK)
    before = human.version()
    producer = operator()
    got = await paused(producer)
    assert got.outcome is PauseOutcome.ALREADY_PAUSED
    for version in ("", before):
        left = await producer.resume(token="ns/etl/1", version=version, previous=None)
        assert isinstance(left, Resumed)
        assert left.outcome in {ResumeOutcome.NOT_OURS, ResumeOutcome.CHANGED_SINCE}
    assert (human.read(), human.version()) == ({"ingest_paused": True}, before)


async def test_a_human_resumed_meanwhile(human: Human, operator: Operator) -> None:
    held = await paused(operator())
    human.write({"ingest_paused": False})
    before = human.version()
    assert (await resumed(operator(), held)).outcome is ResumeOutcome.NOT_PAUSED
    assert human.version() == before


async def test_a_human_runs_the_runbook_over_ours(human: Human, operator: Operator) -> None:
    """The token is still the operator's; only the row's version gives it away."""
    held = await paused(operator())
    human.run(RUNBOOK)
    got = await resumed(operator(), held)
    assert got.outcome is ResumeOutcome.CHANGED_SINCE
    assert "by hand" in got.message
    assert human.read()["ingest_paused"] is True


async def test_a_human_runs_the_runbook_between_our_write_and_our_crash(
    human: Human, operator: Operator
) -> None:
    await paused(operator())
    human.run(RUNBOOK)
    again = await paused(operator())
    assert again.outcome is PauseOutcome.ALREADY_OURS
    assert again.version != human.version()
    assert (await resumed(operator(), again)).outcome is ResumeOutcome.CHANGED_SINCE
    # Nor does the version help that a reading gave after the status was lost.
    now = Paused(PauseOutcome.PAUSED, human.version())
    assert (await resumed(operator(), now)).outcome is ResumeOutcome.CHANGED_SINCE


async def test_a_human_wipes_our_mark(human: Human, operator: Operator) -> None:
    held = await paused(operator())
    human.write({"ingest_paused": True})
    assert (await resumed(operator(), held)).outcome is ResumeOutcome.CHANGED_SINCE
    got = await operator().resume(token="ns/etl/1", version="", previous=None)
    assert isinstance(got, Resumed)
    assert got.outcome is ResumeOutcome.NOT_OURS


async def test_a_mark_left_behind_is_taken_over_not_kept(human: Human, operator: Operator) -> None:
    await paused(operator())
    human.run("UPDATE feature_flags SET data = jsonb_set(data, '{ingest_paused}', 'false')")
    held = await paused(operator(), "ns/etl/2")
    assert (held.outcome, held.previous) == (PauseOutcome.PAUSED, "false")
    assert (await resumed(operator(), held, "ns/etl/2")).outcome is ResumeOutcome.RESUMED
    assert human.read() == {"ingest_paused": False}


async def test_another_operators_pause(human: Human, operator: Operator) -> None:
    held = await paused(operator(), "other/1")
    assert (await paused(operator())).outcome is PauseOutcome.ALREADY_PAUSED
    assert (await resumed(operator(), held)).outcome is ResumeOutcome.NOT_OURS
    assert (await resumed(operator(), held, "other/1")).outcome is ResumeOutcome.RESUMED


async def test_without_a_mark_only_the_version_proves_it(human: Human, operator: Operator) -> None:
    producer = operator(write_owner=False)
    held = await paused(producer)
    assert human.read() == {"ingest_paused": True}
    assert (await seen(producer)).token is None
    # After a crash it cannot be distinguished from a person's pause: safe.
    assert (await paused(producer)).outcome is PauseOutcome.ALREADY_PAUSED
    human.run(RUNBOOK)
    assert (await resumed(producer, held)).outcome is ResumeOutcome.CHANGED_SINCE


@pytest.mark.parametrize("how", ["VACUUM FREEZE", "VACUUM FULL"])
async def test_vacuum_is_no_write(human: Human, operator: Operator, how: str) -> None:
    held = await paused(operator())
    human.run(f"{how} feature_flags")
    assert human.version() == held.version
    assert (await resumed(operator(), held)).outcome is ResumeOutcome.RESUMED


async def test_no_row_is_loud_and_the_fix_runs_as_printed(human: Human, operator: Operator) -> None:
    producer = operator(name='it\'s "new"', path=("ingest", "paused"))
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.ROW_MISSING
    got = await paused(producer)
    assert (got.outcome, got.message) == (PauseOutcome.ROW_MISSING, reading.message)
    assert (await resumed(producer, got)).outcome is ResumeOutcome.ROW_MISSING
    human.run(reading.message.split("run: ")[1])
    assert (await seen(producer)).value is FlagValue.RUNNING
    assert (await paused(producer)).outcome is PauseOutcome.PAUSED


@pytest.mark.parametrize(
    ("data", "path", "said"),
    [
        ("NULL", ("ingest_paused",), "is NULL"),
        ("'null'", ("ingest_paused",), "JSON null"),
        ("'[\"planted\"]'", ("ingest_paused",), "JSON array"),
        ("'\"planted\"'", ("ingest_paused",), "JSON string"),
        ("'true'", ("ingest_paused",), "JSON boolean"),
        ("'{}'", ("ingest", "paused"), "no place for true or false at ingest.paused"),
        ("'{\"ingest\": 1}'", ("ingest", "paused"), "no place for true or false at ingest.paused"),
    ],
)
async def test_a_bad_shape_is_loud_and_left_alone(
    human: Human, operator: Operator, data: str, path: tuple[str, ...], said: str
) -> None:
    human.run(f"UPDATE feature_flags SET data = {data}")
    before = human.version()
    producer = operator(path=path)
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert (reading.why, said in reading.message) == (Why.BAD_SHAPE, True)
    assert "planted" not in reading.message
    got = await paused(producer)
    assert (got.outcome, got.message) == (PauseOutcome.BAD_SHAPE, reading.message)
    assert (await resumed(producer, got)).outcome is ResumeOutcome.BAD_SHAPE
    assert human.version() == before
    if "run: " in reading.message:
        human.run(reading.message.split("run: ")[1])
        assert (await paused(producer)).outcome is PauseOutcome.PAUSED


@pytest.mark.parametrize("value", ['{"token": "planted"}', '["planted"]'])
async def test_what_is_no_flag_is_not_overwritten(
    human: Human, operator: Operator, value: str
) -> None:
    human.run(f"UPDATE feature_flags SET data = '{{\"ingest_paused\": {value}}}'")
    before = human.version()
    producer = operator()
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.BAD_SHAPE
    got = await paused(producer)
    assert (got.outcome, got.previous) == (PauseOutcome.BAD_SHAPE, None)
    assert "planted" not in got.message
    assert human.version() == before


async def test_a_value_that_status_could_not_hold_is_not_overwritten(
    human: Human, operator: Operator
) -> None:
    human.write({"ingest_paused": "x" * MOST_PREVIOUS_BYTES})
    before = human.version()
    reading = await operator().read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.BAD_SHAPE
    got = await paused(operator())
    assert (got.outcome, got.previous) == (PauseOutcome.BAD_SHAPE, None)
    assert human.version() == before


async def test_two_rows_of_one_name_are_a_bad_shape(human: Human, operator: Operator) -> None:
    human.run("ALTER TABLE feature_flags DROP CONSTRAINT feature_flags_name_key")
    human.run("INSERT INTO feature_flags (name) VALUES ('ingest_control')")
    producer = operator()
    got = await paused(producer)
    assert (got.outcome, "2" in got.message) == (PauseOutcome.BAD_SHAPE, True)
    reading = await producer.read()
    assert isinstance(reading, Unknown)
    assert reading.why is Why.BAD_SHAPE
    assert human.read() == {}


@pytest.mark.parametrize("kind", ["json", "jsonb"])
async def test_names_schema_and_type_are_the_applications(
    human: Human, operator: Operator, kind: str
) -> None:
    human.run("CREATE SCHEMA app")
    human.run(f'CREATE TABLE app."Order" ("select" uuid PRIMARY KEY, "Value" {kind} NOT NULL)')
    key = "7b0c1d7e-8d0c-4c53-9d44-1a0f3a2c3f11"
    human.run(f"""INSERT INTO app."Order" VALUES ('{key}', '{{"a": {{"b": {{"keep": 1}}}}}}')""")
    producer = operator(
        table="app.Order", name=key, name_column="select", data_column="Value", path=("a", "b", "c")
    )
    held = await paused(producer)
    assert held.outcome is PauseOutcome.PAUSED
    assert (await seen(producer)).token == "ns/etl/1"
    assert (await resumed(producer, held)).outcome is ResumeOutcome.RESUMED
    assert human.session.execute('SELECT "Value"::text::jsonb FROM app."Order"').fetchone() == (
        {"a": {"b": {"keep": 1}}},
    )


async def test_a_row_in_somebodys_hands_is_not_waited_for(
    human: Human, operator: Operator, flag_url: str
) -> None:
    producer = operator()
    await seen(producer)
    with psycopg.connect(flag_url) as editor:
        editor.execute("SELECT * FROM feature_flags FOR UPDATE")
        got = await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT)
        assert isinstance(got, Unknown)
        assert got.why is Why.LOCK_BUSY
        left = await producer.resume(token="ns/etl/1", version="", previous=None)
        assert isinstance(left, Unknown)
        assert (await seen(producer)).value is FlagValue.RUNNING  # reading takes no lock
    assert (await paused(producer)).outcome is PauseOutcome.PAUSED


@pytest.mark.parametrize(
    ("statement", "flag", "why"),
    [
        ("DROP TABLE feature_flags", {}, Why.TABLE_NOT_FOUND),
        ("ALTER TABLE feature_flags DROP COLUMN data", {}, Why.COLUMN_NOT_FOUND),
        ("SELECT 1", {"name_column": "title"}, Why.COLUMN_NOT_FOUND),
    ],
)
async def test_a_table_of_another_make(
    human: Human, operator: Operator, statement: str, flag: dict[str, str], why: Why
) -> None:
    human.run(statement)
    producer = operator(**flag)
    for got in (
        await producer.read(),
        await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT),
        await producer.resume(token="ns/etl/1", version="1", previous=None),
    ):
        assert isinstance(got, Unknown)
        assert got.why is why


async def test_a_read_only_server(human: Human, operator: Operator) -> None:
    name = human.session.info.dbname
    human.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    producer = operator()
    assert (await seen(producer)).value is FlagValue.RUNNING
    got = await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT)
    assert isinstance(got, Unknown)
    assert got.why is Why.READ_ONLY


async def test_a_write_that_is_swallowed_is_no_pause(human: Human, operator: Operator) -> None:
    human.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER swallow BEFORE UPDATE ON feature_flags FOR EACH ROW"
        " EXECUTE FUNCTION swallow()"
    )
    got = await operator().pause(owner="ns/etl", token="ns/etl/1", at=AT)
    assert isinstance(got, Unknown)
    assert got.why is Why.NO_PERMISSION


async def test_a_trigger_that_touches_the_row_is_no_other_writer(
    human: Human, operator: Operator
) -> None:
    human.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END';"
        "CREATE TRIGGER touch BEFORE UPDATE ON feature_flags FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    held = await paused(operator())
    assert (await resumed(operator(), held)).outcome is ResumeOutcome.RESUMED


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("text", "planted", "no JSON"),
        ("json", '{"planted": "\\u0000"}', "u0000"),
        ("json", '{"planted": "\\ud800"}', "surrogate"),
        ("boolean", "true", "featureFlag.dataColumn"),
        ("bytea", "planted", "featureFlag.dataColumn"),
    ],
)
async def test_a_column_that_cannot_be_read_as_json_says_what_to_correct(
    human: Human, operator: Operator, kind: str, data: str, said: str
) -> None:
    human.run("ALTER TABLE feature_flags DROP COLUMN data")
    human.run(f"ALTER TABLE feature_flags ADD COLUMN data {kind}")
    human.run(f"UPDATE feature_flags SET data = '{data}'")
    producer = operator()
    for got in (
        await producer.read(),
        await producer.pause(owner="ns/etl", token="ns/etl/1", at=AT),
    ):
        assert isinstance(got, Unknown)
        assert (got.why, said in got.message) == (Why.BAD_SHAPE, True)
        assert "planted" not in got.message


async def test_a_token_of_megabytes_is_not_read(human: Human, operator: Operator) -> None:
    human.run(
        "UPDATE feature_flags SET data = jsonb_build_object('ingest_paused', true,"
        " 'ingest_paused_by', jsonb_build_object('token', repeat('x', 1000000)))"
    )
    reading = await seen(operator())
    assert reading.value is FlagValue.PAUSED
    assert reading.token is not None
    assert len(reading.token) < 1_000
