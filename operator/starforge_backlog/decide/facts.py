"""What this pass' readings say, before anything is decided: load, pressure, budget, objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.status import (
    BudgetStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
    Surplus,
)
from starforge_backlog.decide.assess.need import (
    Load,
    chance,
    demand,
    load,
    measured_per_replica,
    steady_need,
)
from starforge_backlog.decide.assess.objectives import Miss, missed
from starforge_backlog.decide.assess.pressure import pressure, utilization_percent
from starforge_backlog.decide.breakers.signals import Rules, signals
from starforge_backlog.decide.budget.formula import (
    Beside,
    budget,
    common_cap,
    free_replicas,
    role_caps,
    worker_roles,
)
from starforge_backlog.decide.budget.holders import shown_share
from starforge_backlog.decide.budget.pgbouncer import readable_pooler
from starforge_backlog.decide.budget.shared_role import remember_surplus, surplus, with_surplus
from starforge_backlog.decide.budget.shares import Share, share_of
from starforge_backlog.decide.claims import asking, wants
from starforge_backlog.decide.steps.step_observation import settled
from starforge_backlog.snapshot import (
    Known,
    Reading,
    Snapshot,
    Unknown,
    Why,
    Workload,
)


@dataclass(frozen=True, slots=True)
class Facts:
    """Readings put together."""

    load: Load
    utilization: Reading[float]  # percent of the connection limit
    pressure: tuple[str, ...] | None  # None: cannot be read
    budget: BudgetStatus | Unknown | None  # None: the policy names no database
    role_caps: Mapping[str, int]  # by worker role; empty without a budget
    missed: Mapping[str, tuple[Miss, ...]]  # per queue, objectives missed now
    rules: Mapping[str, Rules]  # by breaker
    sampled_at: datetime | None  # the older of the database's two readings
    share: Share | None = None  # among the policies of the server; None: alone, or no budget
    wants: int | None = None  # replicas that it would step to; None: unknown, or not to be stepped

    def read_at(self, now: datetime) -> datetime:
        """The oldest reading of all: what a verdict knows, it knows of this moment."""
        return min(m for m in (self.load.read_at, self.sampled_at, now) if m is not None)


def gather(spec: QueueBacklogPolicySpec, before: QueueBacklogPolicyStatus, seen: Snapshot) -> Facts:
    """The facts of one pass. `before` holds the peak of other clients over a restart."""
    served = _served(spec, before, seen)
    terms, caps = (served.budget, served.role_caps) if isinstance(served, _Served) else (served, {})
    utilization = _utilization(spec, seen)
    return Facts(
        load=load(seen.queues.items()),
        utilization=utilization,
        pressure=_pressure(spec, seen),
        budget=terms,
        role_caps=caps,
        missed={queue.name: missed(queue, seen.queues[queue.name]) for queue in spec.queues},
        rules={b.name: signals(b, seen.queues, utilization) for b in spec.breakers},
        sampled_at=_sampled_at(seen),
    )


def shared(
    facts: Facts,
    spec: QueueBacklogPolicySpec,
    before: QueueBacklogPolicyStatus,
    scaling: ScalingStatus,
    seen: Snapshot,
    *,
    moves: bool,
) -> Facts:
    """The facts with this policy's share of the server.

    `scaling` holds this pass' need. A policy that does not step (`moves`) keeps what it holds.
    """
    if not isinstance(facts.budget, BudgetStatus) or not isinstance(seen.workload, Known):
        return facts
    workload = seen.workload.value
    late = any(facts.missed.values())
    wanted = wants(spec, workload, scaling, facts.load, missed=late) if moves else None
    terms, facts = facts.budget, replace(facts, wants=wanted)
    if seen.claim is None or not seen.claims:
        return facts
    mine = asking(seen.claim, wanted)
    share = share_of(mine, seen.claims, common_cap(terms), facts.role_caps)
    # Pods that are about to end are held, and entitle to nothing.
    bound = terms.seed_cap if wanted is not None else workload.living
    share = replace(share, entitled=min(share.entitled, bound), most=min(share.most, bound))
    shown = shown_share(terms, before.budget, share, wanted, seen.claims, spec.scaling)
    return replace(facts, share=share, budget=shown)


def free_steps(spec: QueueBacklogPolicySpec, seen: Snapshot) -> int | None:
    """Replicas that the connections free right now would serve; None when that is unknown."""
    if spec.database is None or seen.database is None:
        return None
    connections, each = seen.database.connections, seen.per_replica
    if not isinstance(connections, Known) or not isinstance(each, Known):
        return None
    pooler = seen.database.pooler
    if isinstance(pooler, Unknown):
        return None
    behind = pooler.value if pooler is not None else None
    return free_replicas(spec.database, connections.value, each.value, behind)


def measured(
    spec: QueueBacklogPolicySpec,
    before: ScalingStatus,
    seen: Snapshot,
    facts: Facts,
    now: datetime,
) -> ScalingStatus:
    """What this pass measured, whatever is decided from it."""
    if not isinstance(seen.workload, Known):
        return before
    workload, window = seen.workload.value, spec.scaling.observe_for
    per_replica = before.throughput_per_replica
    if settled(before, workload, window, min(now, facts.load.read_at or now)):
        per_replica = measured_per_replica(facts.load, workload.ready, per_replica, window)
    wanted = demand(facts.load, spec.scaling.drain_within)
    wobble = chance(facts.load.arrivals or 0.0, window)
    return before.model_copy(
        update={
            "replicas": workload.replicas,
            "budget_replicas": (
                facts.budget.replicas if isinstance(facts.budget, BudgetStatus) else None
            ),
            "need": steady_need(wanted, per_replica, before.need, wobble),
            "throughput_per_replica": per_replica,
            "surplus": _remembered_surplus(before, seen, workload, window=window, now=now),
        }
    )


def _sampled_at(seen: Snapshot) -> datetime | None:
    if seen.database is None:
        return None
    parts: tuple[Reading[object], ...] = (seen.database.connections, seen.database.health)
    return min((part.at for part in parts if isinstance(part, Known)), default=None)


def _utilization(spec: QueueBacklogPolicySpec, seen: Snapshot) -> Reading[float]:
    if spec.database is None or seen.database is None:
        return Unknown(Why.NOT_CONFIGURED, "the policy names no database", seen.taken_at)
    match seen.database.connections:
        case Known(connections, at):
            return Known(utilization_percent(spec.database, connections), at)
        case Unknown() as unknown:
            return unknown


def _pressure(spec: QueueBacklogPolicySpec, seen: Snapshot) -> tuple[str, ...] | None:
    """Signs of pressure; None when they cannot be read. No database, no pressure."""
    if spec.database is None or seen.database is None:
        return ()  # both or neither, see `judged`
    connections, health = seen.database.connections, seen.database.health
    if not isinstance(connections, Known) or not isinstance(health, Known):
        return None
    pooler = seen.database.pooler
    if isinstance(pooler, Unknown):
        return None
    behind = pooler.value if pooler is not None else None
    return pressure(spec.database, connections.value, health.value, behind)


@dataclass(frozen=True, slots=True)
class _Served:
    """What the database can serve."""

    budget: BudgetStatus
    role_caps: Mapping[str, int]


def _served(
    spec: QueueBacklogPolicySpec, before: QueueBacklogPolicyStatus, seen: Snapshot
) -> _Served | Unknown | None:
    if spec.database is None or seen.database is None:
        return None
    connections, workload, each = seen.database.connections, seen.workload, seen.per_replica
    for part in (connections, workload, each):
        if isinstance(part, Unknown):
            return part
    assert isinstance(connections, Known)
    assert isinstance(workload, Known)
    assert isinstance(each, Known)
    if connections.value.read_only:
        return Unknown(
            Why.READ_ONLY,
            "the server is a read-only standby; point spec.database.url at the primary",
            connections.at,
        )
    if seen.awaited:
        first, more = seen.awaited[0], len(seen.awaited) - 1
        message = (
            f"policy {first}{f' and {more} more' if more else ''} of this server had no pass since"
            " the operator started, so the connections of its pods are not known; they are known"
            " within two minutes"
        )
        return Unknown(Why.NOT_YET, message, connections.at)
    if not each.value.role:
        return Unknown(
            Why.NOT_CONFIGURED,
            "the role that the workers log in as is not known; set spec.database.workerRole",
            each.at,
        )
    roles = connections.value.roles
    if roles is not None and each.value.role not in roles:
        return Unknown(
            Why.NOT_CONFIGURED,
            f"role {shortened(each.value.role)} of the workers does not exist on the server, or may"
            " not log in (a connection pooler may map users to other names), so their connections"
            " cannot be counted: set spec.database.workerRole to their role on the server",
            each.at,
        )
    remembered = before.budget.others if before.budget is not None else None
    role, pods, claims = each.value, workload.value, seen.claims
    pooler = readable_pooler(seen.database.pooler, pods)
    if isinstance(pooler, Unknown):
        return pooler
    planned = with_surplus(connections.value, role, pods, claims, before.scaling.surplus)
    return _Served(
        budget(spec.database, planned, pods, role, Beside(claims, remembered), pooler),
        role_caps(planned, worker_roles(role, pods, claims)),
    )


def _remembered_surplus(
    before: ScalingStatus, seen: Snapshot, workload: Workload, *, window: timedelta, now: datetime
) -> Surplus | None:
    if seen.database is None or not isinstance(seen.per_replica, Known):
        return before.surplus
    match seen.database.connections:
        case Known(connections, at):
            found = surplus(connections, seen.per_replica.value, workload, seen.claims)
            # Pods of another policy under the same role may have ended since the sample.
            alone = all(claim.role != seen.per_replica.value.role for claim in seen.claims)
            calm = alone and settled(before, workload, window, min(now, at))
            return remember_surplus(before.surplus, found, settled=calm, now=now)
        case Unknown():
            return before.surplus
