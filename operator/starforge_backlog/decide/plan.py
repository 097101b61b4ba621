"""What a decision returns: actions in the order to carry them out, and the status to remember."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from starforge_backlog.api.status import PauseStatus, QueueBacklogPolicyStatus


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause a producer under a token that is in status before the write."""

    producer: str
    breaker: str
    token: str
    why: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Release a pause of ours; `held` says where it is and proves that it is ours."""

    held: PauseStatus
    why: str


class StepKind(StrEnum):
    """Why replicas change."""

    UP = "Up"
    DOWN = "Down"  # the work is done
    REVERT = "Revert"  # the step before failed
    OVER_BUDGET = "OverBudget"  # one window at a time
    SAFE = "Safe"  # over budget and under pressure: to the safe size in one write


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """Write `replicas` if the workload is still what we saw (`version`)."""

    kind: StepKind
    from_: int
    to: int
    version: str
    connections: int  # what the target can hold after it, surge and terminating included (P1)
    why: str


Action = Pause | Resume | ScaleTo


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass' decision. In `Observe` mode `actions` holds only releases of our own pauses, and
    `would` says what would have been done."""

    actions: tuple[Action, ...]
    would: tuple[str, ...]
    status: QueueBacklogPolicyStatus
