"""How many replicas the database can serve (P1; runbook, *Safe scaling guidance*).

The runbook's formula is always an upper bound. Below it, the measured budget subtracts what other
clients hold, counts surge and terminating pods (a rollout or a slow shutdown opens connections
that `replicas` does not show) and every other policy on the same database.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.api.policy import Database
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.status import BudgetStatus
from starforge_backlog.decide.budget.pgbouncer import free_behind, places
from starforge_backlog.snapshot import Claim, Connections, PerReplica, Pooler, Workload

# The peak of other clients counts for this long: a cron job that comes every ten minutes must
# find its connections free.
PEAK_WINDOW = timedelta(minutes=15)
_MOST_PEAKS = 3  # roles that are named; more are no help at night


def surge(replicas: int, max_surge: str) -> int:
    """Pods that a rolling update may add, as Kubernetes rounds: percentages up. None to none."""
    if replicas <= 0:
        return 0
    percent, pods = _surge(max_surge)
    return pods if percent is None else -(-replicas * percent // 100)


def potential(replicas: int, workload: Workload, per_replica: int) -> int:
    """Connections the target can hold at `replicas`: surge and terminating pods counted.

    Potential, not observed: pools fill lazily, and a pool that is half empty now fills under load.
    """
    pods = replicas + surge(replicas, workload.max_surge) + workload.terminating
    return pods * per_replica


def others(
    connections: Connections,
    workers: dict[str, int],
    remembered: int | None,
) -> int:
    """Connections that are not the workers': the recent peak of every other role, our own
    sessions, and what worker roles hold beyond what their pods can open (another client logs in
    as them).

    `workers` maps each worker role to the connections its pods can open now. `remembered` is the
    number of the last status; it counts until the peaks cover a whole window again (P6).
    """
    peaks, present = connections.peak_by_role, connections.by_role
    other_clients = sum(
        max(peaks.get(role, 0), present.get(role, 0))
        for role in peaks.keys() | present.keys()
        if role not in workers
    )
    surplus = sum(
        max(0, connections.by_role.get(role, 0) - opened) for role, opened in workers.items()
    )
    # Ours hide among the workers' when we log in as them; they are nobody's to plan with.
    own = connections.own if connections.own_role in workers else 0
    measured = other_clients + surplus + own
    if remembered is not None and connections.window < PEAK_WINDOW:
        return max(measured, remembered)
    return measured


def passing_peaks(connections: Connections, workers: Collection[str], least: int) -> str:
    """Peaks of others that are over, by `least` connections or more, and until when they count.

    To the minute, and only of roles that hold no more than half of it: a text that follows the
    usual ups and downs would be a write with every pass (P7).
    """
    over = [
        (peak, role)
        for role, peak in connections.peak_by_role.items()
        if role not in workers and peak - connections.by_role.get(role, 0) >= max(least, peak / 2)
    ]
    return ", ".join(
        f"peak of role {shortened(role)}: {peak} connections, which count until"
        f" {connections.peak_until[role]:%H:%M} UTC"
        for peak, role in sorted(over, reverse=True)[:_MOST_PEAKS]
        if role in connections.peak_until
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """Who else holds connections of the server, as far as the server itself does not say."""

    claims: tuple[Claim, ...] = ()  # of the other policies
    remembered: int | None = None  # connections of other clients in the last status, see `others`


ALONE = Beside()


def budget(
    database: Database,
    connections: Connections,
    workload: Workload,
    per_replica: PerReplica,
    beside: Beside = ALONE,
    pooler: Pooler | None = None,
) -> BudgetStatus:
    """The largest number of replicas the database can serve, with every term of the sum."""
    maximum = connections.limit(database.max_connections)
    reserved = connections.reserved_total
    usable = maximum - reserved
    if connections.database_limit is not None:
        usable = min(usable, connections.database_limit)

    claims, each = beside.claims, max(1, per_replica.connections)
    workers = worker_roles(per_replica, workload, claims)
    other_clients = others(connections, workers, beside.remembered)
    other_policies = sum(claim.connections for claim in claims)

    # Filling the budget must not itself be pressure, or every last step would be reverted.
    threshold = math.ceil(maximum * database.pressure.utilization_percent / 100) - 1
    pressure_cap = threshold - other_clients - other_policies
    worker_cap = min(usable - other_clients - database.headroom - other_policies, pressure_cap)
    role_limit = _role_limit(role_caps(connections, workers), per_replica, claims)
    if role_limit is not None:
        worker_cap = min(worker_cap, role_limit)

    at_once = places(worker_cap, each, pooler)
    slots = at_once.slots
    seed_cap = max(0, (maximum - database.headroom) // max(1, per_replica.pool))
    room = slots - workload.terminating
    replicas = min(seed_cap, largest(room, workload.max_surge))
    return BudgetStatus(
        server=connections.server,
        role=per_replica.role or "",
        max_connections=maximum,
        reserved=reserved,
        usable=usable,
        others=other_clients,
        headroom=database.headroom,
        other_policies=other_policies,
        worker_cap=worker_cap,
        per_replica=each,
        slots=slots,
        surge=surge(replicas, workload.max_surge),
        max_surge=workload.max_surge,
        terminating=workload.terminating,
        pressure_cap=pressure_cap,
        seed_cap=seed_cap,
        replicas=replicas,
        passing=passing_peaks(connections, workers.keys(), each),
        pool=pooler.capacity if pooler is not None else None,
        pool_clients=at_once.clients,
        formula=(
            f"min({usable} usable - {other_clients} others - {other_policies} other policies"
            f" - {database.headroom} headroom, {pressure_cap} before pressure"
            + (f", {role_limit} role limit" if role_limit is not None else "")
            + f") = {worker_cap}{at_once.text};"
            f" {replicas} + {surge(replicas, workload.max_surge)} surge"
            f" + {workload.terminating} terminating <= {slots}; runbook's cap {seed_cap}"
            + (f"; a pool of {per_replica.added_up} per replica" if per_replica.added_up else "")
        ),
    )


def sustainable(budget: BudgetStatus, max_surge: str) -> int:
    """The budget without the pods that are about to end.

    They stop up-steps, but stepping down for them would come after they are gone, and would only
    add to them.
    """
    return min(budget.seed_cap, largest(budget.slots, max_surge))


def free_replicas(
    database: Database,
    connections: Connections,
    per_replica: PerReplica,
    pooler: Pooler | None = None,
) -> int:
    """Replicas that the connections free at this moment would serve, headroom left alone.

    The budget plans with recent peaks; this stops a step into a moment that is worse than they.
    """
    maximum = connections.limit(database.max_connections)
    free = maximum - connections.reserved_total - connections.clients - database.headroom
    each = max(1, per_replica.connections)
    if pooler is not None:
        return free_behind(connections, free, each, pooler, per_replica.role or "")
    return max(0, free // each)


def common_cap(budget: BudgetStatus) -> int:
    """Connections that the workers of all policies on the server may have together."""
    before_pressure = budget.pressure_cap + budget.other_policies
    return min(budget.usable - budget.others - budget.headroom, before_pressure)


def role_caps(connections: Connections, workers: dict[str, int]) -> dict[str, int]:
    """What the CONNECTION LIMIT of each worker role leaves for pods: others who log in as the same
    role use it up as well. Roles without a limit are not in it."""
    caps: dict[str, int] = {}
    for role, opened in workers.items():
        limit = connections.role_limits.get(role)
        if limit is not None:
            surplus = max(0, connections.by_role.get(role, 0) - opened)
            own = connections.own if connections.own_role == role else 0
            caps[role] = limit - surplus - own
    return caps


def _role_limit(
    caps: dict[str, int], per_replica: PerReplica, claims: tuple[Claim, ...]
) -> int | None:
    """What the limit of the workers' role leaves for this policy's pods. None: no limit."""
    role = per_replica.role or ""
    if role not in caps:
        return None
    return max(0, caps[role] - sum(claim.connections for claim in claims if claim.role == role))


def worker_roles(
    per_replica: PerReplica, workload: Workload, claims: tuple[Claim, ...]
) -> dict[str, int]:
    """Each worker role on this database and the connections its pods can open."""
    roles: dict[str, int] = {}
    if per_replica.role:
        pods = workload.living + workload.terminating
        opened = pods * max(1, per_replica.connections)
        # A pooler's pool stays open when pods are gone, and holds no more when they come.
        roles[per_replica.role] = opened if per_replica.pooled is None else per_replica.pooled
    for claim in claims:
        if claim.role:
            roles[claim.role] = roles.get(claim.role, 0) + claim.connections
    return roles


@functools.cache
def _surge(max_surge: str) -> tuple[int | None, int]:
    """A percentage, or else pods: there are few ways to write it, and it is asked all the time."""
    percent = max_surge.removesuffix("%")
    return (None, int(max_surge)) if percent == max_surge else (int(percent), 0)


def largest(slots: int, max_surge: str) -> int:
    """Largest R with R + surge(R) <= slots; 0 when nothing fits."""
    percent, pods = _surge(max_surge)
    if percent is None:
        return max(0, slots - pods)
    replicas = max(0, slots) * 100 // (100 + percent)
    # What a percentage is rounded up by is less than one pod.
    while replicas > 0 and replicas + surge(replicas, max_surge) > slots:
        replicas -= 1
    return replicas
