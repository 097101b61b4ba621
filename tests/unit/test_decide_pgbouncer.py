"""A PgBouncer before the database: what its pools bound, and when more pods only wait (P1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.given import connections, health, per_replica, seconds, spec, workload

from starforge_backlog.api.policy import Database
from starforge_backlog.api.status import QueueBacklogPolicyStatus, ScalingStatus, Surplus
from starforge_backlog.decide.assess.pressure import pressure
from starforge_backlog.decide.budget.formula import budget, free_replicas, surge
from starforge_backlog.decide.budget.pgbouncer import held, places, readable_pooler, waiting_clients
from starforge_backlog.decide.budget.shared_role import surplus
from starforge_backlog.decide.facts import free_steps, gather
from starforge_backlog.snapshot import (
    DatabaseReading,
    Known,
    PerReplica,
    Pooler,
    Reading,
    Snapshot,
    Unknown,
    Why,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)


def pooler(**parts: Any) -> Pooler:
    """A pool of 20 before 1000 clients, 40 of them another client's."""
    whole = Pooler(
        known=True,
        capacity=20,
        full=False,
        clients_waiting=0,
        longest_wait=seconds(0),
        waited_before=False,
        max_client_connections=1000,
        other_clients=40,
    )
    return replace(whole, **parts)


def each(pool: int = 10, pooled: int | None = 20) -> PerReplica:
    return replace(per_replica(pool), pooled=pooled)


def database(**parts: Any) -> Database:
    whole = {"url": {"secretKeyRef": {"name": "a", "key": "b"}}, **parts}
    found = spec(database=whole, breakers=[], producers=[]).database
    assert found is not None
    return found


WHOLE = database(pressure={"utilizationPercent": 100})


def test_the_worked_example() -> None:
    """By hand: 200 connections, others 60, headroom 20: a cap of 117. A pool of 20 fits, so the
    pooler's clients bound: (1000 - 40) / 10 = 96. The runbook's formula: (200 - 20) / 10 = 18."""
    found = budget(WHOLE, connections(), workload(max_surge="0"), each(), pooler=pooler())
    assert (found.worker_cap, found.slots, found.seed_cap, found.replicas) == (117, 96, 18, 18)
    assert (found.pool, found.pool_clients) == (20, 960)
    assert "117 >= a pool of 20 for all replicas" in found.formula
    assert "1000 clients of PgBouncer - 40 others = 960 / 10 per replica = 96 slots" in (
        found.formula
    )


def test_without_a_pooler_nothing_changes() -> None:
    found = budget(WHOLE, connections(), workload(max_surge="0"), per_replica(10))
    assert (found.slots, found.replicas, found.pool, found.pool_clients) == (11, 11, None, None)
    assert "= 117 / 10 per replica = 11 slots;" in found.formula


def test_a_pool_that_does_not_fit_bounds_nothing() -> None:
    wide = pooler(capacity=150)
    found = budget(WHOLE, connections(), workload(max_surge="0"), each(pooled=150), pooler=wide)
    assert (found.slots, found.replicas) == (11, 11)
    assert "117 < a pool of 150, so by pods: / 10 per replica = 11;" in found.formula


def test_clients_of_the_pooler_bound_in_both_cases() -> None:
    few = pooler(max_client_connections=100)
    assert places(117, 10, few).slots == 6
    assert places(117, 10, replace(few, capacity=500)).slots == 6
    assert places(117, 10, replace(few, other_clients=200)).slots == 0


def test_surge_and_terminating_pods_are_clients_too() -> None:
    few = pooler(max_client_connections=140)
    pods = workload(max_surge="100%", terminating=2)
    found = budget(WHOLE, connections(), pods, each(), pooler=few)
    assert (found.slots, found.replicas) == (10, 4)


@given(
    capacity=st.integers(1, 400),
    clients=st.integers(0, 2000),
    others=st.integers(0, 250),
    pool=st.integers(1, 50),
    max_surge=st.sampled_from(("0", "1", "25%", "100%")),
    terminating=st.integers(0, 5),
)
def test_behind_a_pooler_the_server_is_never_promised_more(
    capacity: int, clients: int, others: int, pool: int, max_surge: str, terminating: int
) -> None:
    world = connections(by_role={"web": others}, peak_by_role={"web": others}, clients=others)
    pods = workload(max_surge=max_surge, terminating=terminating)
    behind = pooler(capacity=capacity, max_client_connections=clients)
    found = budget(WHOLE, world, pods, each(pool, capacity), pooler=behind)
    living = found.replicas + surge(found.replicas, max_surge) + terminating
    if found.replicas:
        assert held(living * pool, capacity) + others + 20 <= found.usable
        assert living * pool <= clients - 40
    assert found.replicas <= found.seed_cap


