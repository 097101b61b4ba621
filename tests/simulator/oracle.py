"""The best that could be: a player who knows the storm and has the whole budget at once."""

from __future__ import annotations

from tests.simulator.eye import Eye
from tests.simulator.setup import Event, Setup, What, moment
from tests.simulator.spec import policy
from tests.simulator.world import World

from starforge_backlog.decide.budget.formula import budget, sustainable
from starforge_backlog.snapshot import Known

# What people and faults do to the operator does not happen to the oracle.
_NOT_FOR_THE_ORACLE = frozenset(
    {What.KILL, What.UNREADABLE, What.STALE, What.API_OUTAGE, What.CONFLICT, What.UNSURE}
)


def best_drain(
    setup: Setup,
    events: tuple[Event, ...],
    arrivals: tuple[int, ...],
    *,
    since: float,
    until: float,
    drained: int,
) -> float | None:
    """Seconds from `since` until at most `drained` jobs wait, with the best number of replicas
    within the budget from the first moment on.

    `arrivals` are the jobs of each tick that came in the operator's run, so both drain the same
    work. Where the database gets slower with more workers, fewer than the budget can be best.
    """
    highest = setup.max_replicas or setup.max_connections
    fixed = tuple(e for e in events if e.what not in _NOT_FOR_THE_ORACLE)
    times = [
        time
        for limit in (range(1, highest + 1) if setup.knee is not None else (highest,))
        if (time := _drain(setup, fixed, arrivals, limit, since, until, drained)) is not None
    ]
    return min(times, default=None)


def _drain(
    setup: Setup,
    events: tuple[Event, ...],
    arrivals: tuple[int, ...],
    limit: int,
    since: float,
    until: float,
    drained: int,
) -> float | None:
    world = World(setup, events, script=arrivals)
    eye, database = Eye(setup), policy(setup).database
    assert database is not None
    while world.now < until:
        snapshot, _ = eye.read(world, moment(world.now))
        seen, each = snapshot.database, snapshot.per_replica
        if world.now >= since and seen is not None and isinstance(each, Known):
            connections, workload = seen.connections, snapshot.workload
            if isinstance(connections, Known) and isinstance(workload, Known):
                whole = budget(database, connections.value, workload.value, each.value)
                allowed = min(limit, sustainable(whole, setup.surge))
                world.pods.scale(max(setup.min_replicas, allowed), world.now)
        world.advance(world.now + setup.interval)
        if world.now > since and world.waiting <= drained:
            return world.now - since
    return None
