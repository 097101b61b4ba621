"""A smaller pool counts when every pod has it: each row of `decide/budget/pool_resize.py` (P1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.simulator.given import NOW, fresh_policy, later, per_replica, spec, workload
from tests.simulator.pasts import calm, remembering, storm

from starforge_backlog.api.status import OldPool, ScalingStatus
from starforge_backlog.decide.budget.pool_resize import count_old_pool, remember_pool
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import PerReplica, PoolFrom, Snapshot, Workload

POLICY, TEMPLATE, REFERENCE = PoolFrom.POLICY, PoolFrom.TEMPLATE, PoolFrom.REFERENCE
CHANGED = later(-60)


def pool(size: int, pool_from: PoolFrom = REFERENCE) -> PerReplica:
    return replace(per_replica(size), pool_from=pool_from)


def kept(memory: ScalingStatus, each: PerReplica, pods: Workload | None = None) -> OldPool | None:
    """The larger pool that counts after a pass."""
    seen = calm(target=pods or workload(4), each=each)
    counted = count_old_pool(spec().target.connections_per_replica, memory, seen, NOW)
    return remember_pool(memory, counted.per_replica).old_pool


@pytest.mark.parametrize("pool_from", [TEMPLATE, REFERENCE])
def test_a_smaller_pool_does_not_count_at_once(pool_from: PoolFrom) -> None:
    assert kept(ScalingStatus(pool=10), pool(4, pool_from)) == OldPool(pool=10, since=NOW)


@pytest.mark.parametrize(
    ("before", "each"),
    [(None, pool(4)), (10, pool(10)), (4, pool(10)), (10, pool(4, POLICY))],
)
def test_everything_else_does(before: int | None, each: PerReplica) -> None:
    assert kept(ScalingStatus(pool=before), each) is None


OLD, NEW = later(-61), later(-59)


@pytest.mark.parametrize(
    ("pool_from", "pods", "counts"),
    [
        (REFERENCE, {"oldest_pod": OLD}, True),
        (REFERENCE, {"oldest_pod": CHANGED}, True),
        (REFERENCE, {"oldest_pod": NEW}, False),
        (REFERENCE, {"oldest_pod": OLD, "all_updated": True}, True),  # no rollout read it again
        (REFERENCE, {"oldest_pod": NEW, "rolling_out": True}, True),
        (REFERENCE, {"oldest_pod": NEW, "pinned": True}, True),
        (REFERENCE, {}, True),
        (REFERENCE, {"ready": 0}, False),  # no pod at all
        (TEMPLATE, {"oldest_pod": OLD, "rolling_out": True}, True),
        (TEMPLATE, {"oldest_pod": OLD, "all_updated": True}, False),
        (TEMPLATE, {"oldest_pod": OLD, "all_updated": True, "terminating": 1}, True),
        (TEMPLATE, {"oldest_pod": OLD, "pinned": True}, True),
        (TEMPLATE, {"oldest_pod": NEW}, False),  # a kind that says nothing of its revisions
        (POLICY, {"oldest_pod": OLD}, False),
    ],
)
def test_how_long_the_larger_one_counts(
    pool_from: PoolFrom, pods: dict[str, Any], counts: bool
) -> None:
    memory = ScalingStatus(pool=4, old_pool=OldPool(pool=10, since=CHANGED))
    found = kept(memory, pool(4, pool_from), workload(4, **pods))
    assert (found == memory.old_pool) if counts else (found is None)


def test_smaller_twice() -> None:
    memory = ScalingStatus(pool=10, old_pool=OldPool(pool=20, since=CHANGED))
    assert kept(memory, pool(4), workload(4, oldest_pod=NEW)) == OldPool(pool=20, since=NOW)
    assert kept(memory, pool(20)) is None


def seen(at: float, each: PerReplica, oldest: datetime) -> Snapshot:
    return storm(at, each=each, target=workload(4, max_surge="0", oldest_pod=oldest))


def test_the_budget_counts_with_it_and_says_so() -> None:
    policy = remembering(fresh_policy(breakers=[]))
    policy.decide(seen(0, pool(10), later(-600)))
    plan = policy.decide(seen(15, pool(4), later(-600)))
    assert plan.status.budget is not None
    assert (plan.status.budget.per_replica, plan.status.budget.replicas) == (10, 11)
    status = report(policy.spec, policy.status, plan, (), 1, later(15))
    headroom = status.condition("DatabaseHeadroom")
    assert headroom is not None
    assert "pods from before 01:00:15 UTC may still have a pool of 10" in headroom.message
    assert "kubectl rollout restart" in headroom.message
    after = policy.decide(seen(600, pool(4), later(500)))
    assert after.status.budget is not None
    assert (after.status.budget.per_replica, after.status.budget.replicas) == (4, 29)
