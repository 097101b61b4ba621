"""`status.budget` and `status.scaling`: the sum, the last step and what holds the next one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict

from starforge_backlog.api.base import StatusModel
from starforge_backlog.api.bounds import KEPT, REMEMBERED, SENTENCE, Shown
from starforge_backlog.api.rules import WHOLE
from starforge_backlog.api.terms import replaced

# namespace/name.
OBJECT_KEY_LENGTH = 63 + 1 + 253
# Who holds most of a server; the whole list would be as long as there are policies.
MOST_HOLDERS = 5


class Holder(StatusModel):
    """Another policy on the same database server."""

    policy: Annotated[str, Shown(OBJECT_KEY_LENGTH)]
    """namespace/name."""

    connections: int
    """Connections that its pods can open."""

    share: int
    """Connections that it is entitled to now: its minimum, then by priority and need."""


class BudgetStatus(StatusModel):
    """Every term of the budget, so that an admin can check the sum by hand."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    server: Annotated[str, KEPT] = ""
    """The server that the connections belong to; policies that show the same one share it."""

    role: Annotated[str, KEPT] = ""
    """The database role whose sessions are the workers'."""

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
    """Pods that may live at once: workerCap ÷ perReplica, rounded down. Behind a PgBouncer
    poolClients ÷ perReplica counts as well, and alone where its pools fit into workerCap."""

    surge: int
    """Pods that a rollout of so many replicas may add."""

    max_surge: Annotated[str, KEPT] = ""
    """The target's maxSurge, as written: what a rollout may add to any number of replicas."""

    terminating: int
    """Pods that are about to end and still hold connections."""

    pressure_cap: int
    """Connections for workers before the pressure threshold is reached."""

    seed_cap: int
    """The runbook's formula, (maxConnections − headroom) ÷ pool size: always an upper bound."""

    replicas: int
    """The budget: replicas that the database can serve."""

    formula: Annotated[str, Shown(SENTENCE)]
    """The sum in one line."""

    passing: Annotated[str, Shown(SENTENCE)] = ""
    """Peaks of other roles that are over, and until when they count among the others."""

    pool: int | None = None
    """Server connections that all replicas together hold at most behind PgBouncer; absent without
    spec.database.pgbouncer."""

    pool_clients: int | None = None
    """Client connections that PgBouncer leaves for the workers; absent without
    spec.database.pgbouncer."""

    share: int | None = None
    """Replicas that this policy is entitled to among all policies of the server: minimums first,
    then by priority, then by need. Absent where it is alone."""

    held_by: Annotated[tuple[Holder, ...], Shown(items=MOST_HOLDERS), replaced(MOST_HOLDERS)] = ()
    """The policies that hold the rest, while this policy needs more than it can have; the largest
    holders.
    """


class GuardStatus(StatusModel):
    """Guardrail mode: the autoscaler whose maximum the operator lowers."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    kind: Annotated[str, KEPT]
    """HorizontalPodAutoscaler or ScaledObject."""

    name: Annotated[str, KEPT]
    """Name of that object."""

    uid: Annotated[str, KEPT, REMEMBERED] = ""
    """The object that this memory belongs to; another one of the same name begins without."""

    token: Annotated[str, KEPT, REMEMBERED] = ""
    """Proves that the operator lowered the maximum; stored here before it is written to the
    autoscaler.
    """

    previous_maximum: int | None = None
    """The maximum before the operator lowered it; absent while it is as its owner wrote it."""

    maximum: int | None = None
    """The maximum that the operator allows: what it wrote last, or its owner's while that is within
    the budget. The connections of so many replicas are kept for the target."""


class StepVerdict(StrEnum):
    """What became of a step."""

    OBSERVING = "Observing"
    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"


class StepFailure(StrEnum):
    """What made a step fail."""

    PRESSURE = "Pressure"
    PODS = "Pods"
    FAILURES = "Failures"
    THROUGHPUT = "Throughput"
    BUDGET = "Budget"


class Baseline(StatusModel):
    """Readings at a moment, stored with a step so that its verdict can be checked later."""

    waiting_jobs: int | None = None
    """Jobs waiting."""

    completion_rate: float | None = None
    """Jobs finished per second."""

    arrival_rate: float | None = None
    """Jobs enqueued per second."""

    failure_percent: float | None = None
    """Failed jobs in percent of those that ended."""

    database_utilization_percent: float | None = None
    """Connections in use, in percent of the limit."""

    restarts: int | None = None
    """Container restarts of the target's pods."""

    ready: int | None = None
    """Pods that are Ready."""


