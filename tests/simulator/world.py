"""The truth: queue, workers, database and flag in virtual time. The operator never sees this."""

from __future__ import annotations

import math
import random

from tests.simulator.backlog import Backlog
from tests.simulator.flag import Flag
from tests.simulator.pods import Pods
from tests.simulator.setup import Event, Setup, What

# Virtual seconds per tick: shorter than any start delay or interval that a setup has.
TICK = 5.0
# What work is left while sessions wait for locks.
SPEED_UNDER_LOCKS = 0.5


class World:
    """Advances in ticks; events change it."""

    def __init__(
        self,
        setup: Setup,
        events: tuple[Event, ...] = (),
        seed: int = 0,
        script: tuple[int, ...] | None = None,
    ) -> None:
        """`script` replaces the producers: the jobs that arrive in each tick, as another run
        recorded them in `came`."""
        self.setup = setup
        self.now = 0.0
        self.queue = Backlog(setup.observe_for)
        self.other_queue = Backlog(setup.observe_for)
        self.queue.add(0.0, setup.backlog)
        self.queue.begin()
        self.pods = Pods(setup)
        self.flag = Flag(setup.write_owner)
        self.others = setup.others
        self.opened = 0.0  # connections that ready workers have open
        self.lock_waiters = 0
        self.failing = 0
        self.slow = 1.0
        self.arrivals = setup.arrivals
        self.pending: list[Event] = []  # events for the operator, until its next pass
        self._until: dict[What, float] = {}
        self.came: list[int] = []
        self.neighbours: dict[str, int] = {}  # other policies' workers: role, connections open
        self._script = script
        self._events = sorted(events, key=lambda event: event.at)
        self._next = 0
        self._honoured = False  # whether producers have noticed the flag
        self._flag_seen_for = 0.0
        self._random = random.Random(seed)
        self._arriving = self._finishing = self._arriving_background = 0.0

    def lasts(self, what: What) -> bool:
        """Whether such an event is still going on."""
        return self.now < self._until.get(what, -1.0)

    def advance(self, until: float) -> None:
        """Let time pass."""
        while self.now < until:
            step = min(TICK, until - self.now)
            self.now += step
            self._happen()
            self._tick(step)

    def capacity(self) -> float:
        """Jobs per second that the ready pods finish when there is enough to do."""
        if self.lasts(What.OUTAGE) and self._outage_for_all:
            return 0.0
        ready = self.pods.ready
        rate = ready * self.setup.per_pod / self.slow
        active = ready * self.setup.pool
        if self.setup.knee is not None and active > self.setup.knee:
            rate *= (self.setup.knee / active) ** self.setup.knee_power
        if self.lock_waiters:
            rate *= SPEED_UNDER_LOCKS
        return rate

    @property
    def waiting(self) -> int:
        """Jobs that wait, in all queues."""
        return self.queue.waiting + self.other_queue.waiting

    @property
    def worker_connections(self) -> int:
        """Connections that the workers have open, those about to end included."""
        return int(self.opened) + self.pods.terminating * self.setup.pool

    @property
    def usable(self) -> int:
        """Connections that anybody but a superuser can have."""
        return self.setup.max_connections - self.setup.superuser_reserved

    # What an outage means is fixed when it begins.
    _outage_for_all = False

    def _tick(self, step: float) -> None:
        self.pods.advance(self.now)
        self._notice_flag(step)
        arriving = 0.0 if self._honoured else self.arrivals
        self._arriving += self._scatter(arriving * step)
        self._arriving_background += self._scatter(self.setup.background * step)
        jobs, self._arriving = divmod(self._arriving, 1)
        if self._script is not None:
            tick = len(self.came)
            jobs = self._script[tick] if tick < len(self._script) else 0
        self.came.append(int(jobs))
        self.queue.add(self.now, int(jobs))
        jobs, self._arriving_background = divmod(self._arriving_background, 1)
        self.other_queue.add(self.now, int(jobs))

        capacity = self.capacity()
        self._finishing += capacity * step
        todo, self._finishing = divmod(self._finishing, 1)
        done = self.queue.take(int(todo), self.failing)
        done += self.other_queue.take(int(todo) - done, self.failing)
        if done < todo:
            self._finishing = 0.0  # idle workers save nothing up
        self._fill_pools(step, done / todo if todo else 0.0)
        self.queue.note(self.now)
        self.other_queue.note(self.now)

    def _scatter(self, jobs: float) -> float:
        if not self.setup.noisy or jobs <= 0:
            return jobs
        return max(0.0, self._random.gauss(jobs, math.sqrt(jobs)))

    def _fill_pools(self, step: float, busy: float) -> None:
        """Pools open connections as work arrives, and keep them."""
        most = float(self.pods.ready * self.setup.pool)
        self.opened = min(self.opened, most)
        self.opened += (most - self.opened) * min(1.0, step / self.setup.pool_fills_in) * busy

    def _notice_flag(self, step: float) -> None:
        if self.flag.paused == self._honoured:
            self._flag_seen_for = 0.0
            return
        self._flag_seen_for += step
        if self._flag_seen_for >= self.setup.honour_delay:
            self._honoured = self.flag.paused

    # --- events ------------------------------------------------------------------------------

    def _happen(self) -> None:
        while self._next < len(self._events) and self._events[self._next].at <= self.now:
            self._start(self._events[self._next])
            self._next += 1
        self.flag.missing = self.lasts(What.ROW_GONE)
        if self.lock_waiters and not self.lasts(What.LOCKS):
            self.lock_waiters = 0
        if self.failing and not self.lasts(What.FAILING):
            self.failing = 0
        if self.slow != 1.0 and not self.lasts(What.SLOW):
            self.slow = 1.0

    def _start(self, event: Event) -> None:
        self._until[event.what] = max(
            self._until.get(event.what, 0.0), self.now + event.lasts if event.lasts else 0.0
        )
        amount = event.amount
        match event.what:
            case What.ARRIVALS:
                self.arrivals = amount
            case What.OTHERS:
                # Other clients cannot have what the workers hold already.
                held = self.worker_connections + sum(self.neighbours.values())
                self.others = max(0, min(int(amount), self.usable - held - 1))
            case What.LOCKS:
                self.lock_waiters = int(amount)
            case What.FAILING:
                self.failing = int(amount)
            case What.SLOW:
                self.slow = max(1.0, amount)
            case What.OUTAGE:
                self._outage_for_all = bool(amount)
            case What.CRASH:
                self.pods.crashing_until = max(self.pods.crashing_until, self.now + event.lasts)
                self.pods.crash(int(amount))
            case What.ROLLOUT:
                self.pods.roll_out()
            case What.REPLICAS:
                self.pods.scale(int(amount), self.now, "somebody")
            case What.PURGE:
                self.queue.purge(int(amount))
            case What.PAUSE:
                self.flag.person_pauses()
            case What.ROW_GONE:
                self.flag.deleted()
            case What.RESUME:
                self.flag.person_resumes()
            case _:
                self.pending.append(event)
