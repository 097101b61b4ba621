"""`QueueBacklogPolicy.status`: what the operator says, and what it must remember (P6).

Whatever a decision needs from earlier passes is here and nowhere else, so a restart carries on.
Numbers people read are rounded to two significant digits (a steady queue writes nothing);
numbers that decisions compare are kept as they were at the transition that stored them.

The schema holds no bounds that could refuse a write of ours, but those that rules of
`api/resource.py` need. A field that is added later needs a default (see `StatusModel`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.terms import LABEL_LENGTH, Schema, keyed

MOST_CONDITIONS = 32
# Pauses of producers that the spec still has (MOST_NAMES) and of those that were removed while
# the database could not be reached to release them.
MOST_PAUSES = 64


class Condition(StatusModel):
    """A `metav1.Condition`."""

    type: str
    """What it is about; true is good, unless the name says otherwise."""

    status: Annotated[str, Schema({"enum": ["True", "False", "Unknown"]})]
    """True, False or Unknown."""

    reason: str
    """Why, in one CamelCase word."""

    message: str = ""
    """Why, in a sentence with the numbers, and what to do."""

    last_transition_time: AwareDatetime
    """When status changed last."""

    observed_generation: int = 0
    """metadata.generation of the spec that this was judged for."""


class QueueStatus(StatusModel):
    """A queue as seen; text where a number may be capped (`≥10000`), estimated or unknown."""

    name: str
    """The queue's name in spec.queues."""

    waiting: str = "unknown"
    """Jobs that are due and wait for a worker."""

    oldest: str = "unknown"
    """How long the oldest due job has waited."""

    in_progress: str = "unknown"
    """Jobs that a worker has claimed."""

    failed_percent: str = "unknown"
    """Failed jobs in percent of those that ended in the last window."""

    arrivals_per_second: str = "unknown"
    """Jobs enqueued per second."""

    throughput_per_second: str = "unknown"
    """Jobs finished per second."""

    types: dict[str, str] = Field(default_factory=dict)
    """Waiting jobs by type."""

    how: str = ""
    """How the readings were obtained, for example from which index."""

    missed: tuple[str, ...] = ()
    """Objectives that are missed now, for example waiting 5200 > 500."""

    missed_since: AwareDatetime | None = None
    """Since when an objective is missed without a break."""


class BudgetStatus(StatusModel):
    """Every term of the budget, so that an admin can check the sum by hand (DESIGN §5)."""

    max_connections: int
    """The server's limit of connections, or the policy's where that is lower."""

    reserved: int
    """Connections kept back for superusers, by configuration or by the provider."""

    usable: int
    """maxConnections − reserved, or the database's own limit where that is lower."""

    others: int
    """Recent peak of connections that are not the workers'."""

    headroom: int
    """spec.database.headroom."""

    other_policies: int
    """Connections that other policies of this database hold or are entitled to."""

    worker_cap: int
    """Connections that all workers of this policy may have."""

    per_replica: int
    """Connections that one replica can open."""

    slots: int
    """workerCap ÷ perReplica, rounded down: pods that may live at once."""

    surge: int
    """Pods that a rollout may add."""

    terminating: int
    """Pods that are about to end and still hold connections."""

    pressure_cap: int
    """Connections for workers before the pressure threshold is reached."""

    seed_cap: int
    """The runbook's formula, (maxConnections − headroom) ÷ pool size: always an upper bound."""

    replicas: int
    """The budget: replicas that the database can serve."""

    formula: str
    """The sum in one line."""


class StepVerdict(StrEnum):
    """What became of a step."""

    OBSERVING = "Observing"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


class Baseline(StatusModel):
    """Readings at a moment, stored with a step so that its verdict can be checked later."""

    waiting: int | None = None
    """Jobs waiting."""

    throughput_per_second: float | None = None
    """Jobs finished per second."""

    arrivals_per_second: float | None = None
    """Jobs enqueued per second."""

    failed_percent: float | None = None
    """Failed jobs in percent of those that ended."""

    database_utilization_percent: float | None = None
    """Connections in use, in percent of the limit."""

    restarts: int | None = None
    """Container restarts of the target's pods."""

    ready: int | None = None
    """Pods that are Ready."""


class Step(StatusModel):
    """The last change of replicas by us."""

    from_: int
    """Replicas before."""

    to: int
    """Replicas asked for."""

    why: str
    """What led to it."""

    at: AwareDatetime
    """When it was written."""

    ready_at: AwareDatetime | None = None
    """When all its pods were Ready: the observation counts from here."""

    before: Baseline = Baseline()
    """Readings before the step."""

    after: Baseline | None = None
    """Readings that the verdict was taken from."""

    verdict: StepVerdict = StepVerdict.OBSERVING
    """What became of it."""

    verdict_why: str = ""
    """What led to the verdict."""

    verdict_at: AwareDatetime | None = None
    """When the verdict was taken."""

    reverted: bool = False
    """Whether a failed step was taken back."""


class ExternalWriter(StatusModel):
    """Somebody else wrote `replicas` (P9)."""

    manager: str
    """Who, as metadata.managedFields of the target says."""

    replicas: int
    """What they wrote."""

    since: AwareDatetime
    """When it was noticed last."""


