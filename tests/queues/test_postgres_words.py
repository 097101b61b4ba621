"""Status words of other people's tables: what is not understood is not healthy, at any size."""

from __future__ import annotations

from dataclasses import replace
from typing import LiteralString

import pytest

from starforge_backlog.api.queue import PostgresQueue, Queue, StatusNames
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.decide.assess.need import load
from starforge_backlog.decide.assess.objectives import missed, readable
from starforge_backlog.queues.postgres.holds import holds_of
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.snapshot import Confidence, Count, Known, QueueReading, Unknown, Why

from . import schemas
from .conftest import Admin, Recorder, Watcher, run

pytestmark = pytest.mark.postgres

QUEUE = Queue.model_validate({"name": "jobs", "postgres": {}})

BIG = replace(ObserverSettings(), small_pages=8, sample_pages=4_000, word_pages=1_000)
SAMPLED = replace(BIG, sample_pages=100)
# An index that holds every row by its status, one that holds waiting jobs alone, and none.
CLAIMS: dict[str, LiteralString] = {
    "by status": "CREATE INDEX claim ON queue_jobs (status, run_after)",
    "waiting only": "CREATE INDEX claim ON queue_jobs (run_after) WHERE status = 'pending'",
    "none": "SELECT",
}


def odd_table(admin: Admin, index: LiteralString) -> None:
    run(
        admin,
        *schemas.BARE,
        index,
        """INSERT INTO queue_jobs (type, status)
           SELECT 'a', CASE WHEN g <= 20000 THEN 'retrying' WHEN g <= 20100 THEN 'completed'
                            ELSE 'pending' END FROM generate_series(1, 20107) g""",
        "VACUUM ANALYZE queue_jobs",
    )


@pytest.mark.parametrize(
    ("settings", "index"),
    [
        (ObserverSettings(), "none"),
        (BIG, "by status"),
        (BIG, "waiting only"),
        (SAMPLED, "none"),
    ],
    ids=["counted in full", "index of all words", "index of one word", "sample of blocks"],
)
async def test_jobs_with_a_word_that_nobody_knows_are_not_healthy(
    admin: Admin, recorder: Recorder, settings: ObserverSettings, index: str
) -> None:
    odd_table(admin, CLAIMS[index])
    seen = await Watcher(recorder, settings).read()
    assert isinstance(seen.oldest_due_age, Unknown)
    assert seen.oldest_due_age.why is Why.STATUS_NOT_MAPPED
    shown = {"none": "20000", "by status": "≥10000", "waiting only": "~20000"}[index]
    shown = "~" if settings is SAMPLED else shown
    assert f"retrying ({shown}" in seen.oldest_due_age.message
    assert "spec.queues[jobs].postgres.statuses" in seen.oldest_due_age.message
    assert seen.oldest_due_age.message in seen.notes
    assert not readable(QUEUE, seen)
    if settings is not SAMPLED:
        assert isinstance(seen.waiting, Known)
        assert seen.waiting.value == Count(7, Confidence.AT_LEAST)
    assert isinstance(seen.throughput_per_second, Unknown), "what left may not have left"
    assert isinstance(seen.outcomes, Unknown)


@pytest.mark.parametrize(
    "statuses",
    [StatusNames(ignored=("retrying",)), StatusNames(failed=("retrying",))],
    ids=["ignored on purpose", "mapped"],
)
@pytest.mark.parametrize("settings", [ObserverSettings(), BIG], ids=["small", "big"])
async def test_a_word_that_the_policy_explains_is_no_fault(
    admin: Admin, recorder: Recorder, settings: ObserverSettings, statuses: StatusNames
) -> None:
    odd_table(admin, CLAIMS["by status"])
    seen = await Watcher(recorder, settings).read(PostgresQueue(statuses=statuses))
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(7)
    assert readable(QUEUE, seen)
    if settings is not BIG and statuses.ignored:
        assert seen.notes == ("Jobs with status retrying are not counted.",)


async def test_what_is_known_to_be_missed_is_acted_on_beside_an_odd_word(
    admin: Admin, watcher: Watcher
) -> None:
    """One odd row must not hide 600 others from the operator."""
    run(
        admin,
        *schemas.BARE,
        "INSERT INTO queue_jobs (type) SELECT 'a' FROM generate_series(1, 600)",
        "INSERT INTO queue_jobs (type, status) VALUES ('a', 'odd')",
    )
    await watcher.read()
    seen = await watcher.read()
    assert [str(miss) for miss in missed(QUEUE, seen)] == ["waiting ≥600 > 500"]
    waits = [part for part in load([("jobs", seen)]).missing if "arrivals" not in part]
    assert waits == []


