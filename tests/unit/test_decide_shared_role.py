"""Another client under the workers' role is not forgotten because pools are half empty (P1)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    Policy,
    connections,
    fresh_policy,
    later,
    per_replica,
    unknown,
    workload,
)
from tests.simulator.pasts import remembering, storm

from starforge_backlog.api.status import BudgetStatus, Surplus
from starforge_backlog.decide.budget.shared_role import KEPT_FOR, remember_surplus, surplus
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import Claim, Connections

SHARED = (Claim("ns/b", "worker", 30), Claim("ns/c", "other", 99))


@pytest.mark.parametrize(
    ("held", "more", "claims", "found"),
    [
        (65, {}, (), 25),
        (40, {}, (), 0),
        (0, {}, (), 0),
        (65, {"own": 1, "own_role": "worker"}, (), 24),
        (65, {"own": 1}, (), 25),
        (95, {}, SHARED, 25),
    ],
)
def test_what_no_worker_can_have(
    held: int, more: dict[str, Any], claims: tuple[Claim, ...], found: int
) -> None:
    there = connections(by_role={"worker": held}, **more)
    assert surplus(there, per_replica(10), workload(4), claims) == found


GONE = later(-60)


@pytest.mark.parametrize(
    ("before", "found", "settled", "after"),
    [
        (None, 0, True, None),
        (None, 25, True, Surplus(connections=25)),
        # Sessions of pods that have just ended cannot be distinguished.
        (None, 25, False, None),
        (Surplus(connections=20), 25, True, Surplus(connections=25)),
        (Surplus(connections=20), 25, False, Surplus(connections=20)),
        # It wobbles.
        (Surplus(connections=25), 20, True, Surplus(connections=25)),
        (Surplus(connections=25), 19, True, Surplus(connections=25, gone_since=NOW)),
        (
            Surplus(connections=25, gone_since=GONE),
            0,
            True,
            Surplus(connections=25, gone_since=GONE),
        ),
        (Surplus(connections=25, gone_since=GONE), 25, True, Surplus(connections=25)),
        # For good: not a ratchet.
        (Surplus(connections=25, gone_since=NOW - KEPT_FOR), 0, True, None),
        (Surplus(connections=25, gone_since=NOW - KEPT_FOR), 9, True, Surplus(connections=9)),
        (Surplus(connections=25, gone_since=NOW - KEPT_FOR), 9, False, None),
    ],
)
def test_how_long_it_is_remembered(
    before: Surplus | None, found: int, settled: bool, after: Surplus | None
) -> None:
    assert remember_surplus(before, found, settled=settled, now=NOW) == after


def shared(held: int) -> Connections:
    """A web application of 25 connections logs in as the workers do."""
    roles = {"web": 60, "worker": held}
    return connections(by_role=roles, peak_by_role=roles, clients=60 + held)


def passed(policy: Policy, at: float, open_now: Any) -> BudgetStatus | None:
    target = workload(11, max_surge="0")
    return policy.decide(storm(at, open_now=open_now, target=target)).status.budget


def others(policy: Policy, at: float, held: int) -> int:
    found = passed(policy, at, shared(held))
    assert found is not None
    return found.others


def past() -> Policy:
    return remembering(fresh_policy(breakers=[]), applied_replicas=11)


def test_the_budget_stands_when_the_pools_are_half_empty() -> None:
    """Eleven pods of ten, full and half empty: 25 of the role's connections are not theirs."""
    policy = past()
    assert others(policy, 0, 110 + 25) == 60 + 25
    assert others(policy, 15, 50 + 25) == 60 + 25
    assert others(policy, 15 + 899, 50 + 25) == 60 + 25
    assert others(policy, 15 + 915, 50 + 25) == 60 + 25  # the pass that forgets it
    assert others(policy, 15 + 930, 50 + 25) == 60


def test_a_time_without_readings_forgets_nothing() -> None:
    policy = past()
    others(policy, 0, 110 + 25)
    passed(policy, 7200, unknown())
    assert others(policy, 7215, 50) == 60 + 25


def test_a_step_of_ours_leaves_nothing_behind() -> None:
    """Right after a step down, connections of the pod that went are nobody's surplus."""
    policy = past()
    scaling = policy.status.scaling.model_copy(update={"next_step_not_before": later(60)})
    policy.status = policy.status.model_copy(update={"scaling": scaling})
    others(policy, 15, 120)
    assert policy.status.scaling.surplus is None


def test_neither_does_another_policy_of_the_same_role() -> None:
    policy = past()
    target = workload(11, max_surge="0")
    policy.decide(storm(open_now=shared(150), target=target, claims=SHARED))
    assert policy.status.scaling.surplus is None
    policy = past()
    policy.decide(storm(open_now=shared(150), target=target, claims=SHARED[1:]))
    assert policy.status.scaling.surplus == Surplus(connections=40)


def test_what_is_there_all_the_time_writes_nothing() -> None:
    policy = past()
    others(policy, 0, 135)
    first = policy.status.scaling.surplus
    for at in range(15, 1800, 15):
        others(policy, at, 135 - at % 4)
        assert policy.status.scaling.surplus == first


def test_it_is_said_with_the_fix() -> None:
    policy = past()
    others(policy, 0, 135)
    target = workload(11, max_surge="0")
    plan = policy.decide(storm(15, open_now=shared(110), target=target))
    headroom = report(policy.spec, policy.status, plan, (), 1, later(15)).condition(
        "DatabaseHeadroom"
    )
    assert headroom is not None
    assert "25 connections of the workers' role are not from the workers" in headroom.message
    assert "a database role of their own" in headroom.message
