"""The columns STATE and CAUSE of `kubectl get qbp`, as words that machines may compare. Pure."""

from __future__ import annotations

from typing import Final

from starforge_backlog.api.policy import Mode, QueueBacklogPolicySpec
from starforge_backlog.api.status import PolicyState, QueueBacklogPolicyStatus
from starforge_backlog.decide.plan import Cause, Plan
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


def earlier(cause: Cause) -> str:
    """The column while the miss that the cause led to lasts, and the cause is not seen any more."""
    return f"{cause} (earlier)"


def unexplained(numbers: str) -> str:
    """The column while no rule explains the miss."""
    return f"{UNKNOWN_CAUSE}: {numbers}"


def cause_of(column: str) -> Cause | None:
    """The cause that the column is about, seen now or earlier."""
    return next((cause for cause in Cause if column in {cause, earlier(cause)}), None)


def cause_name(column: str) -> str:
    """The column in one word, with nothing that changes with the numbers."""
    if not column:
        return ""
    return cause_of(column) or UNKNOWN_CAUSE