class ScalingStatus(StatusModel):
    """Replicas, the last step and what holds the next one."""

    replicas: int | None = None
    """What the workload asks for now."""

    budget: int | None = None
    """Replicas that the database can serve."""

    need: int | None = None
    """Replicas that would drain the backlog in time."""

    applied_replicas: int | None = None
    """What this operator wrote or accepted last; a difference is somebody else's change."""

    target_uid: str = ""
    """The workload that the memory below belongs to."""

    last_step: Step | None = None
    """The last change of replicas by this operator."""

    last_judged: Step | None = None
    """The last step that has its verdict: the one before `lastStep` while that is observed."""

    step_size: int | None = None
    """Size of the next up-step; grows with SlowStart."""

    hold_down_until: AwareDatetime | None = None
    """No up-step before, because steps failed."""

    failed_steps: int = 0
    """Failed steps in a row: each doubles the hold-down."""

    next_step_not_before: AwareDatetime | None = None
    """When the next step may come, as far as known."""

    idle_since: AwareDatetime | None = None
    """Since when fewer replicas would be enough, without a break."""

    throughput_per_replica: float | None = None
    """Jobs per second that one busy replica finishes, as last measured under load."""

    external: ExternalWriter | None = None
    """Somebody else who writes replicas, while that is respected."""


class RuleStatus(StatusModel):
    """One trip rule's memory."""

    signal: str
    """The rule's signal with its value, for example waiting>=5000."""

    exceeded_since: AwareDatetime | None = None
    """Since when the signal is above its value."""

    unknown_since: AwareDatetime | None = None
    """Since when there is no reading; a gap does not count as sustained."""

    recovered_since: AwareDatetime | None = None
    """Since when the signal is below the value to recover."""


class BreakerState(StrEnum):
    """closed → open → half-open → closed."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class BreakerStatus(StatusModel):
    """A breaker's state and why."""

    name: str
    """The breaker's name in spec.breakers."""

    state: BreakerState = BreakerState.CLOSED
    """Closed: producers run. Open: they are paused. HalfOpen: they run on probation."""

    since: AwareDatetime | None = None
    """Since when it is in this state."""

    why: str = ""
    """What led to this state, with the numbers."""

    trips: int = 0
    """Openings without a calm time between them; the next probe waits longer."""

    rules: tuple[RuleStatus, ...] = ()
    """Memory of each trip rule, in the order of the spec."""


class PauseState(StrEnum):
    """Where a pause is between intent and release."""

    INTENDED = "Intended"  # the token is in status; the write may or may not have happened
    HELD = "Held"  # we paused it, verified by the row version
    FOREIGN = "Foreign"  # somebody else paused it; it stays theirs (P4)
    CHANGED = "Changed"  # somebody wrote over our pause; a person must resume it
    OVERRIDDEN = "Overridden"  # somebody resumed it while we wanted it paused; respected
    REFUSED = "Refused"  # row missing or bad shape: the producer is NOT paused


class PauseStatus(StatusModel):
    """A producer that is paused, by us or by somebody else."""

    producer: Annotated[str, Schema({"maxLength": LABEL_LENGTH})]
    """The producer's name in spec.producers."""

    by: Annotated[str, Schema({"enum": ["us", "other"]})]
    """us or other. What others paused is never resumed by the operator."""

    state: PauseState
    """Intended: about to be written. Held: paused by us. Foreign: paused by somebody else.
    Changed: somebody wrote over our pause, a person must resume it. Overridden: somebody resumed
    it, which is respected. Refused: the flag is missing or has a bad shape, so the producer is
    NOT paused."""

    since: AwareDatetime
    """Since when."""

    breaker: str = ""
    """The breaker that asked for it."""

    token: str = ""
    """Proves that the pause is ours; stored here before it is written there."""

    version: str = ""
    """The flag's row version right after our write."""

    previous: str | None = None
    """JSON text of the flag's value before; absent: the key was absent."""

    locator: dict[str, str] = Field(default_factory=dict)
    """Where the pause is, so that it is released even when the spec has forgotten the producer."""

    arrivals_before: float | None = None
    """Jobs per second that arrived before the pause, to verify its effect."""

    message: str = ""
    """What a person should know or do."""


class QueueBacklogPolicyStatus(StatusModel):
    """What the operator saw, decided and remembers."""

    observed_generation: int = 0
    """metadata.generation of the spec that the last pass followed."""

    summary: str = ""
    """The last pass in one sentence."""

    cause: str = ""
    """The leading cause of the backlog, as the runbook names them."""

    waiting: str = ""
    """Jobs waiting in all queues, rounded."""

    oldest: str = ""
    """How long the oldest due job of all queues has waited."""

    paused_names: str = ""
    """Paused producers, comma separated."""

    replicas: str = ""
    """Replicas of the target, and how many are ready."""

    queues: tuple[QueueStatus, ...] = ()
    """Each queue as seen."""

    budget: BudgetStatus | None = None
    """Every term of the budget; absent without spec.database or while it is unknown."""

    scaling: ScalingStatus = ScalingStatus()
    """Replicas, the last step and what holds the next one."""

    breakers: tuple[BreakerStatus, ...] = ()
    """Each breaker's state."""

    paused: Annotated[tuple[PauseStatus, ...], Schema({"maxItems": MOST_PAUSES})] = ()
    """Producers that are paused: what, since when, by whom."""

    released_at: AwareDatetime | None = None
    """Last resume by this operator: one thing per observation window."""

    conditions: Annotated[tuple[Condition, ...], keyed("type", MOST_CONDITIONS)] = ()
    """Ready, BacklogHealthy, DatabaseHeadroom, ConsumersHealthy, ProducersRunning, Scaling."""

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, or None before the first pass."""
        return next((c for c in self.conditions if c.type == kind), None)
