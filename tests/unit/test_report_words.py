"""What people read: numbers that stand still, one Event per transition, a sentence with an end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.given import (
    NOW,
    connections,
    fresh_policy,
    health,
    later,
    queue,
    seconds,
    seen,
    spec,
)
from tests.simulator.pasts import storm

from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    Condition,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
    Step,
    StepVerdict,
)
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.plan import Pause, ScaleTo, StepKind
from starforge_backlog.decide.results import Failed, Paused, PauseOutcome, Result, Written
from starforge_backlog.report.rounding import age_text, count_text, rate_text
from starforge_backlog.report.status import report
from starforge_backlog.report.transitions import transitions
from starforge_backlog.snapshot import Confidence, Connections, Count, Known, Unknown, Why

UP = ScaleTo(StepKind.UP, 4, 6, "7", 1, 24, "an objective is missed")
NEW = QueueBacklogPolicyStatus()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "<10"), (9, "<10"), (10, "10"), (47, "47"), (5234, "5200"), (99_951, "100000")],
)
def test_counts_have_two_digits(value: int, text: str) -> None:
    assert count_text(Known(Count(value), NOW), "") == text


def test_nothing_is_shown_as_nothing_where_nothing_arrives() -> None:
    """A queue that keeps up has none and a few in turn: that is one text (P7)."""
    none, few = Known(Count(0), NOW), Known(Count(3), NOW)
    assert count_text(none, "", idle=True) == "0"
    assert count_text(none, "<10", idle=True) == "0"
    assert count_text(none, "0") == "0"
    assert count_text(few, "0", idle=True) == "<10"
    assert count_text(none, "<10") == "<10"


def test_a_cap_an_estimate_and_nothing_are_distinguished() -> None:
    assert count_text(Known(Count(100_000, Confidence.AT_LEAST), NOW), "") == "≥100000"
    assert count_text(Known(Count(5200, Confidence.ESTIMATED), NOW), "5200") == "~5200"
    assert count_text(Unknown(Why.TIMEOUT, "late", NOW), "5200") == "unknown"


@given(st.integers(10, 10**7), st.lists(st.floats(0.97, 1.03), max_size=20))
def test_a_count_that_wobbles_is_one_text(level: int, wobbles: list[float]) -> None:
    first = count_text(Known(Count(level), NOW), "")
    texts = {first}
    for wobble in wobbles:
        texts.add(count_text(Known(Count(max(10, round(level * wobble))), NOW), first))
    assert texts == {first}


@given(st.floats(0.1, 1000), st.floats(0.85, 1.15))
def test_a_rate_that_wobbles_is_one_text(level: float, wobble: float) -> None:
    first = rate_text(Known(level, NOW), "")
    assert rate_text(Known(level * wobble, NOW), first) == first


@pytest.mark.parametrize(
    ("age", "text"), [(0, "<10s"), (9, "<10s"), (34, "30s"), (750, "12m"), (7_900, "2h10m")]
)
def test_ages_are_coarse(age: int, text: str) -> None:
    assert age_text(Known(timedelta(seconds=age), NOW), "") == text


def ready(message: str) -> QueueBacklogPolicyStatus:
    condition = Condition(
        type="Ready",
        status="False",
        reason="NoPermission",
        message=message,
        last_transition_time=NOW,
    )
    return QueueBacklogPolicyStatus(conditions=(condition,))


@pytest.mark.parametrize(("waiters", "reported"), [(None, 1), (0, 0)])
def test_lock_waiters_that_nobody_watches_are_said_once(waiters: int | None, reported: int) -> None:
    policy = fresh_policy(breakers=[])
    plan = policy.decide(storm(state=health(lock_waiters=waiters)))
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    headroom = status.condition("DatabaseHeadroom")
    assert headroom is not None
    assert headroom.message.count("lock waiters: not watched") == reported
    assert str(status).count("not watched") == reported


def test_a_scale_that_is_refused_again_is_one_event() -> None:
    refused = (Result(UP, Failed(Why.NO_PERMISSION, "may not patch deployments/scale")),)
    first = transitions(NEW, NEW, refused)
    assert [(note.reason, note.warning) for note in first] == [("ScaleFailed", True)]
    assert "4 -> 6" in first[0].text
    known = ready("may not patch deployments/scale")
    assert transitions(known, known, refused) == ()
    other = (Result(UP, Failed(Why.TIMEOUT, "no answer")),)
    assert [note.reason for note in transitions(known, known, other)] == ["ScaleFailed"]


def test_a_scale_that_is_refused_waits_for_its_window_and_one_that_may_have_happened_is_kept() -> (
    None
):
    step = Step(from_=4, to=6, message="w", at=NOW)
    intent = QueueBacklogPolicyStatus(
        scaling=ScalingStatus(last_step=step, next_step_not_before=later(90))
    )
    refused = merge(intent, (Result(UP, Failed(Why.NO_PERMISSION, "no")),), NOW).scaling
    assert (refused.last_step, refused.next_step_not_before) == (None, later(90))
    unclear = merge(intent, (Result(UP, Failed(Why.TIMEOUT, "no answer")),), NOW).scaling
    assert unclear.last_step == step
    done = merge(intent, (Result(UP, Written(6)),), NOW).scaling
    assert (done.applied_replicas, done.last_step) == (6, step)


def test_a_verdict_is_an_event_once_even_when_the_next_step_followed() -> None:
    judged = Step(
        from_=2, to=4, message="w", at=NOW, verdict=StepVerdict.PASSED, verdict_message="good"
    )
    following = Step(from_=4, to=6, message="w", at=later(90))
    after = QueueBacklogPolicyStatus(scaling=ScalingStatus(last_step=following, last_judged=judged))
    assert [note.reason for note in transitions(NEW, after, ())] == ["StepPassed"]
    assert transitions(after, after, ()) == ()


def test_a_breaker_and_its_pause_are_reported_with_their_numbers() -> None:
    opened = BreakerStatus(name="b", state=BreakerState.OPEN, since=NOW, message="6000 waiting")
    paused = Result(Pause("ingestion", "b", "t", "6000 waiting"), Paused(PauseOutcome.PAUSED, "9"))
    notes = transitions(NEW, QueueBacklogPolicyStatus(breakers=(opened,)), (paused,))
    assert [(note.reason, "6000 waiting" in note.text) for note in notes] == [
        ("BreakerOpen", True),
        ("Paused", True),
    ]


def sentence(state: BreakerState, after: float) -> str:
    """The summary that long after the breaker's last transition."""
    policy = spec()
    entry = PauseStatus(
        producer="ingestion",
        by=PausedBy.US,
        state=PauseState.HELD,
        since=NOW,
        token="t",
        version="1",
    )
    before = QueueBacklogPolicyStatus(
        breakers=(BreakerStatus(name="ingestion", state=state, since=NOW, trips=1),),
        paused=(entry,) if state is BreakerState.OPEN else (),
    )
    now = later(after)
    plan = decide(policy, before, seen(), now, owner="uid-1", hold="looking at it")
    held = plan.with_status(before)
    return report(policy, before, held, (), 1, now).summary


