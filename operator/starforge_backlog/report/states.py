"""The columns STATE and CAUSE of `kubectl get qbp`, as words that machines may compare. Pure."""

from __future__ import annotations

from typing import Final

from starforge_backlog.api.policy import Mode, QueueBacklogPolicySpec
from starforge_backlog.api.status import PolicyState, QueueBacklogPolicyStatus
from starforge_backlog.decide.plan import Plan
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.report.draft import TRUE

# Before the numbers, where no rule explains a backlog.
UNKNOWN_CAUSE: Final = "Unknown"


def state_of(
    spec: QueueBacklogPolicySpec, plan: Plan, status: QueueBacklogPolicyStatus
) -> PolicyState:
    """What a person did comes first: it explains why nothing is done whatever else is wrong."""
    reason = plan.assessment.scaling_reason
    if reason is ScalingReason.HELD:
        return PolicyState.HELD
    if reason is ScalingReason.SUSPENDED:
        return PolicyState.SUSPENDED
    ready = status.condition("Ready")
    if ready is not None and ready.status != TRUE:
        return PolicyState.NOT_READY
    return PolicyState.OBSERVE if spec.mode is Mode.OBSERVE else PolicyState.ENFORCE


def cause_name(cause: str) -> str:
    """`ProducerStorm` of `ProducerStorm (earlier)`, `Unknown` of `Unknown: 40/s arrive`."""
    return cause.partition(":")[0].partition(" ")[0]
