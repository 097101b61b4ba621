"""Several policies on one database, under one operator: their connections are one sum (P1)."""

from __future__ import annotations

from tests.simulator.eye import OWN_CONNECTIONS
from tests.simulator.operator import Operator, Turn
from tests.simulator.promises import STEP_NEEDS
from tests.simulator.setup import Event, Setup
from tests.simulator.spec import policy
from tests.simulator.world import World

from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.decide.budget.formula import surge
from starforge_backlog.decide.plan import ScaleTo


class Neighbours:
    """Worlds that share a database: what one opens, the others see."""

    def __init__(
        self,
        setups: tuple[Setup, ...],
        storms: tuple[tuple[Event, ...], ...],
        restarts: tuple[float, ...] = (),
    ) -> None:
        """At each of `restarts` the operator starts again: only statuses are left."""
        self.broken: list[str] = []
        self.raised = [0 for _ in setups]  # steps up of each policy
        # Policies that had a pass. What the pods of the others have open are connections of other
        # clients (`connection_ledger.py`). In life rates are not known before all had their first
        # pass; here they are known in it.
        self._read: set[int] = set()
        self._now = 0.0
        self._restarts = sorted(restarts)
        self._operators = [
            Operator(World(setup, events), policy(setup), name=f"ns/{n}")
            for n, (setup, events) in enumerate(zip(setups, storms, strict=True))
        ]
        self._start()

    def _start(self) -> None:
        ledger = ConnectionLedger(lambda: self._now)
        for operator in self._operators:
            operator.ledger = ledger
            operator.eye.forget()
            ledger.expect(operator.name, operator.status)

    def play(self, until: float, interval: float) -> None:
        """Pass after pass; the policies take turns within each interval."""
        while self._now < until:
            self._now += interval
            now = self._now
            if self._restarts and self._restarts[0] <= now:
                self._restarts.pop(0)
                self._start()
            for number, operator in enumerate(self._operators):
                self._share(operator)
                operator.world.advance(now)
                turn = operator.turn()
                if turn is None:
                    continue
                self._read.add(number)
                self._check(number, turn)

    def _share(self, operator: Operator) -> None:
        """Other clients are the same for all; workers of other policies have a claim."""
        first, world = self._operators[0].world, operator.world
        if world is not first:
            world.others = first.others
        world.neighbours = {}
        for other in self._operators:
            if other is not operator:
                role, count = other.world.setup.role, other.world.worker_connections
                world.neighbours[role] = world.neighbours.get(role, 0) + count

    def _check(self, number: int, turn: Turn) -> None:
        for action in turn.done:
            if not isinstance(action, ScaleTo) or action.to <= action.from_:
                continue
            self.raised[number] += 1
            world = self._operators[number].world
            most = sum(self._counts(n) for n in range(len(self._operators)))
            most += turn.facts.others + OWN_CONNECTIONS + world.setup.headroom
            if most > world.usable:
                self.broken.append(f"{turn.at:.0f} s: all together can mean {most} connections")
            if not turn.facts.unreadable.isdisjoint(STEP_NEEDS):
                self.broken.append(f"{turn.at:.0f} s: a step up without {turn.facts.unreadable}")

    def _counts(self, number: int) -> int:
        world = self._operators[number].world
        return _potential(world) if number in self._read else world.worker_connections


def _potential(world: World) -> int:
    """Connections that the pods of one policy can open, during a rollout as well."""
    pods = world.pods
    living = max(pods.replicas + surge(pods.replicas, world.setup.surge), pods.living)
    return (living + pods.terminating) * world.setup.pool
