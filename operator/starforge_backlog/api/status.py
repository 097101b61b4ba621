"""`QueueBacklogPolicy.status`: what the operator says, and what it must remember (P6).

Whatever a decision needs from earlier passes is here and nowhere else, so a restart carries on.
Numbers people read are rounded to two significant digits (a steady queue writes nothing);
numbers that decisions compare are kept as they were at the transition that stored them.

The schema holds no bounds that could refuse a write of the operator: a list is never longer than it
allows, because `api/fitting.py` cuts each to the same bound before it is written. How much text
each field may hold is in `api/bounds.py`. A field that is added later needs a default (see
`StatusModel`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import KEPT, PARAGRAPH, REMEMBERED, SENTENCE, WORD, Shown
from starforge_backlog.api.breaker import MOST_NAMES
from starforge_backlog.api.breaker_status import (
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
    RuleStatus,
)
from starforge_backlog.api.scaling_status import (
    Baseline,
    BudgetStatus,
    ExternalWriter,
    GuardStatus,
    Holder,
    OldPool,
    ScalingStatus,
    Step,
    StepFailure,
    StepVerdict,
    Surplus,
)
from starforge_backlog.api.terms import Schema, keyed, named, replaced

__all__ = [
    "Baseline",
    "BreakerState",
    "BreakerStatus",
    "BudgetStatus",
    "Condition",
    "ExternalWriter",
    "GuardStatus",
    "Holder",
    "OldPool",
    "PauseProgress",
    "PauseState",
    "PauseStatus",
    "PausedBy",
    "PolicyState",
    "QueueBacklogPolicyStatus",
    "QueueStatus",
    "RuleStatus",
    "ScalingStatus",
    "Step",
    "StepFailure",
    "StepVerdict",
    "Surplus",
]

MOST_CONDITIONS = 32
# Types of a queue that are shown, and what else a person should know of it.
MOST_TYPES_SHOWN = 20
MOST_NOTES = 8
# Pauses of producers that the spec still has (MOST_NAMES) and of those that were removed while
# the database could not be reached to release them.
MOST_PAUSES = 64


class ConditionStatus(StrEnum):
    """Whether what a condition is about holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """A `metav1.Condition`."""

    type: Annotated[str, KEPT]
    """What it is about; true is good, unless the name says otherwise."""

    status: Annotated[str, KEPT, Schema({"enum": [s.value for s in ConditionStatus]})]
    """True, False or Unknown."""

    reason: Annotated[str, Shown()]
    """Why, in one CamelCase word."""

    message: Annotated[str, Shown(PARAGRAPH)] = ""
    """Why, in a sentence with the numbers, and what to do."""

    last_transition_time: AwareDatetime
    """When status changed last."""

    observed_generation: int = 0
    """metadata.generation of the spec that this was judged for."""


class QueueStatus(StatusModel):
    """A queue as seen; text where a number may be capped (`≥10000`), estimated or unknown."""

    name: Annotated[str, KEPT]
    """The queue's name in spec.queues."""

    waiting: Annotated[str, Shown(WORD)] = "unknown"
    """Jobs that are due and wait for a worker."""

    oldest: Annotated[str, Shown(WORD)] = "unknown"
    """How long the oldest due job has waited."""

    in_progress: Annotated[str, Shown(WORD)] = "unknown"
    """Jobs that a worker has claimed."""

    failed_percent: Annotated[str, Shown(WORD)] = "unknown"
    """Failed jobs in percent of those that ended in the last window."""

    arrivals_per_second: Annotated[str, Shown(WORD)] = "unknown"
    """Jobs enqueued per second."""

    throughput_per_second: Annotated[str, Shown(WORD)] = "unknown"
    """Jobs finished per second."""

    types: Annotated[dict[str, str], Shown(items=MOST_TYPES_SHOWN + 1)] = Field(
        default_factory=dict
    )
    """Waiting jobs by type."""

    source: Annotated[str, Shown(SENTENCE)] = ""
    """How the readings were obtained, for example from which index."""

    failed_attempts_per_second: Annotated[str, Shown(WORD)] = ""
    """Attempts that failed per second, retried or not; empty where the queue does not report it."""

    workers: Annotated[str, Shown(WORD)] = ""
    """Workers connected to the queue; empty where the queue does not report it."""

    notes: Annotated[tuple[str, ...], Shown(SENTENCE, items=MOST_NOTES), replaced(MOST_NOTES)] = ()
    """What a person should know of this queue, for example that a person paused it."""

    missed: Annotated[tuple[str, ...], Shown(items=MOST_NOTES), replaced(MOST_NOTES)] = ()
    """Objectives that are missed now, for example waiting 5200 > 500."""

    missed_since: AwareDatetime | None = None
    """Since when an objective is missed without a break."""


