"""How many replicas a policy would step up to, whatever the budget says of it."""

from __future__ import annotations

from dataclasses import dataclass

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import ScalingStatus
from starforge_backlog.decide.assess.need import TOLERANCE, Load, demand, need
from starforge_backlog.decide.numbers import about
from starforge_backlog.decide.situation import Situation


@dataclass(frozen=True, slots=True)
class DesiredReplicas:
    """More replicas, and why."""

    replicas: int
    why: str


def desired_in(at: Situation) -> DesiredReplicas | None:
    """`desired_replicas` in a situation."""
    return desired_replicas(at.spec, at.workload.replicas, at.before, at.load, missed=at.missed)


def desired_replicas(
    spec: QueueBacklogPolicySpec,
    replicas: int,
    before: ScalingStatus,
    load: Load,
    *,
    missed: bool,
) -> DesiredReplicas | None:
    """How many replicas are wanted; None when no more are, or when that is not known."""
    scaling = spec.scaling
    if replicas < spec.target.min_replicas:
        return DesiredReplicas(spec.target.min_replicas, f"minReplicas {spec.target.min_replicas}")
    per_replica = before.throughput_per_replica
    wanted = demand(load, scaling.drain_within)
    needed = need(wanted, per_replica)
    if needed is not None and wanted is not None and per_replica:
        enough_waits = (load.waiting or 0) >= replicas
        if not enough_waits or wanted <= per_replica * replicas * (1 + TOLERANCE):
            return None
        # Written with the steady need: the exact one differs with every pass of a storm (P7).
        shown = before.need if before.need is not None and before.need > replicas else needed
        rate = about(shown * per_replica)
        return DesiredReplicas(
            needed, f"{rate} jobs/s needed at {about(per_replica)} per replica = {shown}"
        )
    if missed:
        # Throughput is not known (yet): the runbook's 1-2 replicas, then check.
        return DesiredReplicas(replicas + scaling.step_up, "an objective is missed")
    return None
