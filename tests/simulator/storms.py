"""Random worlds and storms for hypothesis, and the calm after them."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.simulator.eye import OWN_CONNECTIONS
from tests.simulator.setup import KILLED, PARTS, Event, Setup, What

# Seconds in which things happen; after them nothing new does.
STORM = 3600
# The fewest workers drain what is left after a storm within this time, in seconds.
LONGEST_DRAIN = 4 * 3600
_SIGNALS = ("waiting", "oldestAge", "failedPercent", "databaseUtilizationPercent")


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    """A database, workers and a policy of many sizes."""
    interval = draw(st.sampled_from((5.0, 15.0, 30.0)))
    observe_for = draw(st.sampled_from((30.0, 60.0, 90.0)))
    pool = draw(st.integers(1, 12))
    min_replicas = draw(st.integers(1, 3))
    # Room for the fewest workers below every threshold that is drawn.
    max_connections = draw(st.integers(max(60, 3 * min_replicas * pool), 400))
    per_pod = draw(st.sampled_from((0.3, 1.0, 3.0)))
    return Setup(
        max_connections=max_connections,
        superuser_reserved=draw(st.integers(0, 5)),
        headroom=draw(st.integers(0, 30)),
        others=draw(st.integers(0, max_connections // 3)),
        pressure_percent=draw(st.sampled_from((70, 80, 90, 100))),
        # Never so low that the fewest workers could not serve the calm.
        knee=draw(st.none() | st.integers(3 * pool, 20 * pool)),
        pool=pool,
        surge=draw(st.sampled_from(("0", "1", "3", "25%", "50%", "100%"))),
        start_replicas=draw(st.integers(1, 4)),
        min_replicas=min_replicas,
        max_replicas=draw(st.none() | st.integers(3, 30)),
        per_pod=per_pod,
        start_delay=draw(st.sampled_from((5.0, 20.0, 60.0))),
        grace=draw(st.sampled_from((0.0, 15.0, 60.0))),
        arrivals=draw(st.floats(0, 20)),
        backlog=draw(st.integers(0, 5000)),
        background=draw(st.sampled_from((0.0, 0.0, 0.2 * per_pod))),
        rest=draw(st.sampled_from((0.0, 0.0, 14.0))),
        counted_to=draw(st.sampled_from((None, None, 400))),
        noisy=draw(st.booleans()),
        honour_delay=draw(st.sampled_from((0.0, 10.0, 40.0))),
        write_owner=draw(st.booleans()),
        shared_role=draw(st.booleans()),
        interval=interval,
        jitter=draw(st.sampled_from((0.0, 0.1))),
        observe_for=observe_for,
        step_up=draw(st.integers(1, 6)),
        step_down=draw(st.integers(1, 3)),
        scale_down_after=draw(st.sampled_from((60.0, 300.0, 600.0))),
        drain_within=draw(st.sampled_from((120.0, 900.0))),
        yield_for=draw(st.sampled_from((60.0, 300.0))),
        slow_start=draw(st.booleans()),
        trips=draw(st.lists(_trips(), min_size=1, max_size=3).map(tuple)),
        second_trips=draw(st.lists(_trips(), max_size=1).map(tuple)),
        recover_for=draw(st.sampled_from((30.0, 120.0))),
        probe_for=draw(st.sampled_from((60.0, 300.0))),
    )


@st.composite
def _trips(draw: st.DrawFn) -> tuple[str, int, float]:
    signal = draw(st.sampled_from(_SIGNALS))
    value = {
        "waiting": st.integers(200, 3000),
        "oldestAge": st.integers(60, 600),
        "failedPercent": st.integers(2, 20),
        # Lower, and the workers within their budget would hold it open for good.
        "databaseUtilizationPercent": st.integers(85, 100),
    }[signal]
    return signal, draw(value), float(draw(st.sampled_from((15, 60, 120))))


_AMOUNTS: dict[What, st.SearchStrategy[float]] = {
    What.ARRIVALS: st.floats(0, 40),
    What.OTHERS: st.integers(0, 300).map(float),
    What.LOCKS: st.integers(1, 10).map(float),
    What.OUTAGE: st.sampled_from((0.0, 1.0)),
    What.UNREADABLE: st.integers(0, len(PARTS) - 1).map(float),
    What.CRASH: st.integers(0, 5).map(float),
    What.REPLICAS: st.integers(1, 20).map(float),
    What.FAILING: st.integers(1, 60).map(float),
    What.SLOW: st.floats(1, 5),
    What.PURGE: st.integers(0, 5000).map(float),
    What.KILL: st.integers(0, len(KILLED) - 1).map(float),
}
_NOTHING = st.just(0.0)


@st.composite
def _happening(draw: st.DrawFn, kinds: tuple[What, ...]) -> Event:
    what = draw(st.sampled_from(kinds))
    return Event(
        at=float(draw(st.integers(0, STORM))),
        what=what,
        amount=draw(_AMOUNTS.get(what, _NOTHING)),
        lasts=float(draw(st.integers(10, 900))),
    )


EVERYTHING = tuple(what for what in What if what is not What.CLOCK)


def storms(kinds: tuple[What, ...] = EVERYTHING) -> st.SearchStrategy[tuple[Event, ...]]:
    """Up to a dozen things that happen within the storm."""
    return st.lists(_happening(kinds), max_size=12).map(
        lambda events: tuple(sorted(events, key=lambda event: event.at))
    )


def calm(setup: Setup) -> tuple[Event, ...]:
    """What ends a storm: little work, few other clients. What lasts ends by itself."""
    # What a breaker on utilization needs to recover must be reachable with the fewest workers, or
    # the policy asks for what cannot be.
    recovers_at = min(setup.pressure_percent - 1, 0.9 * 85) / 100
    workers = setup.min_replicas * setup.pool
    room = int(setup.max_connections * recovers_at) - workers - OWN_CONNECTIONS - 1
    return (
        Event(STORM, What.ARRIVALS, 0.3 * setup.per_pod),
        # What even the fewest workers finish in this time.
        Event(STORM, What.PURGE, 0.5 * setup.per_pod * setup.min_replicas * LONGEST_DRAIN),
        Event(STORM, What.OTHERS, float(max(0, min(room, setup.max_connections // 5)))),
    )