class Step(StatusModel):
    """The last change of replicas by the operator."""

    model_config = ConfigDict(json_schema_extra=WHOLE)

    from_: int
    """Replicas before."""

    to: int
    """Replicas asked for."""

    message: Annotated[str, Shown(SENTENCE)]
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

    verdict_message: Annotated[str, Shown(SENTENCE)] = ""
    """What led to the verdict."""

    failed_by: StepFailure | None = None
    """What made the step fail; rules read this, people `verdictMessage`."""

    verdict_at: AwareDatetime | None = None
    """When the verdict was taken."""

    reverted: bool = False
    """Whether a failed step was taken back."""


class ExternalWriter(StatusModel):
    """Another client wrote `replicas`, or in guardrail mode the autoscaler's maximum (P9)."""

    manager: Annotated[str, KEPT]
    """Who, as metadata.managedFields of the target (or the autoscaler) says."""

    replicas: int
    """What they wrote."""

    since: AwareDatetime
    """When it was noticed last."""

    times: int = 1
    """How often in a row, without a quiet time of its own after the operator continued: each time
    doubles spec.scaling.yieldFor, up to an hour."""


class OldPool(StatusModel):
    """A larger pool that pods may still have."""

    pool: int
    """Connections in it."""

    since: AwareDatetime
    """Pods that started before may have it."""


class Surplus(StatusModel):
    """Another client logs in as the workers do."""

    connections: int
    """The recent peak of the role's connections that no worker can have."""

    gone_since: AwareDatetime | None = None
    """Since when it is no longer seen; it counts for 15 minutes longer, because it may hide in
    pools that are not full."""


class ScalingStatus(StatusModel):
    """Replicas, the last step and what holds the next one."""

    replicas: int | None = None
    """What the workload asks for now."""

    budget_replicas: int | None = None
    """Replicas that the database can serve."""

    need: int | None = None
    """Replicas that would drain the backlog in time."""

    applied_replicas: Annotated[int | None, REMEMBERED] = None
    """What this operator wrote or accepted last; a difference is another client's change."""

    target_uid: Annotated[str, KEPT, REMEMBERED] = ""
    """The workload that this memory belongs to; another one of the same name begins without."""

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

    idle_since: Annotated[AwareDatetime | None, REMEMBERED] = None
    """Since when fewer replicas would be enough, without a break."""

    quiet_since: Annotated[AwareDatetime | None, REMEMBERED] = None
    """With minReplicas 0: since when nothing waits and nothing is in progress, without a break."""

    asleep_since: AwareDatetime | None = None
    """With minReplicas 0: since when the target sleeps, scaled to 0 by this operator. It wakes with
    the first due job; a target that another client scaled to 0 stays so."""

    throughput_per_replica: Annotated[float | None, REMEMBERED] = None
    """Jobs per second that one busy replica finishes, as last measured under load."""

    pool: int | None = None
    """Size of the pool that the next pod opens."""

    old_pool: OldPool | None = None
    """A larger pool that pods may still have; the budget counts with it until all of them
    are replaced."""

    surplus: Surplus | None = None
    """Connections of another client under the workers' role."""

    guard: GuardStatus | None = None
    """Guardrail mode: what was done to the autoscaler."""

    external: ExternalWriter | None = None
    """Another client that writes replicas, while that is respected."""

    last_external: Annotated[ExternalWriter | None, REMEMBERED] = None
    """The last one that was respected: coming back soon means that it will come back again."""
