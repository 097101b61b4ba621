"""A lowered maximum is given back when the policy lets go, and what is remembered of a write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.given import NOW, OWNER, fresh_policy, seen
from tests.unit.guards import HPA, TARGET, TOKEN, at, hpa, lowered, step

from starforge_backlog.api.status import (
    GuardStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
)
from starforge_backlog.decide.guard.maximum import guard, hand_back
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.plan import SetMaximum
from starforge_backlog.decide.results import Failed, MaximumOutcome, MaximumResult, Result
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import (
    Autoscaler,
    Known,
    Rival,
    Why,
)

# --- letting go --------------------------------------------------------------------------------

OURS = GuardStatus(kind=HPA, name="hpa", uid="hpa-1", token=TOKEN, previous_maximum=20, maximum=4)


def test_what_was_lowered_is_handed_back() -> None:
    back = hand_back(OURS, None, OWNER, "the policy is deleted")
    assert back is not None
    assert (back.from_, back.to, back.restore, back.most) == (4, 20, True, None)


def test_what_the_status_forgot_is_found_by_its_mark() -> None:
    back = hand_back(None, Known(lowered(4), NOW), OWNER, "why")
    assert back is not None
    assert (back.to, back.guard.token) == (20, TOKEN)


@pytest.mark.parametrize(
    "found", [None, hpa(20), hpa(20, token="uid-2/hpa/x", written=20, kept_maximum=30)]
)
def test_what_is_not_ours_is_left_alone(found: Autoscaler | None) -> None:
    untouched = GuardStatus(kind=HPA, name="hpa", maximum=20)
    assert hand_back(untouched, Known(found, NOW), OWNER, "why") is None


def as_restored(status: QueueBacklogPolicyStatus, done: SetMaximum) -> QueueBacklogPolicyStatus:
    got = MaximumResult(MaximumOutcome.WRITTEN, done.to)
    return merge(status, (Result(done, got),), NOW)


@pytest.mark.parametrize(
    "parts",
    [
        {"mode": "Observe", "target": TARGET},
        {"target": {"name": "etl-worker"}},
        {"target": {"name": "etl-worker", "guard": {"horizontalPodAutoscaler": "another"}}},
        {"target": {"name": "etl-worker", "guard": {"scaledObject": "hpa"}}},
    ],
)
def test_observe_and_an_edited_guard_release_it(parts: dict[str, Any]) -> None:
    policy = fresh_policy(**parts)
    policy.status = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=OURS))
    snapshot = replace(seen(), autoscaler=Known(None, NOW))
    plan = policy.decide(snapshot)
    (action,) = plan.actions
    assert isinstance(action, SetMaximum)
    assert (action.guard.name, action.to, action.restore) == ("hpa", 20, True)
    policy.status = as_restored(policy.status, action)
    again = policy.decide(snapshot)
    assert not any(isinstance(a, SetMaximum) for a in again.actions)


def test_observe_says_what_it_would_do_and_marks_nothing() -> None:
    policy = fresh_policy(mode="Observe", target=TARGET)
    plan = policy.decide(replace(seen(), autoscaler=Known(hpa(50), NOW)))
    assert plan.actions == ()
    assert "set the maximum of HorizontalPodAutoscaler hpa 50 -> " in plan.would[0]
    assert policy.status.scaling.guard is None


@pytest.mark.parametrize("hold", ["maintenance", None])
def test_held_or_suspended_nothing_is_done(hold: str | None) -> None:
    policy = fresh_policy(target=TARGET, suspend=hold is None)
    policy.hold = hold
    policy.status = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=OURS))
    assert policy.decide(replace(seen(), autoscaler=Known(lowered(4), NOW))).actions == ()


def test_a_younger_policy_lets_go_of_everything() -> None:
    policy = fresh_policy(target=TARGET)
    policy.status = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=OURS))
    rival = Rival("ns/old", "Deployment etl-worker")
    plan = policy.decide(replace(seen(), autoscaler=Known(lowered(4), NOW), rival=rival))
    (action,) = plan.actions
    assert isinstance(action, SetMaximum)
    assert action.restore
    assert plan.assessment.scaling_reason == "TargetTaken"


@pytest.mark.parametrize(
    ("got", "previous", "maximum"),
    [
        (MaximumResult(MaximumOutcome.WRITTEN, 11), 20, 11),
        (Failed(Why.TIMEOUT, "late"), 20, 11),
        (Failed(Why.NO_PERMISSION, "may not patch"), 20, None),
    ],
)
def test_what_is_remembered_of_a_write(got: Any, previous: int, maximum: int | None) -> None:
    action = step(guard(at(hpa(20))))
    assert action is not None
    before = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=action.guard))
    kept = merge(before, (Result(action, got),), NOW).scaling.guard
    assert kept is not None
    assert (kept.previous_maximum, kept.maximum) == (previous, maximum)


def test_a_maximum_that_could_not_be_written_is_no_step() -> None:
    policy = fresh_policy(target=TARGET)
    plan = policy.decide(replace(seen(), autoscaler=Known(hpa(50), NOW)))
    (action,) = plan.actions
    refused = Failed(Why.ADMISSION_REFUSED, "admission webhook says no")
    status = report(policy.spec, policy.status, plan, (Result(action, refused),), 1, NOW)
    scaling = status.condition("Scaling")
    assert scaling is not None
    assert (scaling.status, scaling.reason) == ("False", "AdmissionRefused")
    assert scaling.message == "admission webhook says no"