def test_the_sentence_says_what_ends_a_pause() -> None:
    assert "ingestion paused by the operator" in sentence(BreakerState.OPEN, 10)
    assert "goes half-open once waiting is below 2500 for 2m" in sentence(BreakerState.OPEN, 10)
    assert f"half-open, until {later(300):%H:%M:%S} UTC" in sentence(BreakerState.HALF_OPEN, 0)


def test_the_sentence_says_who_holds() -> None:
    assert "looking at it" in sentence(BreakerState.OPEN, 10)


def test_nothing_changes_when_nothing_changed() -> None:
    policy, now = spec(), NOW
    status = NEW
    for _ in range(3):
        snapshot = seen()
        plan = decide(policy, status, snapshot, now, owner="uid-1")
        status, before = report(policy, status, plan, (), 1, now), status
        now += seconds(1)
    assert status == before


def shown(status: QueueBacklogPolicyStatus, others: int) -> QueueBacklogPolicyStatus:
    """The status after a pass with that many connections of other clients."""
    policy = spec()
    web = connections(by_role={"web": others}, peak_by_role={"web": others}, clients=others)
    snapshot = seen(open_now=web)
    return report(policy, status, decide(policy, status, snapshot, NOW, owner="u"), (), 1, NOW)


def test_a_connection_less_of_others_is_no_write_and_one_more_is() -> None:
    first = shown(shown(NEW, 60), 60)
    assert shown(first, 59) == first
    more = shown(first, 61)
    assert more.budget is not None
    assert more.budget.others == 61
    fewer = shown(first, 30)
    assert fewer.budget is not None
    assert fewer.budget.others == 30


def test_a_peak_that_is_over_is_no_reason_to_change_a_policy() -> None:
    """Another client held 90 of 200 connections and has left."""
    peak = connections(peak_by_role={"web": 190}, by_role={}, peak_until={"web": later(600)})
    found = reported(peak)
    assert (found.status, found.reason) == ("False", "MinimumAboveBudget")
    assert "peak of role web: 190 connections, which count until " in found.message
    assert "lower it" not in found.message


def test_workers_whose_role_is_not_on_the_server_are_not_counted_as_other_clients() -> None:
    """The pods' URL has the name that a pooler knows them by."""
    found = reported(connections(roles=frozenset({"web", "etl"})))
    assert (found.status, found.reason) == ("Unknown", "NotConfigured")
    assert "role worker" in found.message
    assert "spec.database.workerRole" in found.message
    there = reported(connections(roles=frozenset({"web", "worker"})))
    assert there.status == "True"


def reported(open_now: Connections) -> Condition:
    """The condition DatabaseHeadroom of a pass that saw this."""
    policy = spec()
    plan = decide(policy, NEW, seen(open_now=open_now), NOW, owner="uid-1")
    status = report(policy, NEW, plan, (), 1, NOW)
    return next(c for c in status.conditions if c.type == "DatabaseHeadroom")


@pytest.mark.parametrize(
    ("count", "status", "reason"),
    [
        (Count(40, Confidence.AT_LEAST), "Unknown", "Capped"),
        (Count(40), "True", "WithinObjectives"),
        (Count(600, Confidence.AT_LEAST), "True", "MissedForNow"),
    ],
)
def test_a_lower_bound_says_that_too_many_wait_and_never_that_few_do(
    count: Count, status: str, reason: str
) -> None:
    reading = replace(queue(waiting=0), waiting=Known(count, NOW))
    policy = spec()
    plan = decide(policy, NEW, seen(queues=reading), NOW, owner="uid-1")
    found = report(policy, NEW, plan, (), 1, NOW).conditions
    (reported,) = [c for c in found if c.type == "BacklogHealthy"]
    assert (reported.status, reported.reason) == (status, reason)
