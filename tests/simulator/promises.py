"""The promises as a bystander checks them who knows the truth.

Nothing here checks how a decision was made: only what was written, when, and what was true.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulator.eye import OWN_CONNECTIONS
from tests.simulator.operator import Turn, known
from tests.simulator.setup import Event, Setup, What
from tests.simulator.world import World

from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.api.status import BreakerState, PauseState, StepVerdict
from starforge_backlog.decide.budget.formula import surge
from starforge_backlog.decide.plan import Pause, Resume, ScaleTo, SetMaximum, StepKind
from starforge_backlog.snapshot import Known

# Readings without which no step up is taken, and those without which nothing is resumed.
STEP_NEEDS = ("workload", "connections", "health", "waiting", "oldest", "rates")
SIGNAL_NEEDS = {
    "waiting": "waiting",
    "oldestAge": "oldest",
    "failedPercent": "outcomes",
    "databaseUtilizationPercent": "connections",
}


@dataclass(slots=True)
class Tally:
    """What happened in a run, for tables and bounds."""

    ups: int = 0
    downs: int = 0
    reverts: int = 0
    pauses: int = 0
    resumes: int = 0
    openings: int = 0
    turns_of_direction: int = 0  # up after down or down after up, among our own writes
    status_writes: int = 0
    passes: int = 0


@dataclass(slots=True)
class _LastUp:
    at: float
    to: int
    ready_at: float | None = None  # when the truth had all its pods Ready


@dataclass(slots=True)
class Watch:
    """Checks each turn; `broken` lists what was not kept."""

    setup: Setup
    world: World
    broken: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    _last_up: _LastUp | None = None
    _direction: int = 0
    _holds: list[float] = field(default_factory=list)  # hold-downs of failures in a row
    _others_at: float | None = None  # when the operator saw another client's replicas last
    clock_is_true: bool = True

    def turn(self, turn: Turn) -> None:
        """Check one pass."""
        self.tally.passes += 1
        self.tally.status_writes += turn.status_changed
        self._notice_others(turn)
        for action in turn.done:
            match action:
                case ScaleTo():
                    self._scaled(turn, action)
                case Resume():
                    self.tally.resumes += 1
                    self._resumed(turn)
                case Pause():
                    self.tally.pauses += 1
                case SetMaximum():
                    self._break(turn, "P9", "an autoscaler's maximum was written without a guard")
        self._observe_last_up(turn)
        self._openings(turn)
        if self.world.flag.stolen:
            self._break(turn, "P4", "another client's pause was resumed")
            self.world.flag.stolen = 0

    def others(self, event: Event) -> None:
        """Another client acted: what we observe is not only our own doing any more."""
        if event.what is What.REPLICAS:
            self._last_up = None

    # --- P1, P2, P3, P9 ----------------------------------------------------------------------

    def _scaled(self, turn: Turn, step: ScaleTo) -> None:
        direction = 1 if step.to > step.from_ else -1
        if self._direction == -direction:
            self.tally.turns_of_direction += 1
        self._direction = direction
        if step.kind is StepKind.REVERT:
            self.tally.reverts += 1
        elif direction < 0:
            self.tally.downs += 1
        if direction > 0:
            self.tally.ups += 1
            self._raised(turn, step)
        elif self._last_up is not None:
            self._last_up = None
        if self._others_at is not None and self.clock_is_true:
            quiet_for = turn.at - self._others_at
            if quiet_for < self.setup.yield_for:
                self._break(turn, "P9", f"wrote replicas {quiet_for:.0f} s after another client")

    def _notice_others(self, turn: Turn) -> None:
        """Another client's replicas, in a pass that could know it."""
        match turn.plan.seen.workload:
            case Known(workload) if known(turn, "workload"):
                remembered = turn.before.scaling.applied_replicas
                writer = workload.writer
                theirs = writer is not None and writer.manager != FIELD_MANAGER
                if theirs and remembered is not None and workload.replicas != remembered:
                    external = turn.before.scaling.external
                    if external is None or external.replicas != workload.replicas:
                        self._others_at = turn.at
            case _:
                pass

    def _raised(self, turn: Turn, step: ScaleTo) -> None:
        setup, facts = self.setup, turn.facts
        pods = step.to + surge(step.to, setup.surge) + facts.terminating
        most = pods * setup.pool + facts.others + OWN_CONNECTIONS + setup.headroom
        if most > self.world.usable:
            self._break(turn, "P1", f"{step.to} replicas can mean {most} > {self.world.usable}")
        if setup.max_replicas is not None and step.to > setup.max_replicas:
            self._break(turn, "P1", f"{step.to} replicas are above maxReplicas")
        if not known(turn, *STEP_NEEDS):
            self._break(turn, "P2", f"a step up without {sorted(facts.unreadable)}")
        last = self._last_up
        if last is not None:
            # The pass that takes a step is itself the one that has seen what the last one did.
            judged = turn.plan.status.scaling.last_judged
            if judged is None or judged.to != last.to or judged.verdict is not StepVerdict.PASSED:
                self._break(turn, "P3", f"a step up, the one at {last.at:.0f} s has not passed")
            if last.ready_at is None:
                self._break(turn, "P3", f"a step up, the one at {last.at:.0f} s not ready")
            elif self.clock_is_true and turn.at - last.ready_at < setup.observe_for:
                self._break(turn, "P3", f"a step up {turn.at - last.ready_at:.0f} s after the last")
        held = turn.before.scaling.hold_down_until
        if held is not None and turn.now < held:
            self._break(turn, "P3", "a step up within a hold-down")
        self._last_up = _LastUp(turn.at, step.to)

    def _observe_last_up(self, turn: Turn) -> None:
        """Follow the truth about the last step: hold-downs, and whether its pods are there."""
        scaling, before = turn.after.scaling, turn.before.scaling
        if scaling.failed_steps > before.failed_steps and scaling.hold_down_until is not None:
            held = (scaling.hold_down_until - turn.now).total_seconds()
            if before.failed_steps and self._holds and held < self._holds[-1]:
                self._break(turn, "P3", f"a hold-down of {held:.0f} s after one of {self._holds}")
            self._holds.append(held)
        elif not scaling.failed_steps:
            self._holds.clear()
        last = self._last_up
        if last is None:
            return
        pods = self.world.pods
        if last.ready_at is None and pods.ready >= pods.replicas and turn.at > last.at:
            last.ready_at = turn.at

    # --- P2 and P4 for producers ---------------------------------------------------------------

    def _resumed(self, turn: Turn) -> None:
        trips = (*self.setup.trips, *self.setup.second_trips)
        needs = {SIGNAL_NEEDS[signal] for signal, _, _ in trips}
        # No outcome at all is a fact about a drained queue, which only `outcomes` can be.
        if not known(turn, *needs):
            self._break(turn, "P2", f"a resume without {sorted(turn.facts.unreadable)}")
        most = self.setup.counted_to
        hidden = most is not None and max(self._waiting()) > most
        if hidden and any(signal == "waiting" for signal, _, _ in trips):
            self._break(turn, "P2", f"a resume on a count that stopped at {most}")

    def _waiting(self) -> tuple[int, int]:
        return self.world.queue.waiting, self.world.other_queue.waiting

    def _openings(self, turn: Turn) -> None:
        was = {b.name: b.state for b in turn.before.breakers}
        for breaker in turn.after.breakers:
            opened = breaker.state is BreakerState.OPEN
            if opened and was.get(breaker.name) is not BreakerState.OPEN:
                self.tally.openings += 1

    def _break(self, turn: Turn, promise: str, what: str) -> None:
        self.broken.append(f"{promise} at {turn.at:.0f} s: {what}")


def ours_is_paused(turn: Turn) -> bool:
    """Whether a pause of ours is in force or on its way, as the status has it."""
    return any(e.state in {PauseState.HELD, PauseState.INTENDED} for e in turn.after.paused)
