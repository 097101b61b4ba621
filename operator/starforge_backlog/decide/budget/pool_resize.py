"""A pool that was made smaller is smaller only in pods that have started since (P1).

| the pool's size comes from    | the smaller number counts when                         |
|-------------------------------|--------------------------------------------------------|
| `connectionsPerReplica.value` | at once: an admin says so                              |
| the pod template              | every pod is of the new template, or has started since |
| a ConfigMap or Secret         | every pod has started since                            |

Until then the larger one counts. A larger number counts at once: the next pod opens as many.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from starforge_backlog.api.policy import ConnectionsPerReplica
from starforge_backlog.api.status import OldPool, ScalingStatus
from starforge_backlog.snapshot import (
    Known,
    PerReplica,
    PoolFrom,
    Reading,
    SmallerPool,
    Snapshot,
    Workload,
)


def count_old_pool(
    wanted: ConnectionsPerReplica, before: ScalingStatus, seen: Snapshot, now: datetime
) -> Snapshot:
    """The snapshot with what a replica may open, whichever pool it has. Once per pass: what is
    reported to the others and what is decided are made from the same number."""
    if not isinstance(seen.per_replica, Known):
        return seen
    each = seen.per_replica.value
    old = before.old_pool
    if before.pool is not None and each.pool < before.pool:
        # Smaller once more: pods between the two changes have the number between.
        old = OldPool(pool=max(before.pool, old.pool if old else 0), since=now)
    workload = seen.workload.value if isinstance(seen.workload, Known) else None
    if (
        old is None
        or each.pool >= old.pool
        or each.pool_from is PoolFrom.POLICY
        or (workload is not None and _all_have_it(workload, each.pool_from, old.since))
    ):
        return seen
    counted = replace(
        each,
        pool=old.pool,
        connections=old.pool * wanted.processes + wanted.extra,
        smaller=SmallerPool(each.pool, old.since),
    )
    return replace(seen, per_replica=replace(seen.per_replica, value=counted))


def remember_pool(before: ScalingStatus, each: Reading[PerReplica]) -> ScalingStatus:
    """Note the pool's size, and the larger one that pods may still have."""
    if not isinstance(each, Known):
        return before
    pool, smaller = each.value.pool, each.value.smaller
    if smaller is None:
        return before.model_copy(update={"pool": pool, "old_pool": None})
    old = OldPool(pool=pool, since=smaller.since)
    return before.model_copy(update={"pool": smaller.pool, "old_pool": old})


def _all_have_it(workload: Workload, pool_from: PoolFrom, changed_at: datetime) -> bool:
    if workload.terminating == 0 and workload.all_updated and pool_from is PoolFrom.TEMPLATE:
        return True
    if workload.rolling_out or workload.pinned:
        return False  # a pod that starts now may be of the old template
    if workload.oldest_pod is None:
        return workload.ready + workload.pending + workload.terminating == 0
    return workload.oldest_pod > changed_at
