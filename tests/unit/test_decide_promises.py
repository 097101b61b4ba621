"""The promises over random storms: hypothesis searches for a world in which one is broken.

`STARFORGE_TESTS=thorough` searches for minutes with fresh random seeds; without it a few fixed
examples run in seconds.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.aftermath import LAST_TROUBLE, Aftermath
from tests.simulator.neighbours import Neighbours
from tests.simulator.operator import Turn
from tests.simulator.play import Run, play
from tests.simulator.setup import Event, Setup, What
from tests.simulator.storms import EVERYTHING, LONGEST_DRAIN, STORM, calm, setups, storms
from tests.simulator.world import World
from tests.thorough import THOROUGH

from starforge_backlog.api.policy import Breaker
from starforge_backlog.api.status import BreakerState, BreakerStatus
from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.decide import decision
from starforge_backlog.decide.breakers import breaker
from starforge_backlog.decide.breakers.breaker import LONGEST_OPEN
from starforge_backlog.decide.budget import formula
from starforge_backlog.decide.steps import scaling

HOUR = 3600.0
# A steady world is watched until it is silent, a noisy one (which never is) for this long.
NOISY_FOR = LONGEST_DRAIN + 2 * HOUR
LONGEST_RUN = LAST_TROUBLE + LONGEST_DRAIN + 8 * HOUR
# Found by measuring: thousands of random storms stay below 6 and 8 for two breakers.
MOST_TURNS_PER_HOUR = 12  # steps up after down, and down after up
MOST_OPENINGS_PER_HOUR = 8  # per breaker

search = settings(
    max_examples=1500 if THOROUGH else 7,
)
# Hypothesis shrinks for up to five minutes after a find.
long_enough = pytest.mark.timeout(3600 if THOROUGH else 600)


def storm_and_calm(setup: Setup, events: tuple[Event, ...]) -> tuple[Run, Aftermath]:
    """Play a storm, and what comes after it until nothing changes any more."""
    aftermath = Aftermath(setup)
    until = LAST_TROUBLE + NOISY_FOR if setup.noisy else LONGEST_RUN
    return play(setup, (*events, *calm(setup)), until=until, done=aftermath), aftermath


@long_enough
@search
@given(setups(), storms())
def test_no_storm_breaks_a_promise(setup: Setup, events: tuple[Event, ...]) -> None:
    run, aftermath = storm_and_calm(setup, events)

    assert run.watch.broken == []
    hours = run.world.now / HOUR
    breakers = 2 if setup.second_trips else 1
    assert run.watch.tally.turns_of_direction <= MOST_TURNS_PER_HOUR * hours
    assert run.watch.tally.openings <= MOST_OPENINGS_PER_HOUR * hours * breakers

    # A pause that never ends is a broken promise as well (P4).
    assert aftermath.drained_at is not None
    assert aftermath.drained_at <= LAST_TROUBLE + LONGEST_DRAIN
    assert aftermath.released_at is not None
    assert run.world.flag.by != "us"
    # Under a person's pause nothing is probed, so no breaker closes.
    at_rest = {BreakerState.CLOSED, BreakerState.HALF_OPEN if run.world.flag.paused else None}
    assert {b.state for b in run.last.after.breakers} <= at_rest
    waits = LONGEST_OPEN.total_seconds() + 2 * setup.scale_down_after + 4 * setup.observe_for
    recovered = max(aftermath.drained_at, LAST_TROUBLE)
    assert aftermath.released_at <= recovered + waits + setup.recover_for + setup.probe_for

    # Nothing changes: nothing is done, and not a byte of status is written (P7).
    if not setup.noisy:
        assert aftermath.silent_since is not None


@long_enough
@search
@given(setups(), storms((*EVERYTHING, What.CLOCK)), st.floats(-7200, 7200))
def test_a_clock_that_jumps_breaks_no_promise_but_times(
    setup: Setup, events: tuple[Event, ...], off: float
) -> None:
    jumps = tuple(replace(e, amount=off) if e.what is What.CLOCK else e for e in events)
    run, aftermath = storm_and_calm(setup, jumps)

    assert run.watch.broken == []
    assert aftermath.released_at is not None
    if not setup.noisy:
        assert aftermath.silent_since is not None


@pytest.mark.parametrize("arrivals", [0.02, 0.5, 2.0, 7.3])
def test_chance_moves_no_replicas_and_hardly_writes(arrivals: float) -> None:
    """Independent clients scatter; 2 jobs/s are exactly what two replicas of three finish."""
    setup = Setup(arrivals=arrivals, noisy=True, start_replicas=int(arrivals / 0.8) + 1)
    settled, changes, deeds = 2 * HOUR, 0, 0

    def check(world: World, turn: Turn) -> bool:
        nonlocal changes, deeds
        if world.now > settled:
            changes += turn.status_changed
            deeds += len(turn.done)
        return False

    play(setup, until=settled + 4 * HOUR, done=check)
    assert deeds == 0
    assert changes <= 8  # of 960 passes


# What happens to neighbours. Not another writer of replicas: what it adds between two passes is
# known to nobody, and no write of ours.
AMONG_NEIGHBOURS = tuple(
    what
    for what in EVERYTHING
    if what not in {What.REPLICAS, What.KILL, What.UNREADABLE, What.STALE}
)


@st.composite
def neighbourhoods(
    draw: st.DrawFn,
) -> tuple[tuple[Setup, ...], tuple[tuple[Event, ...], ...]]:
    """Two or three policies on one database, with roles of their own or one for all."""
    first = draw(setups())
    same_role = draw(st.booleans())
    others = [
        replace(
            draw(setups()),
            max_connections=first.max_connections,
            superuser_reserved=first.superuser_reserved,
            others=first.others,
            role="worker" if same_role else f"worker-{n}",
        )
        for n in range(draw(st.integers(1, 2)))
    ]
    everybody = (first, *others)
    return everybody, tuple(draw(storms(AMONG_NEIGHBOURS)) for _ in everybody)


@long_enough
@search
@given(neighbourhoods(), st.lists(st.floats(0, STORM), max_size=3).map(tuple))
def test_policies_on_one_database_share_one_budget(
    drawn: tuple[tuple[Setup, ...], tuple[tuple[Event, ...], ...]], restarts: tuple[float, ...]
) -> None:
    neighbours = Neighbours(*drawn, restarts)
    neighbours.play(STORM, drawn[0][0].interval)
    assert neighbours.broken == []


def test_the_check_of_neighbours_sees_a_claim_that_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Setup(backlog=9000, arrivals=30, others=20, pressure_percent=100, pool_fills_in=9000)
    two = replace(one, role="worker-2")
    neighbours = Neighbours((one, two), ((), ()))
    neighbours.play(HOUR, one.interval)
    assert neighbours.broken == []
    assert min(neighbours.raised) > 1

    monkeypatch.setattr(ConnectionLedger, "others", lambda *_: ())
    careless = Neighbours((one, two), ((), ()))
    careless.play(HOUR, one.interval)
    assert careless.broken != []


# --- the watch itself can fail --------------------------------------------------------------------

STEADY_STORM = Setup(backlog=4000, arrivals=12, others=90, surge="25%", noisy=True)


def broken_by(setup: Setup, *events: Event) -> str:
    """The promises that a run broke, joined."""
    return " ".join(play(setup, events, until=HOUR).watch.broken)


def test_the_watch_sees_a_budget_that_forgets_other_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert broken_by(STEADY_STORM) == ""
    monkeypatch.setattr(formula, "others", lambda *_: 0)
    assert "P1" in broken_by(replace(STEADY_STORM, pressure_percent=100))


def test_the_watch_sees_a_budget_that_forgets_surge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula, "largest", lambda slots, _: max(0, slots))
    assert "P1" in broken_by(replace(STEADY_STORM, pressure_percent=100, surge="100%"))


def test_the_watch_sees_a_step_without_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    unreadable = Event(at=100, what=What.UNREADABLE, amount=4, lasts=600)  # the oldest job's age
    assert broken_by(STEADY_STORM, unreadable) == ""
    monkeypatch.setattr(scaling, "_blocked", lambda _: None)
    monkeypatch.setattr(scaling, "judge_last_step", lambda at: (at, None))
    assert "P2" in broken_by(STEADY_STORM, unreadable)


def test_the_watch_sees_a_second_step_that_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "judge_last_step", lambda at: (at, None))
    monkeypatch.setattr(scaling, "_held", lambda _: None)
    assert "P3" in broken_by(STEADY_STORM)


def test_the_watch_sees_a_fight_over_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tuple(Event(at=300.0 + 60 * n, what=What.REPLICAS, amount=3) for n in range(5))
    assert broken_by(STEADY_STORM, *theirs) == ""
    monkeypatch.setattr(scaling, "yield_to_others", lambda at: (at, None))
    assert "P9" in broken_by(STEADY_STORM, *theirs)


def test_the_watch_sees_a_release_without_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(backlog=1500, arrivals=9, trips=(("waiting", 1000, 15.0),))
    unreadable = Event(
        at=60, what=What.UNREADABLE, amount=3, lasts=600
    )  # the number of waiting jobs
    assert broken_by(setup, unreadable) == ""

    def half_open_at_once(
        _: Breaker, status: BreakerStatus, signals: object, now: datetime
    ) -> BreakerStatus:
        return status.model_copy(update={"state": BreakerState.HALF_OPEN, "since": now})

    monkeypatch.setattr(decision, "decisive", lambda *_: True)
    monkeypatch.setattr(breaker, "_open", half_open_at_once)
    assert "P2" in broken_by(setup, unreadable)


def test_the_watch_sees_a_release_on_a_count_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(
        backlog=1500, arrivals=9, counted_to=400, trips=(("waiting", 300, 15.0),), min_replicas=4
    )
    assert broken_by(setup) == ""

    def half_open_at_once(
        _: Breaker, status: BreakerStatus, signals: object, now: datetime
    ) -> BreakerStatus:
        return status.model_copy(update={"state": BreakerState.HALF_OPEN, "since": now})

    monkeypatch.setattr(breaker, "_open", half_open_at_once)
    assert "P2" in broken_by(setup)
