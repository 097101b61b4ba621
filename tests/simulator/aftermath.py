"""The state of a run once the storm is over: when it drained, was released, and fell silent."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulator.operator import Turn
from tests.simulator.promises import ours_is_paused
from tests.simulator.setup import Setup
from tests.simulator.storms import STORM
from tests.simulator.world import World

# Events last 900 s at most, and an outage can begin with the storm's last second.
LAST_TROUBLE = STORM + 900
# Jobs that may still wait in a queue that counts as drained: what comes in one pass.
DRAINED = 20


@dataclass(slots=True)
class Aftermath:
    """A bystander for `play`: ends the run when nothing has changed for long enough."""

    setup: Setup
    drained_at: float | None = None
    released_at: float | None = None  # since when no pause of ours is left
    silent_since: float | None = None  # since when status was not written and nothing done

    @property
    def patience(self) -> float:
        """Silence of this length is the end: longer than any time that the operator waits for,
        but the longest hold-down and the longest open breaker (30 min each)."""
        waits = (self.setup.scale_down_after, self.setup.probe_for, self.setup.yield_for)
        return 1800.0 + max(waits) + 3 * self.setup.observe_for

    def __call__(self, world: World, turn: Turn) -> bool:
        """Read one pass; True ends the run."""
        if world.now < LAST_TROUBLE:
            return False
        if self.drained_at is None and world.queue.waiting <= DRAINED:
            self.drained_at = world.now
        if ours_is_paused(turn):
            self.released_at = None
        elif self.released_at is None:
            self.released_at = world.now
        if turn.status_changed or turn.done:
            self.silent_since = None
        elif self.silent_since is None:
            self.silent_since = world.now
        silent = self.silent_since is not None and world.now - self.silent_since > self.patience
        return silent and self.drained_at is not None
