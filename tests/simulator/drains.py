"""Storms whose draining is measured, against the best time possible within the budget."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from tests.simulator.operator import Turn
from tests.simulator.oracle import best_drain
from tests.simulator.play import play
from tests.simulator.promises import Tally
from tests.simulator.setup import Event, Setup, What
from tests.simulator.world import World

# A storm begins after ten quiet minutes, so that the operator knows a calm queue before it, and
# lasts for forty: a campaign, or a client that retries until somebody fixes it.
STORM_AT = 600.0
STORM_FOR = 2400.0
# Jobs that may wait in a queue that counts as drained: about what comes in one pass.
DRAINED = 60
GIVE_UP = 8 * 3600.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world and a storm of so many jobs per second. `bar`: arrivals are steady and steps may
    grow, so the drain time is promised."""

    name: str
    setup: Setup
    events: tuple[Event, ...] = ()
    storm: float = 30.0
    storm_for: float = STORM_FOR
    bar: bool = False

    @property
    def all_events(self) -> tuple[Event, ...]:
        """The storm, and what else happens."""
        return (
            Event(STORM_AT, What.ARRIVALS, self.storm),
            Event(STORM_AT + self.storm_for, What.ARRIVALS, self.setup.arrivals),
            *self.events,
        )


@dataclass(frozen=True, slots=True)
class Drain:
    """What came out."""

    scenario: Scenario
    seconds: float | None
    best: float | None
    peak: int
    most_replicas: int
    broken: tuple[str, ...]
    tally: Tally
    paused_for: float
    passes_per_second: float  # of CPU time, so that a busy machine does not count

    @property
    def ratio(self) -> float | None:
        """Drain time by the best time."""
        return self.seconds / self.best if self.seconds and self.best else None


def measure(scenario: Scenario) -> Drain:
    """Play a storm until it is drained, and let the oracle drain the same jobs."""
    peak = most_replicas = 0
    paused_for = 0.0
    drained_at: float | None = None

    def drained(world: World, _: Turn) -> bool:
        nonlocal peak, most_replicas, paused_for, drained_at
        peak = max(peak, world.waiting)
        most_replicas = max(most_replicas, world.pods.replicas)
        paused_for += scenario.setup.interval * world.flag.paused
        stormy = world.now > STORM_AT + scenario.setup.interval
        if stormy and world.waiting <= DRAINED and peak > DRAINED:
            drained_at = world.now
        return drained_at is not None

    began = time.process_time()
    run = play(scenario.setup, scenario.all_events, until=GIVE_UP, seed=1, done=drained)
    took = time.process_time() - began
    best = best_drain(
        scenario.setup,
        scenario.all_events,
        tuple(run.world.came),
        since=STORM_AT,
        until=GIVE_UP,
        drained=DRAINED,
    )
    return Drain(
        scenario=scenario,
        seconds=None if drained_at is None else drained_at - STORM_AT,
        best=best,
        peak=peak,
        most_replicas=most_replicas,
        broken=tuple(run.watch.broken),
        tally=run.watch.tally,
        paused_for=paused_for,
        passes_per_second=run.operator.passes / took,
    )


_CALM = Setup(arrivals=2.0, start_replicas=3, drain_within=300.0)
_STOPPED = (("waiting", 5000, 120.0),)

SCENARIOS = (
    Scenario("steady storm, SlowStart", _CALM, bar=True),
    Scenario("steady storm of independent clients", replace(_CALM, noisy=True), bar=True),
    Scenario("steady storm, Fixed steps of 2", replace(_CALM, slow_start=False)),
    Scenario("runbook's drainWithin of 15 min", replace(_CALM, drain_within=900.0), bar=True),
    Scenario(
        "small pools: 1 connection per pod",
        replace(_CALM, pool=1, per_pod=0.3, start_replicas=8),
        storm=35.0,
        bar=True,
    ),
    Scenario(
        "large pools: 10 connections per pod",
        replace(_CALM, pool=10, per_pod=3.0, start_replicas=1),
        bar=True,
    ),
    # The steps up cost the same however short a storm is, so here they show most.
    Scenario("short storm of 10 min", _CALM, storm_for=600.0),
    Scenario("20,000 jobs at once, few arrivals", _CALM, storm=20_000 / 5, storm_for=5.0),
    Scenario("maxSurge 100 %", replace(_CALM, surge="100%"), storm=18.0, bar=True),
    Scenario(
        "other clients come and go",
        _CALM,
        (
            Event(STORM_AT + 900, What.OTHERS, 100),
            Event(STORM_AT + 1500, What.OTHERS, 30),
        ),
    ),
    Scenario("the database slows down beyond 48 connections", replace(_CALM, knee=48), storm=14.0),
    Scenario(
        "the database cannot be read for 5 min",
        _CALM,
        (Event(STORM_AT + 250, What.OUTAGE, 0, 300),),
    ),
    Scenario(
        "new pods crash for 5 min",
        _CALM,
        (Event(STORM_AT + 120, What.CRASH, 0, 300),),
    ),
    Scenario(
        "the operator is killed in every second step",
        _CALM,
        tuple(Event(STORM_AT + 120.0 * n, What.KILL, n % 4, 30) for n in range(1, 12)),
    ),
    Scenario(
        "two breakers", replace(_CALM, trips=_STOPPED, second_trips=(("oldestAge", 900, 60.0),))
    ),
    Scenario(
        "two breakers and a background queue",
        replace(_CALM, trips=_STOPPED, second_trips=(("oldestAge", 900, 60.0),), background=2.0),
    ),
    Scenario(
        "an autoscaler writes replicas twice",
        _CALM,
        (
            Event(STORM_AT + 400, What.REPLICAS, 6),
            Event(STORM_AT + 520, What.REPLICAS, 8),
        ),
    ),
)
