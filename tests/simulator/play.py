"""Plays a setup and its events, pass by pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulator.operator import Operator, Turn
from tests.simulator.promises import Watch
from tests.simulator.setup import Event, Setup, What
from tests.simulator.spec import policy
from tests.simulator.world import World

Bystander = Callable[[World, Turn], bool]


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    world: World
    operator: Operator
    watch: Watch
    last: Turn


def play(
    setup: Setup,
    events: tuple[Event, ...] = (),
    *,
    until: float,
    seed: int = 0,
    done: Bystander | None = None,
) -> Run:
    """Run until that virtual second, or until `done` says so after a pass."""
    world = World(setup, events, seed)
    operator = Operator(world, policy(setup))
    watch = Watch(setup, world, clock_is_true=all(e.what is not What.CLOCK for e in events))
    others = sorted((e for e in events if e.what is What.REPLICAS), key=lambda e: e.at)
    last: Turn | None = None
    scatter = random.Random(seed)
    while world.now < until:
        wait = setup.interval * (1 + setup.jitter * scatter.uniform(-1, 1))
        world.advance(world.now + wait)
        while others and others[0].at <= world.now:
            watch.others(others.pop(0))
        turn = operator.turn()
        if turn is None:
            continue
        last = turn
        watch.turn(turn)
        if done is not None and done(world, turn):
            break
    assert last is not None, "nobody ever ran"
    return Run(world, operator, watch, last)