async def test_a_word_of_another_type_of_jobs_is_none_of_this_queues(
    admin: Admin, watcher: Watcher
) -> None:
    run(
        admin,
        *schemas.BARE,
        "INSERT INTO queue_jobs (type, status) VALUES ('a', 'pending'), ('b', 'odd')",
    )
    mine = await watcher.read(PostgresQueue(types=("a",)))
    assert isinstance(mine.waiting, Known)
    assert mine.waiting.value == Count(1)
    other = await watcher.read(PostgresQueue(types=("b",)))
    assert not readable(QUEUE, other)


async def test_rows_without_a_word_are_named_and_can_be_ignored(
    admin: Admin, watcher: Watcher
) -> None:
    run(
        admin,
        *schemas.SCHEMA_SQL,
        "INSERT INTO queue_jobs (type, status) VALUES ('a', 'pending'), ('a', NULL)",
    )
    seen = await watcher.read()
    assert "NULL (1 jobs)" in seen.notes[0]
    ignored = await watcher.read(PostgresQueue(statuses=StatusNames(ignored=("NULL",))))
    assert readable(QUEUE, ignored)


async def test_a_recognised_word_that_appears_later_is_understood(
    admin: Admin, watcher: Watcher
) -> None:
    """The column was known to hold `pending`; then another client writes `queued`."""
    run(admin, *schemas.BARE, "INSERT INTO queue_jobs (type) VALUES ('a')")
    assert readable(QUEUE, await watcher.read())
    run(admin, "INSERT INTO queue_jobs (type, status) VALUES ('a', 'queued')")
    await watcher.read()
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(2)


async def test_a_slow_search_for_words_costs_no_count(admin: Admin, recorder: Recorder) -> None:
    odd_table(admin, CLAIMS["waiting only"])
    recorder.fault = DatabaseFault(Why.TIMEOUT, "Ended by its limit.", sqlstate="57014")
    recorder.fails_on = "TABLESAMPLE"
    seen = await Watcher(recorder, BIG).read()
    assert isinstance(seen.waiting, Known)
    assert any("could not be searched for" in note for note in seen.notes)
    # What the last ANALYZE knew needs no read of a row.
    assert seen.waiting.value.confidence is Confidence.AT_LEAST
    assert "retrying" in seen.notes[0]
    assert not readable(QUEUE, seen)


async def test_thousands_of_words_and_types_are_bounded(admin: Admin, watcher: Watcher) -> None:
    """An application that stores a sentence as the status and a payload as the type."""
    run(
        admin,
        *schemas.BARE,
        """INSERT INTO queue_jobs (type, status)
           SELECT repeat(md5(g::text), 200), CASE WHEN g <= 100 THEN 'pending'
                  ELSE 'sentence ' || repeat(md5(g::text), 100) END
             FROM generate_series(1, 6000) g""",
    )
    seen = await watcher.read()
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(100, Confidence.AT_LEAST)
    assert len(seen.types) == 64
    assert max(len(name) for name in seen.types) == 100
    assert all(len(note) < 1_000 for note in seen.notes)


MEANING = {"w": 400, "r": 3, "f": 20, "d": 500}
TYPES: dict[str, tuple[LiteralString, LiteralString, dict[str, str]]] = {
    # Type of the column, what makes it, and what stands for w, r, f, d.
    "smallint": ("smallint", "SELECT", {"w": "0", "r": "1", "f": "2", "d": "3"}),
    "bigint": ("bigint", "SELECT", {"w": "10", "r": "11", "f": "-1", "d": "100"}),
    "numeric": ("numeric(6,1)", "SELECT", {"w": "0.0", "r": "1.0", "f": "2.0", "d": "3.0"}),
    "enum": (
        "state",
        "CREATE TYPE state AS ENUM ('new', 'busy', 'bad', 'over')",
        {"w": "new", "r": "busy", "f": "bad", "d": "over"},
    ),
    "varchar": ("varchar(8)", "SELECT", {"w": "new", "r": "busy", "f": "bad", "d": "over"}),
    "char(n)": ("char(8)", "SELECT", {"w": "new", "r": "busy", "f": "bad", "d": "over"}),
    "one byte": ('"char"', "SELECT", {"w": "n", "r": "b", "f": "x", "d": "o"}),
    "domain": (
        "state",
        "CREATE DOMAIN state AS smallint CHECK (VALUE >= 0)",
        {"w": "0", "r": "1", "f": "2", "d": "3"},
    ),
    "domain of text": (
        "state",
        "CREATE DOMAIN state AS varchar(9)",
        {"w": "new", "r": "busy", "f": "bad", "d": "over"},
    ),
}


