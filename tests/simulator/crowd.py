"""Two to six policies on one database that come and go: who gets what, and does the sum hold?

The operator is the real one, as in `operator.py`; the passes of the policies take turns in any
order. Policies are made, deleted, suspended, and broken; the process restarts and forgets all but
their statuses.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.simulator.eye import OWN_CONNECTIONS
from tests.simulator.operator import Operator, Turn
from tests.simulator.promises import STEP_NEEDS
from tests.simulator.setup import Event, Setup
from tests.simulator.spec import policy
from tests.simulator.world import World

from starforge_backlog.api.policy import Priority, QueueBacklogPolicySpec
from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.decide.budget.formula import surge
from starforge_backlog.decide.plan import ScaleTo, StepKind
from starforge_backlog.snapshot import Claim


class Change(StrEnum):
    """What people do to a policy."""

    JOIN = "join"  # it is made; until then its pods are other clients
    LEAVE = "leave"  # it is deleted; its pods stay
    SUSPEND = "suspend"
    GO_ON = "go on"
    BREAK = "break"  # its spec is not understood any more
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class Moment:
    """One of these, at a virtual second."""

    at: float
    who: int
    what: Change


@dataclass(frozen=True, slots=True)
class Member:
    """A policy as it is made."""

    setup: Setup
    priority: Priority
    events: tuple[Event, ...] = ()
    joins: bool = True  # from the start


@dataclass(slots=True)
class Write:
    """One write of replicas."""

    at: float
    who: int
    from_: int
    to: int
    kind: str


class Crowd:
    """Plays all of them, and checks the sum after every write."""

    def __init__(
        self,
        members: tuple[Member, ...],
        moments: Iterable[Moment] = (),
        restarts: Iterable[float] = (),
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.broken: list[str] = []
        self.writes: list[Write] = []
        self.members = members
        self.specs = [_spec(member) for member in members]
        self.operators = [
            Operator(World(member.setup, member.events), spec, name=f"ns/p{n}")
            for n, (member, spec) in enumerate(zip(members, self.specs, strict=True))
        ]
        self.present = {n for n, member in enumerate(members) if member.joins}
        self.suspended: set[int] = set()
        self.not_understood: set[int] = set()
        # What the operator could know of each: a rollout that began after a policy's last reading
        # is new to all, as are other clients that connect after a write.
        self._known: dict[int, int] = {}
        self._moments = sorted(moments, key=lambda moment: moment.at)
        self._restarts = sorted(restarts)
        self._random = random.Random(seed)
        self.ledger = ConnectionLedger(lambda: self.now)
        self._start()

    def _start(self) -> None:
        """A new process: it lists the policies, and knows their statuses."""
        self.ledger = ConnectionLedger(lambda: self.now)
        for number, operator in enumerate(self.operators):
            operator.ledger = self.ledger
            operator.eye.forget()
            if number in self.present:
                self.ledger.expect(operator.name, operator.status)

    def play(self, until: float, interval: float) -> None:
        """All passes until then."""
        while self.now < until:
            begin, order = self.now, sorted(self.present)
            self._random.shuffle(order)
            for place, number in enumerate(order):
                self._advance(begin + interval * (place + 1) / (len(order) + 1))
                if number in self.present:
                    self._pass(number)
            self._advance(begin + interval)

    def claims(self) -> list[Claim]:
        """What the ledger has of everybody, as an outsider sees it."""
        return list(self.ledger.others("db", ""))

    def holds(self, number: int) -> int:
        """Connections that the pods of one policy can open, during a rollout as well."""
        world = self.operators[number].world
        pods = world.pods
        living = max(pods.replicas + surge(pods.replicas, world.setup.surge), pods.living)
        return (living + pods.terminating) * world.setup.pool

    def counted(self) -> set[int]:
        """Who has a policy, and was read at least once."""
        return self.present & self._known.keys()

    def other_clients(self) -> int:
        """Connections that are nobody's with a policy, or with one that was never read."""
        first = self.operators[0].world
        gone = [o.world for n, o in enumerate(self.operators) if n not in self.counted()]
        return first.others + sum(world.worker_connections for world in gone) + OWN_CONNECTIONS

    # --- what happens --------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        self.now = now
        for operator in self.operators:
            self._share(operator)
            operator.world.advance(now)
        while self._restarts and self._restarts[0] <= now:
            self._restarts.pop(0)
            self._start()
        while self._moments and self._moments[0].at <= now:
            self._change(self._moments.pop(0))

    def _change(self, moment: Moment) -> None:
        number = moment.who % len(self.operators)
        operator = self.operators[number]
        match moment.what:
            case Change.JOIN:
                if number not in self.present:
                    self.present.add(number)
                    self.ledger.expect(operator.name, operator.status)
            case Change.LEAVE:
                if len(self.present) > 1:
                    self.present.discard(number)
                    self.ledger.drop(operator.name)
            case Change.SUSPEND:
                self.suspended.add(number)
            case Change.GO_ON:
                self.suspended.discard(number)
            case Change.BREAK:
                self.not_understood.add(number)
            case Change.REPAIR:
                self.not_understood.discard(number)

    def _share(self, operator: Operator) -> None:
        """Other clients are everybody's; the workers of others are seen by their role."""
        first, world = self.operators[0].world, operator.world
        if world is not first:
            world.others = first.others
        world.neighbours = {}
        for other in self.operators:
            if other is not operator:
                role, count = other.world.setup.role, other.world.worker_connections
                world.neighbours[role] = world.neighbours.get(role, 0) + count

    def _pass(self, number: int) -> None:
        operator = self.operators[number]
        self._share(operator)
        if number in self.not_understood:
            self.ledger.unread(operator.name, operator.status)
            return
        suspend = number in self.suspended
        operator.spec = self.specs[number].model_copy(update={"suspend": suspend})
        before = self.holds(number)
        turn = operator.turn()
        if turn is None:
            return
        # One that was never read is waited for, and not for ever; then its pods are other clients.
        if turn.facts.unreadable.isdisjoint(("workload", "connections")):
            self._known[number] = before
        if any(isinstance(action, ScaleTo) for action in turn.done):
            self._known[number] = max(before, self.holds(number))
        self._check(number, turn)

    def _check(self, number: int, turn: Turn) -> None:
        for action in turn.done:
            if not isinstance(action, ScaleTo):
                continue
            self.writes.append(Write(turn.at, number, action.from_, action.to, action.kind))
            if number in self.suspended:
                self._break(number, turn, "a write of a suspended policy")
            least = self.members[number].setup.min_replicas
            if action.kind is not StepKind.REVERT and action.to < min(least, action.from_):
                self._break(number, turn, f"{action.to} is below the minimum of {least}")
            if action.to <= action.from_:
                continue
            setup = self.members[number].setup
            most = sum(min(self.holds(n), self._known.get(n, 0)) for n in self.present)
            most += self.other_clients() - self.operators[0].world.others + turn.facts.others
            if most + setup.headroom > setup.max_connections - setup.superuser_reserved:
                self._break(number, turn, f"all together can mean {most} connections")
            if not turn.facts.unreadable.isdisjoint(STEP_NEEDS):
                self._break(number, turn, f"a step up without {sorted(turn.facts.unreadable)}")

    def _break(self, number: int, turn: Turn, what: str) -> None:
        self.broken.append(f"p{number} at {turn.at:.0f} s: {what}")


def _spec(member: Member) -> QueueBacklogPolicySpec:
    spec = policy(member.setup)
    queues = tuple(q.model_copy(update={"priority": member.priority}) for q in spec.queues)
    return spec.model_copy(update={"queues": queues})


def neighbour_of(first: Setup, other: Setup, role: str) -> Setup:
    """The same database under another policy."""
    return replace(
        other,
        max_connections=first.max_connections,
        superuser_reserved=first.superuser_reserved,
        others=first.others,
        interval=first.interval,
        role=role,
    )
