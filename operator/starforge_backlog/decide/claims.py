"""What a policy reports to the others on its server: what it holds and needs, how important it is.

| the policy                                                | holds    | may ask others for more |
|-----------------------------------------------------------|----------|-------------------------|
| needs more and can step up                                | its pods | yes                     |
| cannot use more now (hold-down, crashing pods, pressure)  | its pods | no; gives back          |
| needs less than it has                                    | its pods | no; gives back          |
| suspended, `Observe`, unread, scaled by another, rolling  | its pods | no; gives nothing back  |
"""

from __future__ import annotations

from dataclasses import replace

from starforge_backlog.api.policy import Mode, QueueBacklogPolicySpec, Scaling
from starforge_backlog.api.status import BudgetStatus, ScalingStatus
from starforge_backlog.decide.assess.need import TOLERANCE, Load, chance, demand, need
from starforge_backlog.decide.budget.formula import common_cap, potential
from starforge_backlog.decide.budget.pgbouncer import held
from starforge_backlog.decide.budget.shares import cost
from starforge_backlog.decide.reasons import Asks, ScalingReason
from starforge_backlog.decide.steps.desired import desired_replicas
from starforge_backlog.snapshot import Claim, PerReplica, Workload


def claim_of(
    policy: str,
    spec: QueueBacklogPolicySpec,
    workload: Workload,
    each: PerReplica,
    allowed: int = 0,
) -> Claim:
    """What its pods can open, and what its minimum needs.

    Minimums first: a policy is entitled to them while its target runs at less and is ours to
    scale. A target that was scaled to zero by a person wants none. A guarded autoscaler may go to
    `allowed` replicas at any moment, without asking; what its owner allows beyond the budget is
    lowered and not kept.
    """
    moves = spec.mode is Mode.ENFORCE and not spec.suspend
    least = spec.target.min_replicas if moves and workload.replicas else 0
    replicas = max(workload.living, allowed, least)
    claim = Claim(
        policy,
        each.role,
        held(potential(replicas, workload, each.connections), each.pooled),
        priority=spec.priority.place,
        per_replica=each.connections,
        max_surge=workload.max_surge,
        pooled=each.pooled,
    )
    return replace(claim, minimum=cost(claim, least))


def wants(
    spec: QueueBacklogPolicySpec,
    workload: Workload,
    scaling: ScalingStatus,
    load: Load,
    *,
    missed: bool,
) -> int | None:
    """Replicas that the policy would step to if it had the database alone; None: unknown (P2).

    The measured need; one step more while a late queue has not shown yet what a replica finishes;
    otherwise what there is.
    """
    if load.missing:
        return None
    more = desired_replicas(spec, workload.replicas, scaling, load, missed=missed)
    if more is not None:
        wanted = max(more.replicas, scaling.need or 0)
    else:
        enough = enough_for(load, scaling, spec.scaling)
        wanted = min(workload.replicas, enough or workload.replicas)
    wanted = max(wanted, spec.target.min_replicas)
    maximum = spec.target.max_replicas
    return wanted if maximum is None else min(wanted, maximum)


def enough_for(load: Load, scaling: ScalingStatus, wanted: Scaling) -> int | None:
    """Replicas that serve the demand with spare capacity; None when that is not known.

    More than the need: what is given back on a demand that is low by chance would be asked for
    again in the next window.
    """
    demanded, per_replica = demand(load, wanted.drain_within), scaling.throughput_per_replica
    if demanded is None or load.arrivals is None:
        return None
    spare = chance(load.arrivals, wanted.observe_for)
    return need(demanded + spare, per_replica and per_replica * (1 - TOLERANCE))


def asking(claim: Claim, wanted: int | None) -> Claim:
    """The claim of a policy that would step to so many replicas."""
    return replace(claim, wanted=None if wanted is None else cost(claim, wanted))


def reported_claim(
    claim: Claim | None,
    budget: object,
    wanted: int | None,
    workload: Workload | None,
    reason: ScalingReason,
) -> Claim | None:
    """What is reported to the others after a decision that ended with `reason`; None: unknown."""
    if claim is None or not isinstance(budget, BudgetStatus) or workload is None:
        return None
    match reason.means.asks:
        case Asks.NOTHING:
            wanted = None
        case Asks.NO_MORE:
            wanted = None if wanted is None else min(wanted, workload.replicas)
        case Asks.AS_WANTED:
            pass
    found = replace(asking(claim, wanted), cap=common_cap(budget))
    if wanted is not None:
        return replace(found, asked=found.wanted)
    return found if reason.means.passing else replace(found, asked=None)