@pytest.mark.parametrize("kind", TYPES)
async def test_a_status_of_any_type_is_read_alike_at_every_size(
    admin: Admin, recorder: Recorder, kind: str
) -> None:
    """`status smallint` was read up to 8 MB, and refused (22P02) in the storm beyond it."""
    column, made, words = TYPES[kind]
    run(
        admin,
        made,
        "CREATE TABLE queue_jobs (id serial, type varchar(20) NOT NULL,"
        f" status {column} NOT NULL, run_after timestamptz NOT NULL DEFAULT now())",
        "CREATE INDEX claim ON queue_jobs (status, run_after)",
    )
    for part, jobs in MEANING.items():
        admin.execute(
            "INSERT INTO queue_jobs (type, status) SELECT 'a', x.word::text::"
            + column
            + " FROM (SELECT %s AS word) x, generate_series(1, %s)",
            (words[part], jobs),
        )
    spec = PostgresQueue(
        statuses=StatusNames(
            waiting=(words["w"],),
            in_progress=(words["r"],),
            failed=(words["f"],),
            finished=(words["d"],),
        )
    )
    small = await Watcher(recorder, ObserverSettings()).read(spec)
    assert small.how.startswith("counted in full")
    run(admin, "VACUUM ANALYZE queue_jobs")
    big = await Watcher(recorder, replace(ObserverSettings(), small_pages=1)).read(spec)
    assert big.how.startswith("head of the line")
    run(admin, "DROP INDEX claim", "CREATE INDEX claim ON queue_jobs (status, type, run_after)")
    typed = await Watcher(recorder, replace(ObserverSettings(), small_pages=1)).read(spec)
    assert typed.how.startswith("counted per type")
    for seen in (small, big, typed):
        assert counts(seen) == (400, 3, 20), seen
        assert seen.notes == ()


def counts(seen: QueueReading) -> tuple[int, ...]:
    found = []
    for reading in (seen.waiting, seen.in_progress, seen.failed):
        assert isinstance(reading, Known), reading
        assert reading.value.confidence is Confidence.EXACT
        found.append(reading.value.value)
    return tuple(found)


async def test_a_boolean_is_a_status_of_two_words(admin: Admin, watcher: Watcher) -> None:
    run(
        admin,
        "CREATE TABLE queue_jobs (type text, status boolean NOT NULL, run_after timestamptz)",
        "INSERT INTO queue_jobs VALUES ('a', false, now()), ('a', true, now())",
    )
    spec = PostgresQueue(statuses=StatusNames(waiting=("false",), finished=("true",)))
    seen = await watcher.read(spec)
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(1)


@pytest.mark.parametrize(
    ("column", "waiting", "finished"), [("char(10)", "new", "over"), ("boolean", "false", "true")]
)
async def test_words_of_the_statistics_are_those_of_the_rows(
    admin: Admin, recorder: Recorder, column: LiteralString, waiting: str, finished: str
) -> None:
    """Statistics keep the blanks of char(n) and write a boolean as t and f: after each ANALYZE
    every word of a big table with partial indexes was a strange one."""
    run(
        admin,
        "CREATE TABLE queue_jobs (id serial, type text NOT NULL,"
        f" status {column} NOT NULL, run_after timestamptz NOT NULL DEFAULT now())",
    )
    admin.execute(
        f"CREATE INDEX claim ON queue_jobs (run_after) WHERE status = '{waiting}'::{column}"
    )
    for word, jobs in ((waiting, 400), (finished, 600)):
        admin.execute(
            f"INSERT INTO queue_jobs (type, status) SELECT 'a', %s::text::{column}"
            " FROM generate_series(1, %s)",
            (word, jobs),
        )
    run(admin, "VACUUM ANALYZE queue_jobs")
    spec = PostgresQueue(statuses=StatusNames(waiting=(waiting,), finished=(finished,)))
    seen = await Watcher(recorder, replace(ObserverSettings(), small_pages=1)).read(spec)
    assert seen.how.startswith("head of the line")
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value == Count(400)
    assert seen.notes == ()