class PolicyState(StrEnum):
    """What the operator does with a policy, in one word."""

    ENFORCE = "Enforce"  # it acts
    OBSERVE = "Observe"  # it only says what it would do
    HELD = "Held"  # a person stopped every action by annotation
    SUSPENDED = "Suspended"  # spec.suspend
    NOT_READY = "NotReady"  # something has to be fixed, see the condition Ready


class QueueBacklogPolicyStatus(StatusModel):
    """What the operator saw, decided and remembers."""

    observed_generation: int = 0
    """metadata.generation of the spec that the last pass followed."""

    last_pass_time: AwareDatetime | None = None
    """When a pass came to its end last. Renewed with every other change, and every 10 minutes where
    nothing changes: if it is older, no operator follows the policy."""

    state: PolicyState | None = None
    """Enforce: it acts. Observe: it only says what it would do. Held: a person stopped every action
    by annotation. Suspended: spec.suspend. NotReady: something has to be fixed, see the
    condition Ready."""

    summary: Annotated[str, Shown(PARAGRAPH)] = ""
    """The last pass in one sentence."""

    cause: Annotated[str, Shown()] = ""
    """The leading cause of the backlog, as the runbook names them. `(earlier)`: it is no longer
    seen, and the backlog that it caused is still there. `Unknown`, with numbers, while no rule
    explains a queue that is not healthy."""

    waiting: Annotated[str, Shown(WORD)] = ""
    """Jobs waiting in all queues, rounded."""

    oldest: Annotated[str, Shown(WORD)] = ""
    """How long the oldest due job of all queues has waited."""

    paused_names: Annotated[str, Shown(SENTENCE)] = ""
    """Paused producers, comma separated."""

    replica_counts: Annotated[str, Shown(WORD)] = ""
    """Replicas of the target that are ready, of those asked for, for example 3/5."""

    queues: Annotated[tuple[QueueStatus, ...], Shown(items=MOST_NAMES), named(MOST_NAMES)] = ()
    """Each queue as seen."""

    budget: BudgetStatus | None = None
    """Every term of the budget; absent without spec.database or while it is unknown."""

    scaling: ScalingStatus = ScalingStatus()
    """Replicas, the last step and what holds the next one."""

    breakers: Annotated[tuple[BreakerStatus, ...], Shown(items=MOST_NAMES), named(MOST_NAMES)] = ()
    """Each breaker's state."""

    paused: Annotated[tuple[PauseStatus, ...], keyed("producer", MOST_PAUSES)] = ()
    """Producers that are paused: what, since when, by whom."""

    released_at: Annotated[AwareDatetime | None, REMEMBERED] = None
    """Last resume by this operator: one thing per observation window."""

    conditions: Annotated[
        tuple[Condition, ...], Shown(items=MOST_CONDITIONS), keyed("type", MOST_CONDITIONS)
    ] = ()
    """Ready, BacklogHealthy, DatabaseHeadroom, ConsumersHealthy, ProducersRunning, Scaling."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, or None before the first pass."""
        return next((c for c in self.conditions if c.type == kind), None)
