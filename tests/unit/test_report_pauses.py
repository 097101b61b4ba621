"""What people read of pauses: what was paused, how far, whom it concerns, and whether it works."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    OWNER,
    Policy,
    flag,
    fresh_policy,
    later,
    queue,
    seen,
    spec,
    unknown,
)

from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    Condition,
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.decide.results import (
    Failed,
    Paused,
    PauseOutcome,
    Result,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.report.effect import useless
from starforge_backlog.report.faults import broken_readings
from starforge_backlog.report.status import report
from starforge_backlog.report.summary import done
from starforge_backlog.report.transitions import transitions
from starforge_backlog.snapshot import (
    Consumers,
    FlagValue,
    Known,
    Pooler,
    ProducerReading,
    QueueReading,
    Reading,
    Unknown,
    Why,
)

NEW = QueueBacklogPolicyStatus()
BACKFILLS: dict[str, Any] = {"name": "backfills", "backfillJobs": {}}
API: dict[str, Any] = {"name": "ingestion", "featureFlag": {}}
TYPES: dict[str, Any] = {"name": "types", "jobTypes": {"types": ["backfill_range"]}}
TOKEN = f"{OWNER}/ingestion/2026"


def entry(name: str = "ingestion", state: PauseState = PauseState.HELD, **more: Any) -> PauseStatus:
    whole = {
        "by": PausedBy.US,
        "since": later(-600),
        "breaker": "b",
        "token": TOKEN,
        "version": "1",
    }
    return PauseStatus(producer=name, state=state, **{**whole, **more})


def pause(name: str, way: str, *, again: bool = False) -> Pause:
    return Pause(name, "b", TOKEN, "5200 waiting", way=way, again=again)


# --- one action in words -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "previous", "words"),
    [
        ("featureFlag", "false", "paused it (5200 waiting)"),
        ("backfillJobs", '{"1": ["a"]}', "paused it: 1 running backfill (5200 waiting)"),
        ("backfillJobs", '{"1": [], "2": []}', "paused it: 2 running backfills (5200 waiting)"),
        ("backfillJobs", None, "paused it: 0 running backfills (5200 waiting)"),
        ("jobTypes", '{"held": 7}', "paused it: 7 waiting jobs held back (5200 waiting)"),
        ("queue", None, "paused it: its workers are given no more jobs (5200 waiting)"),
        ("workload", "3", "paused it: 3 replicas scaled to none (5200 waiting)"),
        ("workload", None, "paused it: suspended (5200 waiting)"),
        ("workload", "false", "paused it: suspended (5200 waiting)"),
        ("jobTypes", "edited", "paused it: 0 waiting jobs held back (5200 waiting)"),
    ],
)
def test_what_was_paused(way: str, previous: str | None, words: str) -> None:
    paused = Paused(PauseOutcome.PAUSED, "1", previous)
    assert done(Result(pause("it", way), paused)) == words


def test_a_release_in_part_says_how_far() -> None:
    result = Result(Resume(entry(), "recovered"), Resumed(ResumeOutcome.PARTLY, "9 of 20 jobs"))
    assert done(result) == "resumed a part of ingestion (recovered): 9 of 20 jobs"


# --- Events: once, when something begins -------------------------------------------------------

PAUSED = Paused(PauseOutcome.PAUSED, "1")


@pytest.mark.parametrize(
    ("result", "reasons"),
    [
        (Result(pause("a", "jobTypes"), PAUSED), ["Paused"]),
        (Result(pause("a", "jobTypes", again=True), PAUSED), []),
        (Result(pause("a", "jobTypes", again=True), Failed(Why.TIMEOUT, "late")), ["PauseFailed"]),
        (Result(Resume(entry(), ""), Resumed(ResumeOutcome.PARTLY, "9 of 20")), ["Resuming"]),
        (
            Result(
                Resume(entry(progress=PauseProgress.RESUMING), ""),
                Resumed(ResumeOutcome.PARTLY, "18"),
            ),
            [],
        ),
        (
            Result(
                Resume(entry(progress=PauseProgress.RESUMING), ""), Resumed(ResumeOutcome.RESUMED)
            ),
            ["Resumed"],
        ),
    ],
)
def test_events(result: Result, reasons: list[str]) -> None:
    assert [note.reason for note in transitions(NEW, NEW, (result,))] == reasons


def test_an_opening_names_the_owners_and_a_closing_does_not() -> None:
    def status(state: BreakerState) -> QueueBacklogPolicyStatus:
        one = BreakerStatus(name="b", state=state, message="75% failed", owners=("#etl", "#ops"))
        return QueueBacklogPolicyStatus(breakers=(one,))

    (opened,) = transitions(NEW, status(BreakerState.OPEN), ())
    assert opened.text == "breaker b opened: 75% failed; owners #etl, #ops (no message was sent)"
    (half,) = transitions(status(BreakerState.OPEN), status(BreakerState.HALF_OPEN), ())
    assert "#etl" not in half.text


# --- status, condition and sentence ------------------------------------------------------------


def reported(
    *entries: PauseStatus,
    readings: dict[str, Reading[ProducerReading]] | None = None,
    owners: tuple[str, ...] = (),
    now: datetime = NOW,
    queues: QueueReading | None = None,
    results: tuple[Result, ...] = (),
) -> QueueBacklogPolicyStatus:
    """The status after a pass that was held, so that the entries are as given."""
    policy = spec(producers=[API, BACKFILLS, TYPES])
    one = BreakerStatus(name="ingestion", state=BreakerState.OPEN, since=NOW, owners=owners)
    before = QueueBacklogPolicyStatus(breakers=(one,), paused=entries)
    snapshot = seen(at=now, queues=queues, producers=readings)
    plan = decide(policy, before, snapshot, now, owner=OWNER, hold="a test")
    return report(policy, before, plan.with_status(before), results, 1, now)


def producers_running(status: QueueBacklogPolicyStatus) -> Condition:
    found = status.condition("ProducersRunning")
    assert found is not None
    return found


def test_the_condition_reports_every_pause_and_whom_it_concerns() -> None:
    found = producers_running(
        reported(
            entry(),
            entry(
                "types", progress=PauseProgress.PARTIAL, message="50000 jobs are held back so far"
            ),
            entry("backfills", PauseState.REFUSED, message="there is no such table"),
            owners=("#etl",),
        )
    )
    assert (found.status, found.reason) == ("False", "PauseFailed")
    for text in (
        "backfills is NOT paused: there is no such table",
        "ingestion paused by breaker b since",
        "types paused by breaker b since",
        "in part so far: 50000 jobs are held back so far",
        "breaker ingestion is open; owner #etl (no message was sent)",
    ):
        assert text in found.message


def test_what_people_resumed_is_running_unless_something_else_is_paused() -> None:
    lifted = entry("types", PauseState.OVERRIDDEN, by=PausedBy.OTHER, message="somebody resumed it")
    assert producers_running(reported(lifted)).status == "True"
    assert producers_running(reported(lifted, entry())).status == "False"


def test_the_sentence_names_owners_and_what_is_under_way() -> None:
    resuming = entry("types", progress=PauseProgress.RESUMING, message="9 of 20 jobs")
    summary = reported(entry(), resuming, owners=("#etl", "#ops")).summary
    assert "ingestion paused by the operator, types resumed in part" in summary
    assert "breaker ingestion is open; owners #etl, #ops (no message was sent)" in summary


def test_a_leak_changes_no_sentence() -> None:
    """Every pass of a storm finds new jobs of a type that is held back: P7, nothing to write."""
    again = Result(pause("types", "jobTypes", again=True), PAUSED)
    kept = entry("types", previous='{"held": 7}')
    assert reported(kept).summary == reported(kept, results=(again,)).summary


def test_readings_of_workers_and_attempts_are_shown_where_they_are_known() -> None:
    def shown(reading: QueueReading) -> tuple[str, str]:
        (found,) = reported(queues=reading).queues
        return found.failed_attempts_per_second, found.workers

    one = queue()
    assert shown(one) == ("", "")
    given = replace(
        one,
        failed_attempts_per_second=Known(2.53, NOW),
        consumers=Known(Consumers(live=3), NOW),
    )
    assert shown(given) == ("2.5", "3")
    assert shown(replace(given, consumers=Known(Consumers(live=None), NOW))) == ("2.5", "")
    gone = replace(given, failed_attempts_per_second=unknown(), consumers=unknown())
    assert shown(gone) == ("unknown", "unknown")


# --- faults that have to be fixed
# ----------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "not_ready"),
    [(Why.QUERY_ERROR, True), (Why.SEVERAL_SERIES, True), (Why.NO_INDEX, False)],
)
def test_an_expression_that_is_refused_makes_a_policy_not_ready(why: Why, not_ready: bool) -> None:
    policy = fresh_policy()
    found = broken(policy, queue(arrivals=unknown(why)))
    assert (found == ["queue jobs"]) is not_ready


def broken(policy: Policy, reading: QueueReading) -> list[str]:
    plan = policy.decide(seen(queues=reading))
    return [str(what) for what, _ in broken_readings(policy.spec, plan)]


def test_a_connection_pooler_that_cannot_be_read_is_reported() -> None:
    policy = fresh_policy()
    snapshot = seen()
    assert snapshot.database is not None
    late: Reading[Pooler] = unknown(Why.TIMEOUT)
    without = replace(snapshot, database=replace(snapshot.database, pooler=late))
    plan = policy.decide(without)
    assert [str(what) for what, _ in broken_readings(policy.spec, plan)] == ["pgbouncer"]


# --- verified by its effect --------------------------------------------------------------------

ALL = (API, BACKFILLS, TYPES)
PAUSED_NOW = flag(FlagValue.PAUSED, token=TOKEN)
LEAKING: Reading[ProducerReading] = Known(
    ProducerReading(FlagValue.PAUSED, TOKEN, "1", leaking=True), NOW
)


@pytest.mark.parametrize(
    ("arrivals", "since", "others", "verdict"),
    [
        (10.0, -600, {"backfills": PAUSED_NOW}, True),
        (5.1, -600, {"backfills": PAUSED_NOW}, True),
        (5.0, -600, {"backfills": PAUSED_NOW}, False),
        # The rates' window of 90 s, and the time that caches of the flag live, lie in the pause.
        (10.0, -119, {"backfills": PAUSED_NOW}, False),
        (10.0, -120, {"backfills": PAUSED_NOW}, True),
        # Something else feeds the queue, and is not paused: what arrives may be its jobs.
        (10.0, -600, {"backfills": flag()}, False),
        (10.0, -600, {"backfills": LEAKING}, False),
        (10.0, -600, {"backfills": unknown()}, False),
        (10.0, -600, {}, False),
        # What only holds work back plays no part: jobs of these types still arrive.
        (10.0, -600, {"backfills": PAUSED_NOW, "types": flag()}, True),
        # Unknown is not zero, and not as much as before either.
        (unknown(), -600, {"backfills": PAUSED_NOW}, False),
    ],
)
def test_a_pause_without_effect(
    arrivals: float | Unknown,
    since: float,
    others: dict[str, Reading[ProducerReading]],
    verdict: bool,
) -> None:
    held = entry(since=later(since), arrivals_before=10.0)
    snapshot = seen(queues=queue(arrivals=arrivals), producers={"ingestion": PAUSED_NOW, **others})
    policy = spec(producers=list(ALL), scaling={"observeFor": "90s"})
    status = QueueBacklogPolicyStatus(paused=(held,))
    assert useless(policy, snapshot, status, held, NOW) is verdict


@pytest.mark.parametrize("name", ["types", "gone"])
def test_only_what_feeds_a_queue_is_seen_in_arrivals(name: str) -> None:
    held = entry(name, arrivals_before=10.0)
    every = {each["name"]: PAUSED_NOW for each in ALL}
    snapshot = seen(queues=queue(arrivals=10.0), producers=every)
    status = QueueBacklogPolicyStatus(paused=(held,))
    assert not useless(spec(producers=list(ALL)), snapshot, status, held, NOW)


def test_a_pause_that_cannot_be_read_counts_as_one_while_it_is_held() -> None:
    held = entry(arrivals_before=10.0)
    snapshot = seen(queues=queue(arrivals=10.0), producers=unknown(Why.NOT_CONFIGURED))
    status = QueueBacklogPolicyStatus(paused=(held,))
    assert useless(spec(), snapshot, status, held, NOW)
    assert not useless(spec(), snapshot, QueueBacklogPolicyStatus(), held, NOW)


def test_the_condition_says_that_a_pause_has_no_effect() -> None:
    found = producers_running(
        reported(
            entry(arrivals_before=10.0),
            readings={"ingestion": PAUSED_NOW, "backfills": PAUSED_NOW},
            queues=queue(arrivals=10.0),
        )
    )
    assert found.reason == "PausedWithoutEffect"
    assert "is something else enqueueing?" in found.message
