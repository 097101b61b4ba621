"""When to read before the interval is over: only for a breaker that is about to open."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.simulator.given import NOW, later, spec

from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    QueueBacklogPolicyStatus,
    RuleStatus,
)
from starforge_backlog.decide.breakers.next_trip import next_trip

POLICY = spec(
    producers=[{"name": "ingestion", "featureFlag": {}}],
    breakers=[
        {
            "name": "b",
            "pause": ["ingestion"],
            "trip": [{"waiting": 100, "for": "1m"}, {"oldestAge": "10m", "for": "30s"}],
        }
    ],
)
WAITING = "waiting>=100"
OLDEST = "oldestAge>=10m"


def status(
    *rules: RuleStatus, state: BreakerState = BreakerState.CLOSED
) -> QueueBacklogPolicyStatus:
    return QueueBacklogPolicyStatus(breakers=(BreakerStatus(name="b", state=state, rules=rules),))


def test_the_rule_that_ripens_first() -> None:
    both = status(
        RuleStatus(signal=WAITING, exceeded_since=NOW),
        RuleStatus(signal=OLDEST, exceeded_since=later(20)),
    )
    assert next_trip(POLICY, both, later(25)) == later(50)


def test_a_rule_of_an_older_spec_is_passed_over() -> None:
    old = status(RuleStatus(signal="waiting>=50", exceeded_since=NOW))
    assert next_trip(POLICY, old, NOW) is None


@pytest.mark.parametrize(
    "rule",
    [
        RuleStatus(signal=WAITING),
        RuleStatus(signal=WAITING, exceeded_since=NOW, unknown_since=later(1)),
        RuleStatus(signal=WAITING, exceeded_since=NOW - timedelta(minutes=1)),
    ],
    ids=["not exceeded", "cannot be read", "over already"],
)
def test_no_trip_is_due(rule: RuleStatus) -> None:
    assert next_trip(POLICY, status(rule), later(2)) is None


@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_only_closed_breakers_open(state: BreakerState) -> None:
    counting = status(RuleStatus(signal=WAITING, exceeded_since=NOW), state=state)
    assert next_trip(POLICY, counting, later(2)) is None
