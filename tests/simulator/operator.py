"""The operator in the simulated world: the real decision, and an act that can die anywhere.

Plays a pass as `reconcile.py` does: decide, store the intent, act, store the result. Status lives
only as JSON text, so whatever a pass remembers beyond it is lost (P6).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from tests.simulator.eye import Eye, Facts
from tests.simulator.setup import KILLED, Event, What, moment
from tests.simulator.spec import OWNER
from tests.simulator.world import World

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.decide.budget.pool_resize import count_old_pool
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.plan import Action, Pause, Plan, Resume, ScaleTo, SetMaximum
from starforge_backlog.decide.results import (
    Failed,
    NotDone,
    Result,
    Written,
)
from starforge_backlog.snapshot import Why


@dataclass(frozen=True, slots=True)
class Turn:
    """One pass as a bystander saw it."""

    at: float
    now: datetime  # by the operator's own clock
    plan: Plan
    facts: Facts
    done: tuple[Action, ...]  # effects that happened, known to the operator or not
    before: QueueBacklogPolicyStatus
    after: QueueBacklogPolicyStatus
    status_changed: bool


class Operator:
    """Passes over one policy, with the faults that `World.pending` asks for."""

    def __init__(
        self,
        world: World,
        spec: QueueBacklogPolicySpec,
        *,
        name: str = "policy",
        ledger: ConnectionLedger | None = None,
    ) -> None:
        """`ledger` is shared by the policies of one operator (P1)."""
        self.name = name
        self.ledger = ledger or ConnectionLedger(lambda: world.now)
        self.world = world
        self.spec = spec
        self.eye = Eye(world.setup)
        self.dead_until = 0.0
        self.passes = 0
        self._stored = "{}"
        self._status = QueueBacklogPolicyStatus()
        self._clock_off = (0.0, 0.0)  # seconds, until when

    @property
    def status(self) -> QueueBacklogPolicyStatus:
        """As it is stored."""
        return self._status

    def turn(self) -> Turn | None:
        """One pass; None while nobody runs."""
        world = self.world
        faults = self._take_faults()
        if world.now < self.dead_until:
            return None
        self.passes += 1
        now = self._clock()
        before = self._status
        snapshot, facts = self.eye.read(world, now)
        wanted = self.spec.target.connections_per_replica
        snapshot = count_old_pool(wanted, before.scaling, snapshot, now)
        snapshot = self.ledger.count(self.name, self.spec, before, snapshot)
        plan = decide(self.spec, before, snapshot, now, owner=OWNER)
        for action in plan.actions:
            if isinstance(action, ScaleTo):
                self.ledger.raise_to(self.name, action.connections)
        self.ledger.report(self.name, plan.claim)
        killed = faults.get(What.KILL)
        done: list[Action] = []
        status = self._carry_out(plan, before, now, faults, done)
        if status is not None:
            self._store(status)
        if killed is not None:
            self._die(killed)
        return Turn(
            at=world.now,
            now=now,
            plan=plan,
            facts=facts,
            done=tuple(done),
            before=before,
            after=self._status,
            status_changed=self._status != before,
        )

    def _carry_out(
        self,
        plan: Plan,
        before: QueueBacklogPolicyStatus,
        now: datetime,
        faults: dict[What, Event],
        done: list[Action],
    ) -> QueueBacklogPolicyStatus | None:
        """The effects in order; returns the final status to store, or None when it is lost."""
        killed = faults.get(What.KILL)
        where = KILLED[int(killed.amount) % len(KILLED)] if killed else ""
        unreachable = self.world.lasts(What.API_OUTAGE)
        if where == KILLED[0] or (unreachable and plan.actions):
            return None
        if unreachable:
            return None
        if not plan.actions:
            return None if What.LOSE_STATUS in faults else plan.status
        self._store(plan.status)
        if where == KILLED[1]:
            return None
        results: list[Result] = []
        for action in plan.actions:
            result = self._do(action, faults, done)
            results.append(result)
            if not result.ok or where == KILLED[2]:
                break
        if where or What.LOSE_STATUS in faults:
            return None
        return merge(plan.status, tuple(results), now)

    def _do(self, action: Action, faults: dict[What, Event], done: list[Action]) -> Result:
        world = self.world
        match action:
            case ScaleTo(version=version, to=to):
                if What.CONFLICT in faults or version != str(world.pods.version):
                    return Result(action, Failed(NotDone.CONFLICT, "somebody wrote meanwhile"))
                world.pods.scale(to, world.now)
                done.append(action)
                if What.UNSURE in faults:
                    return Result(action, Failed(Why.TIMEOUT, "no answer in time"))
                return Result(action, Written(to))
            case SetMaximum():
                msg = "no policy of the simulator has a guard"
                raise AssertionError(msg)
            case Pause(token=token):
                if world.lasts(What.OUTAGE):
                    return Result(action, Failed(Why.UNREACHABLE, "connection refused"))
                paused = world.flag.pause(token)
                done.append(action)
                return Result(action, paused)
            case Resume(held):
                if world.lasts(What.OUTAGE):
                    return Result(action, Failed(Why.UNREACHABLE, "connection refused"))
                resumed = world.flag.resume(held.token, held.version)
                done.append(action)
                return Result(action, resumed)

    def _take_faults(self) -> dict[What, Event]:
        """Events meant for this pass; the last of a kind counts."""
        faults = {event.what: event for event in self.world.pending}
        self.world.pending.clear()
        clock = faults.get(What.CLOCK)
        if clock is not None:
            self._clock_off = (clock.amount, self.world.now + clock.lasts)
        unreadable = faults.get(What.UNREADABLE)
        if unreadable is not None:
            self.eye.unreadable(int(unreadable.amount))
        return faults

    def _clock(self) -> datetime:
        off, until = self._clock_off
        return moment(self.world.now + (off if self.world.now < until else 0.0))

    def _die(self, killed: Event) -> None:
        self.dead_until = self.world.now + killed.lasts
        self.eye.forget()

    def _store(self, status: QueueBacklogPolicyStatus) -> None:
        """Through JSON, as the API server keeps it; parsed again only when it differs."""
        if status == self._status:
            return
        text = status.model_dump_json(by_alias=True, exclude_defaults=True)
        if text != self._stored:
            self._stored = text
            self._status = QueueBacklogPolicyStatus.model_validate(json.loads(text))


def known(turn: Turn, *parts: str) -> bool:
    """Whether the operator could know all of those parts in that pass."""
    return turn.facts.unreadable.isdisjoint(parts)