def test_a_pool_that_stays_open_is_nobody_elses() -> None:
    """PgBouncer keeps its connections for ten minutes after the pods are gone."""
    pods = workload(replicas=0, ready=0)
    open_pool = connections(by_role={"web": 60, "worker": 20})
    assert surplus(open_pool, each(), pods, ()) == 0
    assert surplus(open_pool, per_replica(10), pods, ()) == 20
    assert surplus(connections(by_role={"worker": 25}), each(), pods, ()) == 5
    found = budget(WHOLE, open_pool, pods, each(), pooler=pooler())
    assert found.others == 60


def test_a_client_beside_the_pool_is_subtracted() -> None:
    crowd = connections(by_role={"web": 60, "worker": 50})
    found = budget(WHOLE, crowd, workload(), each(), pooler=pooler())
    assert found.others == 60 + 30


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({}, False),
        ({"clients_waiting": 5}, False),  # for a moment
        ({"waited_before": True}, False),  # gone again
        ({"clients_waiting": 1, "waited_before": True}, True),
        ({"longest_wait": seconds(0.5), "waited_before": True}, True),
    ],
)
def test_clients_that_wait_are_pressure(parts: dict[str, Any], says: bool) -> None:
    signs = waiting_clients(pooler(**parts))
    assert bool(signs) is says
    assert pressure(WHOLE, connections(), health(), pooler(**parts)) == signs


def test_the_sign_stands_still_while_the_numbers_move() -> None:
    """It stands in conditions: a count that moves would be a write with every pass (P7)."""
    sentences = {
        waiting_clients(pooler(clients_waiting=n, longest_wait=seconds(n), waited_before=True))
        for n in range(1, 9)
    }
    assert len(sentences) == 1


@pytest.mark.parametrize(
    ("parts", "clients", "free"),
    [
        ({"full": True}, 60, 0),
        ({}, 60, 1000),  # the pool can be opened to its end
        ({}, 165, 1),  # 12 free: the pool cannot, so by pods
        ({}, 180, 0),
    ],
)
def test_what_is_free_now(parts: dict[str, Any], clients: int, free: int) -> None:
    world = connections(clients=clients)
    assert free_replicas(WHOLE, world, each(), pooler(**parts)) == free


def seen(reading: Reading[Pooler] | None, **parts: Any) -> Snapshot:
    known = reading.value.capacity if isinstance(reading, Known) else None
    return Snapshot(
        taken_at=AT,
        workload=Known(workload(**parts), AT),
        per_replica=Known(each(pooled=known), AT),
        database=DatabaseReading(Known(connections(), AT), Known(health(), AT), reading),
        queues={},
        producers={},
    )


POLICY = spec(
    database={"url": {"secretKeyRef": {"name": "a", "key": "b"}}},
    queues=[],
    breakers=[],
    producers=[],
)


def test_a_console_that_cannot_be_read_holds_steps() -> None:
    """P2: without it nobody knows who waits."""
    gone = Unknown(Why.UNREACHABLE, "database.pgbouncer: nothing answers", AT)
    facts = gather(POLICY, QueueBacklogPolicyStatus(), seen(gone))
    assert facts.budget == gone
    assert facts.pressure is None
    assert free_steps(POLICY, seen(gone)) is None


def test_facts_with_a_pooler() -> None:
    waits = pooler(clients_waiting=3, waited_before=True)
    facts = gather(POLICY, QueueBacklogPolicyStatus(), seen(Known(waits, AT)))
    assert facts.pressure is not None
    assert "clients wait for PgBouncer's 20 connections" in facts.pressure[0]
    assert not isinstance(facts.budget, Unknown)
    assert facts.budget is not None
    assert facts.budget.pool == 20
    assert free_steps(POLICY, seen(Known(pooler(full=True), AT))) == 0


def test_workers_that_run_past_the_pooler() -> None:
    """Its capacity would be no bound of theirs at all."""
    astray = Known(pooler(known=False), AT)
    found = readable_pooler(astray, workload(ready=2))
    assert isinstance(found, Unknown)
    assert "or directly?" in found.message
    # Asleep: the entry `*` forgets its databases, and the first pod brings them back.
    assert readable_pooler(astray, workload(replicas=0, ready=0)) == astray.value
    assert readable_pooler(None, workload()) is None


@pytest.mark.parametrize(
    ("connections_", "pooled", "at_most"), [(40, None, 40), (40, 20, 20), (8, 20, 8)]
)
def test_what_pods_hold_at_the_server(connections_: int, pooled: int | None, at_most: int) -> None:
    assert held(connections_, pooled) == at_most


def test_a_remembered_surplus_counts_beside_the_pool() -> None:
    before = QueueBacklogPolicyStatus(scaling=ScalingStatus(surplus=Surplus(connections=15)))
    facts = gather(POLICY, before, seen(Known(pooler(), AT)))
    assert facts.budget is not None
    assert not isinstance(facts.budget, Unknown)
    assert facts.budget.others == 60 + 15
