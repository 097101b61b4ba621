"""The budget: how many replicas the database can serve (P1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.given import connections, health, per_replica, seconds, spec, workload

from starforge_backlog.api.policy import Database
from starforge_backlog.api.status import BudgetStatus
from starforge_backlog.decide.assess.pressure import pressure, utilization_percent
from starforge_backlog.decide.budget.formula import (
    Beside,
    budget,
    free_replicas,
    surge,
    sustainable,
)
from starforge_backlog.snapshot import Claim


def database(**parts: Any) -> Database:
    whole = {"url": {"secretKeyRef": {"name": "a", "key": "b"}}, **parts}
    found = spec(database=whole, breakers=[], producers=[]).database
    assert found is not None
    return found


NO_PRESSURE = {"pressure": {"utilizationPercent": 100}}
WHOLE = database(**NO_PRESSURE)


def test_the_worked_example() -> None:
    """By hand: 200 connections, others 60, pool 10, headroom 20."""
    sum_ = budget(WHOLE, connections(), workload(max_surge="0"), per_replica(10))
    assert (sum_.usable, sum_.worker_cap, sum_.slots) == (197, 117, 11)


@pytest.mark.parametrize(
    ("max_surge", "terminating", "replicas"),
    [("25%", 0, 8), ("100%", 0, 5), ("0", 0, 11), ("25%", 3, 6), ("1", 0, 10), ("0%", 0, 11)],
)
def test_surge_and_terminating_pods_are_counted(
    max_surge: str, terminating: int, replicas: int
) -> None:
    pods = workload(max_surge=max_surge, terminating=terminating)
    found = budget(WHOLE, connections(), pods, per_replica(10))
    assert found.replicas == replicas
    assert found.surge == surge(replicas, max_surge)


@pytest.mark.parametrize(
    ("changes", "parts", "cap"),
    [
        ({}, {}, 117),
        ({"reserved": 5}, {}, 112),
        ({"provider_reserved": 15}, {}, 102),
        ({"database_limit": 100}, {}, 20),
        ({"role_limits": {"worker": 40}}, {}, 40),
        ({"role_limits": {"web": 1}}, {}, 117),
        ({}, {"maxConnections": 150}, 67),
        ({"max_connections": 120}, {"maxConnections": 150}, 37),
        ({}, {"headroom": 0}, 137),
        # Cron jobs that are gone now come back within the window.
        ({"peak_by_role": {"web": 60, "cron": 30}}, {}, 87),
        ({"by_role": {"web": 90}}, {}, 87),
        # Another client logs in as the workers: 4 replicas can open 40, 55 are open.
        ({"by_role": {"web": 60, "worker": 55}}, {}, 102),
        ({"by_role": {"web": 60, "worker": 40}}, {}, 117),
        # Our own session hides among the workers'.
        ({"own": 1, "own_role": "worker"}, {}, 116),
    ],
)
def test_who_holds_connections_back(
    changes: dict[str, Any], parts: dict[str, Any], cap: int
) -> None:
    found = budget(
        database(**NO_PRESSURE, **parts), connections(**changes), workload(), per_replica(10)
    )
    assert found.worker_cap == cap


@pytest.mark.parametrize(
    ("peaks", "now", "said"),
    [
        ({"web": 90}, {"web": 2}, "peak of role web: 90 connections, which count until 00:15 UTC"),
        ({"web": 90}, {}, "peak of role web: 90 connections, which count until 00:15 UTC"),
        ({"web": 90}, {"web": 60}, ""),  # the usual ups and downs
        ({"web": 6}, {}, ""),  # not one replica's worth
        ({"worker": 90}, {"worker": 4}, ""),
    ],
)
def test_a_peak_that_is_over_says_until_when_it_counts(
    peaks: dict[str, int], now: dict[str, int], said: str
) -> None:
    until = dict.fromkeys(peaks, datetime(2026, 1, 1, 0, 15, tzinfo=UTC))
    seen = connections(peak_by_role=peaks, by_role=now, peak_until=until)
    assert budget(WHOLE, seen, workload(), per_replica(10)).passing == said


def test_filling_the_budget_is_not_yet_pressure() -> None:
    guarded = database()  # pressure from 80 % on: 160 of 200
    found = budget(guarded, connections(), workload(max_surge="0"), per_replica(10))
    assert found.pressure_cap == 99
    full = connections(clients=60 + found.replicas * 10)
    assert pressure(guarded, full, health()) == ()
    assert pressure(guarded, connections(clients=160), health()) != ()


def test_other_policies_are_counted_and_not_twice() -> None:
    mine = connections(by_role={"web": 60, "b": 25}, peak_by_role={"web": 60, "b": 25})
    claims = (Claim("ns/b", "b", 30), Claim("ns/c", None, 10))
    found = budget(WHOLE, mine, workload(), per_replica(10), Beside(claims))
    assert (found.others, found.other_policies, found.worker_cap) == (60, 40, 77)


def test_the_runbooks_formula_is_always_an_upper_bound() -> None:
    empty = connections(by_role={}, peak_by_role={}, superuser_reserved=0)
    no_headroom = database(**NO_PRESSURE, headroom=0)
    found = budget(no_headroom, empty, workload(max_surge="0"), per_replica(10))
    assert (found.slots, found.seed_cap, found.replicas) == (19, 20, 19)
    two_pools = per_replica(10)
    wide = budget(WHOLE, empty, workload(max_surge="0"), two_pools)
    assert wide.replicas <= wide.seed_cap == 18


def test_a_peak_is_remembered_until_the_window_is_whole_again() -> None:
    young = connections(window=seconds(60))
    assert budget(WHOLE, young, workload(), per_replica(10), Beside(remembered=90)).others == 90
    assert budget(WHOLE, young, workload(), per_replica(10), Beside(remembered=30)).others == 60
    whole = Beside(remembered=90)
    assert budget(WHOLE, connections(), workload(), per_replica(10), whole).others == 60


def test_nothing_fits() -> None:
    full = connections(peak_by_role={"web": 190}, by_role={"web": 190}, clients=190)
    found = budget(WHOLE, full, workload(), per_replica(10))
    assert (found.slots, found.replicas) == (0, 0)
    assert free_replicas(WHOLE, full, per_replica(10)) == 0


def test_pods_about_to_end_stop_steps_up_but_cause_none_down() -> None:
    found = budget(WHOLE, connections(), workload(8, terminating=3), per_replica(10))
    assert (found.replicas, sustainable(found, "25%")) == (6, 8)


@pytest.mark.parametrize(("clients", "free"), [(60, 11), (167, 1), (168, 0), (177, 0), (200, 0)])
def test_what_is_free_now(clients: int, free: int) -> None:
    assert free_replicas(WHOLE, connections(clients=clients), per_replica(10)) == free


def test_every_term_stands_in_the_formula() -> None:
    found = budget(WHOLE, connections(), workload(terminating=1), per_replica(10))
    for term in (found.usable, found.others, found.headroom, found.worker_cap, found.slots):
        assert str(term) in found.formula


@given(
    st.integers(20, 1000),
    st.integers(0, 300),
    st.integers(0, 50),
    st.integers(1, 60),
    st.sampled_from(("0", "1", "5", "25%", "33%", "100%")),
    st.integers(0, 10),
)
def test_the_budget_never_promises_more_than_there_is(
    maximum: int, others: int, headroom: int, pool: int, max_surge: str, terminating: int
) -> None:
    world = connections(
        max_connections=maximum, by_role={"web": others}, peak_by_role={"web": others}
    )
    pods = workload(max_surge=max_surge, terminating=terminating)
    found = budget(database(**NO_PRESSURE, headroom=headroom), world, pods, per_replica(pool))

    def most(replicas: int) -> int:
        living = replicas + surge(replicas, max_surge) + terminating
        return living * pool + others + headroom

    if found.replicas:
        assert most(found.replicas) <= found.usable
    assert (
        most(found.replicas + 1) > found.usable
        or found.replicas == found.seed_cap
        or _tight(found, others)
    )


def _tight(found: BudgetStatus, others: int) -> bool:
    """The pressure threshold (one below the limit here) was the smaller bound."""
    return found.pressure_cap < found.usable - others - found.headroom


@pytest.mark.parametrize(
    ("state", "signs"),
    [
        ({}, 0),
        ({"lock_waiters": 4}, 0),
        ({"lock_waiters": 5}, 1),
        ({"longest_transaction": seconds(299)}, 0),
        ({"longest_transaction": seconds(300)}, 1),
        ({"lock_waiters": 5, "longest_transaction": seconds(300)}, 2),
    ],
)
def test_signs_of_pressure(state: dict[str, Any], signs: int) -> None:
    assert len(pressure(database(), connections(), health(**state))) == signs


def test_who_blocks_is_named() -> None:
    assert pressure(database(), connections(), health(lock_waiters=None)) == (), "not watched"
    (sign,) = pressure(database(), connections(), health(lock_waiters=6, blocker="pid 42 (app)"))
    assert sign == "6 sessions wait for a lock held by pid 42 (app)"


def test_utilization_is_of_the_lower_limit() -> None:
    assert utilization_percent(database(maxConnections=100), connections(clients=60)) == 60
    assert utilization_percent(database(maxConnections=400), connections(clients=60)) == 30
