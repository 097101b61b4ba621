"""Condition `ConsumersHealthy`: what the pods, and the controller that makes them, say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.simulator.given import NOW, fresh_policy, queue, seen, workload

from starforge_backlog.report.status import report
from starforge_backlog.snapshot import NotReady

SINCE = datetime(2026, 1, 1, 2, 3, 4, tzinfo=UTC)
QUOTA = 'FailedCreate: pods "etl-worker-1-x" is forbidden: exceeded quota: pods'
PULL = NotReady("etl-worker-2-x", "ImagePullBackOff")


@pytest.mark.parametrize(
    ("pods", "status", "reason", "says"),
    [
        ({"ready": 4}, "True", "AllReady", ["4 of 4"]),
        (
            {"ready": 2, "pods": 2, "not_created_why": QUOTA},
            "False",
            "PodsNotCreated",
            ["2 of 4", "no more can be created", "exceeded quota"],
        ),
        # A quota that only keeps a rollout's surge from starting takes no replica away.
        ({"ready": 4, "pods": 4, "not_created_why": QUOTA}, "True", "AllReady", ["4 of 4"]),
        (
            {
                "ready": 3,
                "pods": 5,
                "pending": 2,
                "rolling_out": True,
                "stuck_since": SINCE,
                "not_ready": PULL,
            },
            "False",
            "RolloutStuck",
            [
                "no progress since 2026-01-01 02:03:04 UTC",
                str(PULL),
                "kubectl rollout undo deployment/etl-worker",
            ],
        ),
    ],
)
def test_consumers(pods: dict[str, Any], status: str, reason: str, says: list[str]) -> None:
    policy = fresh_policy()
    plan = policy.decide(seen(target=workload(4, **pods), queues=queue(10)))
    done = report(policy.spec, policy.status, plan, (), 1, NOW)
    condition = done.condition("ConsumersHealthy")
    assert condition is not None
    assert (condition.status, condition.reason) == (status, reason)
    for part in says:
        assert part in condition.message
