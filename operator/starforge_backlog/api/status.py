"""`QueueBacklogPolicy.status`: what the operator says, and what it must remember (P6).

Whatever a decision needs from earlier passes is here and nowhere else, so a restart carries on.
Numbers people read are rounded to two significant digits (a steady queue writes nothing);
numbers that decisions compare are kept as they were at the transition that stored them.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, Field

from starforge_backlog.api.base import StatusModel


class Condition(StatusModel):
    """A `metav1.Condition`."""

    type: str
    status: str  # "True" | "False" | "Unknown"
    reason: str
    message: str = ""
    last_transition_time: AwareDatetime
    observed_generation: int = 0


class QueueStatus(StatusModel):
    """A queue as seen; text where a number may be capped (`≥10000`), estimated or unknown."""

    name: str
    waiting: str = "unknown"
    oldest: str = "unknown"
    in_progress: str = "unknown"
    failed_percent: str = "unknown"
    arrivals_per_second: str = "unknown"
    throughput_per_second: str = "unknown"
    types: dict[str, str] = Field(default_factory=dict)
    how: str = ""
    missed: tuple[str, ...] = ()  # objectives missed now, e.g. "waiting 5200 > 500"
    missed_since: AwareDatetime | None = None


class BudgetStatus(StatusModel):
    """Every term of the budget, so that an admin can check the sum by hand (DESIGN §5)."""

    max_connections: int
    reserved: int  # superuser_reserved + reserved + provider's
    usable: int
    others: int  # recent peak of connections that are not the workers'
    headroom: int
    other_policies: int  # what other policies of this database hold or are entitled to
    worker_cap: int
    per_replica: int
    slots: int
    surge: int
    terminating: int
    pressure_cap: int  # connections for workers before the pressure threshold is reached
    seed_cap: int  # the runbook's formula, always an upper bound
    replicas: int  # the budget
    formula: str  # the sum in one line


class StepVerdict(StrEnum):
    """What became of a step."""

    OBSERVING = "Observing"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


class Baseline(StatusModel):
    """Readings at a moment, stored with a step so that its verdict can be checked later."""

    waiting: int | None = None
    throughput_per_second: float | None = None
    arrivals_per_second: float | None = None
    failed_percent: float | None = None
    database_utilization_percent: float | None = None
    restarts: int | None = None
    ready: int | None = None


class Step(StatusModel):
    """The last change of replicas by us."""

    from_: int
    to: int
    why: str
    at: AwareDatetime
    ready_at: AwareDatetime | None = None  # all pods Ready: observation counts from here
    before: Baseline = Baseline()
    after: Baseline | None = None
    verdict: StepVerdict = StepVerdict.OBSERVING
    verdict_why: str = ""
    verdict_at: AwareDatetime | None = None
    reverted: bool = False  # a failed step was taken back


class ExternalWriter(StatusModel):
    """Somebody else wrote `replicas` (P9)."""

    manager: str
    replicas: int
    since: AwareDatetime


class ScalingStatus(StatusModel):
    """Replicas, the last step and what holds the next one."""

    replicas: int | None = None  # what the workload asks for now
    budget: int | None = None
    need: int | None = None
    applied_replicas: int | None = None  # what we wrote or accepted last; a difference is P9's
    target_uid: str = ""
    last_step: Step | None = None
    step_size: int | None = None  # the next up-step; grows with SlowStart
    hold_down_until: AwareDatetime | None = None
    failed_steps: int = 0
    next_step_not_before: AwareDatetime | None = None
    idle_since: AwareDatetime | None = None  # need below replicas, without a break
    # Jobs per second that one busy replica finishes, as last measured under load.
    throughput_per_replica: float | None = None
    external: ExternalWriter | None = None


class RuleStatus(StatusModel):
    """One trip rule's memory."""

    signal: str  # "waiting", "oldestAge", …
    exceeded_since: AwareDatetime | None = None
    unknown_since: AwareDatetime | None = None  # a gap does not count as sustained
    recovered_since: AwareDatetime | None = None


class BreakerState(StrEnum):
    """closed → open → half-open → closed."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class BreakerStatus(StatusModel):
    """A breaker's state and why."""

    name: str
    state: BreakerState = BreakerState.CLOSED
    since: AwareDatetime | None = None
    why: str = ""
    trips: int = 0  # openings without a calm time between them; the next probe waits longer
    rules: tuple[RuleStatus, ...] = ()


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

    producer: str
    by: str  # "us" | "other"
    state: PauseState
    since: AwareDatetime
    breaker: str = ""
    token: str = ""
    version: str = ""  # row version right after our write
    previous: str | None = None  # JSON text of the value before; None: the key was absent
    # where it is, so that it is found when the spec forgot it
    locator: dict[str, str] = Field(default_factory=dict)
    arrivals_before: float | None = None
    message: str = ""


class QueueBacklogPolicyStatus(StatusModel):
    """All of it."""

    observed_generation: int = 0
    summary: str = ""
    cause: str = ""
    waiting: str = ""  # printer columns: totals as text
    oldest: str = ""
    paused_names: str = ""
    replicas: str = ""
    queues: tuple[QueueStatus, ...] = ()
    budget: BudgetStatus | None = None
    scaling: ScalingStatus = ScalingStatus()
    breakers: tuple[BreakerStatus, ...] = ()
    paused: tuple[PauseStatus, ...] = ()
    released_at: AwareDatetime | None = None  # last resume by us: one thing per window
    conditions: tuple[Condition, ...] = ()

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type, or None before the first pass."""
        return next((c for c in self.conditions if c.type == kind), None)
