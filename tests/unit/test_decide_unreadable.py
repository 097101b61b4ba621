"""Rules that cannot be judged: a pause ends all the same, nothing resumes on a guess, and it is
said (P2, P4, P8). Each row of the table in `decide/breakers/unreadable.py`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    Policy,
    at_least,
    fresh_policy,
    later,
    queue,
    seen,
    unknown,
)
from tests.simulator.pasts import held, kinds, remembering

from starforge_backlog.api.policy import Breaker
from starforge_backlog.api.status import BreakerState, QueueBacklogPolicyStatus, RuleStatus
from starforge_backlog.decide.breakers.signals import signals
from starforge_backlog.decide.breakers.unreadable import decisive, explain_unreadable
from starforge_backlog.decide.plan import Plan
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import (
    Confidence,
    Count,
    FlagValue,
    Known,
    ProducerReading,
    QueueReading,
    Unknown,
    Why,
)

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
NO_INDEX = Unknown(Why.NO_INDEX, "no index leads to failed jobs; create one on finished_at", NOW)
WAITING = {"waiting": 5000, "for": "10m"}
FAILED = {"failedPercent": 5, "for": "5m"}
OLDEST = {"oldestAge": "10m", "for": "5m"}
USED = {"databaseUtilizationPercent": 90, "for": "2m"}


def tripping(*trips: dict[str, Any]) -> list[dict[str, Any]]:
    recover = {"belowPercent": 50, "for": "2m", "probeFor": "5m"}
    return [{"name": "b", "pause": ["ingestion"], "trip": list(trips), "recover": recover}]


def breaker(*trips: dict[str, Any]) -> Breaker:
    return fresh_policy(breakers=tripping(*trips)).spec.breakers[0]


def about(jobs: int) -> Count:
    return Count(jobs, Confidence.ESTIMATED)


def room(jobs: int) -> Count:
    return Count(jobs, Confidence.AT_MOST)


def low(at: datetime = NOW, **readings: Any) -> QueueReading:
    """A queue that has recovered, of which some readings are replaced."""
    reading = queue(10, oldest=5, at=at)
    return replace(reading, **readings)


NO_TIME = Unknown(Why.NOT_IN_TABLE, "the table holds no time", NOW)


@pytest.mark.parametrize(
    ("trips", "reading", "enough"),
    [
        # Known, and what can never be read beside it.
        ((WAITING,), low(), True),
        ((WAITING, FAILED), low(outcomes=NO_INDEX), True),
        ((WAITING, OLDEST), low(oldest_due_age=NO_TIME), True),
        ((FAILED, WAITING), low(outcomes=replace(NO_INDEX, why=Why.STATUS_NOT_MAPPED)), True),
        # Nothing at all is known then.
        ((FAILED,), low(outcomes=NO_INDEX), False),
        # It may come back.
        ((WAITING, FAILED), low(outcomes=unknown()), False),
        ((WAITING, FAILED), low(waiting=unknown(), outcomes=NO_INDEX), False),
        # Left out for a while by an observer that spares its database.
        ((WAITING, USED), low(waiting=NO_INDEX), False),
        ((OLDEST, USED), low(oldest_due_age=NO_INDEX), False),
        # A count that stopped below the value says neither high nor low.
        ((WAITING, USED), low(waiting=Known(at_least(4999), NOW)), False),
        ((WAITING,), low(waiting=Known(at_least(5000), NOW)), True),
        # An estimate needs something exact beside it.
        ((WAITING,), low(waiting=Known(about(10), NOW)), False),
        ((WAITING, USED), low(waiting=Known(about(10), NOW)), True),
        # A sample that shows none leaves room for some: below the value it is an estimate.
        ((WAITING, USED), low(waiting=Known(room(5000), NOW)), False),
        ((WAITING, USED), low(waiting=Known(room(400), NOW)), True),
        ((WAITING,), low(waiting=Known(room(400), NOW)), False),
    ],
)
def test_what_is_enough_to_resume(
    trips: tuple[dict[str, Any], ...], reading: QueueReading, enough: bool
) -> None:
    found = signals(breaker(*trips), {"jobs": reading}, Known(10.0, NOW))
    assert decisive(found) is enough
    assert (explain_unreadable("b", OPEN, found) == "") is enough
    assert (explain_unreadable("b", HALF_OPEN, found) == "") is enough


@pytest.mark.parametrize(
    ("state", "reading", "sentence"),
    [
        (OPEN, low(outcomes=unknown()), "cannot probe: failedPercent>=5 unknown: connection ref"),
        (HALF_OPEN, low(outcomes=unknown()), "the probe cannot be judged: failedPercent>=5 unkn"),
        (OPEN, low(outcomes=NO_INDEX), ""),
        (
            CLOSED,
            low(outcomes=NO_INDEX),
            "cannot trip: failedPercent>=5 unknown: no index leads to",
        ),
        (CLOSED, low(outcomes=unknown()), ""),  # passes by itself, and `Ready` says it
        (
            CLOSED,
            low(waiting=Known(at_least(4999), NOW)),
            "cannot trip: waiting>=5000 unknown: jobs are not counted as far as 5000",
        ),
        (OPEN, low(waiting=Known(at_least(4999), NOW)), "cannot probe: waiting>=5000 unknown: job"),
        (CLOSED, low(), ""),
    ],
)
def test_what_is_said(state: BreakerState, reading: QueueReading, sentence: str) -> None:
    found = signals(breaker(WAITING, FAILED), {"jobs": reading}, Known(10.0, NOW))
    said = explain_unreadable("b", state, found)
    assert said.startswith(f"breaker b: {sentence}") if sentence else said == ""


def test_one_queue_that_may_come_back_outweighs_one_that_never_will() -> None:
    queues = [{"name": "a", "postgres": {}}, {"name": "b", "postgres": {}}]
    policy = fresh_policy(queues=queues, breakers=tripping(WAITING, FAILED))
    (rule,) = policy.spec.breakers
    never, gone = low(outcomes=NO_INDEX), low(outcomes=unknown())
    for readings in ({"a": never, "b": gone}, {"a": gone, "b": never}):
        assert not decisive(signals(rule, readings, Known(10.0, NOW)))
    assert decisive(signals(rule, {"a": never, "b": low()}, Known(10.0, NOW)))


# --- over time -------------------------------------------------------------------------------


def opened(*trips: dict[str, Any]) -> Policy:
    """A policy that paused its producer ten minutes ago."""
    policy = remembering(
        fresh_policy(breakers=tripping(*trips)), breaker=OPEN, paused=(held(breaker="b"),)
    )
    (state,) = policy.status.breakers
    policy.status = policy.status.model_copy(
        update={"breakers": (state.model_copy(update={"name": "b"}),)}
    )
    return policy


def ours(at: float) -> Known[ProducerReading]:
    reading = ProducerReading(FlagValue.PAUSED, held().token, "5")
    return Known(reading, later(at))


def passes(policy: Policy, until: int, **readings: Any) -> list[Plan]:
    """Pass after pass, with these readings as they are of each moment."""

    def of(at: int) -> QueueReading:
        return low(later(at), **{n: replace(r, at=later(at)) for n, r in readings.items()})

    return [
        policy.decide(seen(at=later(at), queues=of(at), producers=ours(at)))
        for at in range(0, until, 15)
    ]


def test_a_rule_that_can_never_be_read_does_not_hold_a_pause_for_ever() -> None:
    plans = passes(opened(WAITING, FAILED), 150, outcomes=NO_INDEX)
    assert kinds(plans[-1]) == ["Resume"]


@pytest.mark.parametrize(
    "hidden",
    [
        {"outcomes": unknown()},
        {"waiting": Known(at_least(100), NOW)},
        {"waiting": Known(about(10), NOW)},
    ],
)
def test_what_is_not_known_resumes_nothing(hidden: dict[str, Any]) -> None:
    policy = opened(WAITING, FAILED) if "outcomes" in hidden else opened(WAITING)
    plans = passes(policy, 900, **hidden)
    assert [plan for plan in plans if plan.actions] == []


def test_a_rule_that_can_be_read_again_counts_again() -> None:
    policy = opened(WAITING, FAILED)
    passes(policy, 60, outcomes=NO_INDEX)
    high = queue(10, oldest=5, failed=50, at=later(200))
    plan = policy.decide(seen(at=later(200), queues=high, producers=ours(200)))
    assert plan.status.breakers[0].state is OPEN


def test_a_count_that_stops_below_the_value_does_not_end_a_rule_that_counts() -> None:
    """A narrower cap is no sign that the backlog shrank."""
    policy = fresh_policy(breakers=tripping({"waiting": 200, "for": "1m"}))
    for at, waiting in ((0, Count(250)), (30, Count(250)), (45, at_least(100)), (60, Count(250))):
        policy.decide(seen(at=later(at), queues=queue(waiting, at=later(at))))
    plan = policy.decide(seen(at=later(75), queues=queue(250, at=later(75))))
    assert plan.status.breakers[0].state is OPEN


# --- said ------------------------------------------------------------------------------------


def reported(policy: Policy, plan: Plan, before: QueueBacklogPolicyStatus) -> tuple[str, str]:
    """Condition ProducersRunning, and the summary."""
    status = report(policy.spec, before, plan, (), 1, NOW)
    condition = status.condition("ProducersRunning")
    assert condition is not None
    return condition.message, status.summary


def test_an_open_breaker_says_what_it_waits_for() -> None:
    policy = opened(WAITING, FAILED)
    plan = policy.decide(seen(queues=low(outcomes=unknown()), producers=ours(0)))
    sentence = "breaker b: cannot probe: failedPercent>=5 unknown: connection refused"
    message, summary = reported(policy, plan, policy.status)
    assert message.startswith("ingestion paused by breaker b")
    assert message.endswith(sentence)
    assert sentence in summary


def test_a_closed_breaker_says_which_rule_is_of_no_use() -> None:
    policy = fresh_policy(breakers=tripping(WAITING, FAILED))
    plan = policy.decide(seen(queues=low(outcomes=NO_INDEX)))
    message, summary = reported(policy, plan, policy.status)
    sentence = f"breaker b: cannot trip: failedPercent>=5 unknown: {NO_INDEX.message}"
    assert message == f"no producer is paused; {sentence}"
    assert "cannot trip" not in summary  # nothing is wrong now: the sentence is for what is


def test_a_rule_that_is_unknown_keeps_what_it_counted() -> None:
    before = RuleStatus(signal="failedPercent>=5", exceeded_since=later(-60))
    policy = opened(WAITING, FAILED)
    (state,) = policy.status.breakers
    closed = state.model_copy(update={"state": CLOSED, "rules": (*state.rules, before)})
    policy.status = policy.status.model_copy(update={"breakers": (closed,)})
    plan = policy.decide(seen(queues=low(outcomes=NO_INDEX), producers=ours(0)))
    rule = plan.status.breakers[0].rules[1]
    assert (rule.exceeded_since, rule.unknown_since) == (later(-60), NOW)
