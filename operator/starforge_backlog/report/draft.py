"""A condition in the making: what it says, before it has a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from starforge_backlog.api.status import Condition, ConditionStatus, QueueBacklogPolicyStatus

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
# Enough for several causes with their fix; a condition message is not a log.
MESSAGE_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Draft:
    """A condition before it has a time."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""


def dated(
    draft: Draft, status: QueueBacklogPolicyStatus, generation: int, now: datetime
) -> Condition:
    """A condition; its transition time moves only when its status flips."""
    before = status.condition(draft.type)
    flipped = before is None or before.status != draft.status
    return Condition(
        type=draft.type,
        status=draft.status,
        reason=draft.reason,
        message=draft.message,
        last_transition_time=now if before is None or flipped else before.last_transition_time,
        observed_generation=generation,
    )
