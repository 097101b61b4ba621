"""What a policy reports to the others on its server, by the reason of its decision."""

from __future__ import annotations

import pytest
from tests.simulator.given import workload
from tests.simulator.situations import other_clients

from starforge_backlog.decide.budget.shares import cost
from starforge_backlog.decide.claims import reported_claim
from starforge_backlog.decide.reasons import ScalingReason, stored
from starforge_backlog.snapshot import Claim, Why

RUNNING, WANTED = 4, 9
BEFORE = 70
PODS = workload(RUNNING)
CLAIM = Claim("ns/etl", "etl", 40, per_replica=10, asked=BEFORE)
SOON = [
    "RolloutInProgress",
    "BudgetNotKnown",
    "NotYetObserved",
    "Stale",
    "Timeout",
    "Unreachable",
]
NOT_SOON = [
    "ReplicaConflict",
    "RolloutPaused",
    "ScaledToZero",
    "GuardTaken",
    "AutoscalerNotFound",
    "GuardMismatch",
    "NoPermission",
    "TargetNotFound",
    "BadShape",
    "Error",
]


def reported(reason: str) -> Claim:
    ended_with = stored(reason)
    assert ended_with is not None
    found = reported_claim(CLAIM, other_clients(10, PODS), WANTED, PODS, ended_with)
    assert found is not None
    return found


@pytest.mark.parametrize("reason", ["Stepping", "Steady", "Observing", "BudgetExhausted"])
def test_it_asks_for_what_it_would_step_to(reason: str) -> None:
    found = reported(reason)
    assert found.wanted == found.asked == cost(CLAIM, WANTED)


@pytest.mark.parametrize(
    "reason", ["Draining", "HoldDown", "PodsCrashing", "PodsPending", "Pressure"]
)
def test_more_would_be_of_no_use(reason: str) -> None:
    found = reported(reason)
    assert found.wanted == found.asked == cost(CLAIM, RUNNING)


@pytest.mark.parametrize("reason", SOON)
def test_what_may_be_over_with_the_next_pass_keeps_what_was_asked(reason: str) -> None:
    found = reported(reason)
    assert (found.wanted, found.asked) == (None, BEFORE)


@pytest.mark.parametrize("reason", NOT_SOON)
def test_what_it_cannot_move_it_asks_nothing_for(reason: str) -> None:
    found = reported(reason)
    assert (found.wanted, found.asked) == (None, None)


@pytest.mark.parametrize("why", Why)
def test_whatever_cannot_be_read_asks_nothing_of_others(why: Why) -> None:
    assert reported(why).wanted is None


def test_without_a_budget_nothing_is_reported() -> None:
    assert reported_claim(CLAIM, None, WANTED, PODS, ScalingReason.STEADY) is None
    assert (
        reported_claim(CLAIM, other_clients(10, PODS), WANTED, None, ScalingReason.STEADY) is None
    )
