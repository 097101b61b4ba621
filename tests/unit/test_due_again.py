"""When a pass cannot wait for the interval. Breakers that would open: test_decide_next_trip.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tests.simulator.given import NOW, fresh_policy, later, seen, workload
from tests.simulator.situations import UID
from tests.unit.guards import HPA, TARGET, TOKEN, hpa

from starforge_backlog.api.status import GuardStatus, QueueBacklogPolicyStatus, ScalingStatus
from starforge_backlog.decide.again import due_again
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.snapshot import Known


def test_a_pass_right_after_a_step_is_followed_by_one_with_a_new_sample() -> None:
    """The samples of a second are shared. An owner who raises the maximum within it would keep it
    raised for a whole interval."""
    policy = fresh_policy(target=TARGET, interval="5m", breakers=[], producers=[])
    policy.status = QueueBacklogPolicyStatus(
        scaling=ScalingStatus(
            replicas=4,
            applied_replicas=4,
            target_uid=UID,
            next_step_not_before=NOW + policy.spec.scaling.observe_for,  # lowered now
            guard=GuardStatus(
                kind=HPA, name="hpa", uid="hpa-1", token=TOKEN, previous_maximum=20, maximum=4
            ),
        )
    )
    soon = later(0.2)

    def decided(sampled: float) -> tuple[ScalingReason, datetime | None]:
        snapshot = seen(at=soon, target=workload(replicas=4, uid=UID))
        database = snapshot.database
        assert database is not None
        assert isinstance(database.connections, Known)
        old = replace(database.connections, at=later(sampled))
        plan = policy.decide(
            replace(
                snapshot,
                database=replace(database, connections=old),
                autoscaler=Known(hpa(15, kept_maximum=None), soon),
            )
        )
        return plan.assessment.scaling_reason, due_again(policy.spec, plan, plan.status, soon)

    assert decided(-0.5) == (ScalingReason.BUDGET_NOT_KNOWN, soon + timedelta(seconds=1))
    reason, again = decided(0.1)
    assert reason is not ScalingReason.BUDGET_NOT_KNOWN
    assert again is None