@pytest.mark.parametrize("kind", ["smallint", "json"])
async def test_a_column_that_has_no_words_says_so(
    admin: Admin, watcher: Watcher, kind: LiteralString
) -> None:
    run(admin, "CREATE TABLE queue_jobs (type text, status " + kind + ")")
    seen = await watcher.read()
    assert isinstance(seen.waiting, Unknown)
    assert kind in seen.waiting.message
    assert "spec.queues[jobs].postgres." in seen.waiting.message


@pytest.mark.parametrize(
    ("kind", "holds", "never"),
    [
        ("smallint", ("0", "-32768"), ("32768", "01", "1.0", "pending", "", "9" * 5000)),
        ("numeric", ("1", "1.50"), ("x", "1e3")),
        ("boolean", ("true",), ("t", "pending")),
        ('"char"', ("p",), ("pending",)),
        ("character varying", ("pending",), ()),
        ("public.citext", ("pending",), ()),
    ],
)
def test_what_a_column_can_hold(kind: str, holds: tuple[str, ...], never: tuple[str, ...]) -> None:
    column = holds_of(kind, (), None)
    assert column is not None
    assert [word for word in (*holds, *never) if column.can_hold(word)] == [*holds]


STORMS: dict[str, LiteralString] = {
    "never analyzed": "SELECT",
    "analyzed with a few that wait": """INSERT INTO queue_jobs (type, status)
        SELECT 'a', 'pending' FROM generate_series(1, 5)""",
    "analyzed without any": """INSERT INTO queue_jobs (type, status)
        SELECT 'a', 'done' FROM generate_series(1, 400)""",
}


@pytest.mark.parametrize("before", STORMS)
@pytest.mark.parametrize("schema", [schemas.MODEL, schemas.ENUM], ids=["all words", "waiting only"])
async def test_a_storm_into_a_small_table_is_read_by_the_workers_index(
    admin: Admin, recorder: Recorder, schema: tuple[LiteralString, ...], before: str
) -> None:
    """20,000 rows of 800 bytes, and statistics from before: the planner knows of none of them."""
    run(
        admin,
        *schema,
        "ALTER TABLE queue_jobs SET (autovacuum_enabled = off)",
        STORMS[before],
        "SELECT" if before == "never analyzed" else "ANALYZE queue_jobs",
    )
    watcher = Watcher(recorder, ObserverSettings())
    assert (await watcher.read()).how.startswith("counted in full")
    run(
        admin,
        """INSERT INTO queue_jobs (type, payload)
           SELECT 'a', to_jsonb(repeat(md5(g::text), 20)) FROM generate_series(1, 20000) g""",
    )
    await watcher.read()
    for _ in range(3):
        seen = await watcher.read()
        timed_out = isinstance(seen.waiting, Unknown) and seen.waiting.why is Why.TIMEOUT
        if not timed_out:  # on a machine that is busy with other tests
            break
    assert seen.how.startswith("head of the line: queue_jobs_claim")
    assert isinstance(seen.waiting, Known)
    assert seen.waiting.value.value > 10_000
    assert isinstance(seen.oldest_due_age, Known), seen.oldest_due_age


async def test_the_way_of_reading_is_chosen_again_when_the_table_was_analyzed(
    admin: Admin, recorder: Recorder
) -> None:
    run(
        admin,
        *schemas.BARE,
        """INSERT INTO queue_jobs (type, payload)
           SELECT 'a', to_jsonb(repeat(md5(g::text), 20)) FROM generate_series(1, 2000) g""",
        "SELECT pg_stat_force_next_flush()",
        "SELECT",
    )
    watcher = Watcher(recorder, replace(SAMPLED, small_pages=8))
    seen = await watcher.read()
    assert isinstance(seen.oldest_due_age, Unknown)
    assert "ANALYZE public.queue_jobs" in seen.oldest_due_age.message
    run(admin, "CREATE INDEX claim ON queue_jobs (status, run_after)", "ANALYZE queue_jobs")
    watcher.now += 10
    await watcher.read()
    assert isinstance((await watcher.read()).oldest_due_age, Known)
