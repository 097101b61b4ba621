"""The workload: pods that take time to start and to go, crash, and are replaced by a rollout."""

from __future__ import annotations

from tests.simulator.setup import Setup, moment

from starforge_backlog.api import FIELD_MANAGER
from starforge_backlog.decide.budget.formula import surge
from starforge_backlog.snapshot import NotReady, ScaleWriter, Workload


class Pods:
    """Counts of pods by state. `old` pods wait for their replacement in a rollout."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.replicas = setup.start_replicas
        self.ready = setup.start_replicas
        self.looping = 0
        self.old = 0
        self.restarts = 0
        self.crashing_until = 0.0
        self.version = 1
        self.writer: ScaleWriter | None = None
        self._starting: list[float] = []  # when each is Ready
        self._ending: list[float] = []  # when each is gone

    @property
    def living(self) -> int:
        """Pods that are not about to end."""
        return self.ready + self.looping + len(self._starting)

    @property
    def terminating(self) -> int:
        """Pods that still hold connections and are about to end."""
        return len(self._ending)

    def scale(self, replicas: int, now: float, manager: str = FIELD_MANAGER) -> None:
        """Somebody writes `replicas`."""
        self.replicas = replicas
        self.version += 1
        self.writer = ScaleWriter(manager, moment(now))

    def roll_out(self) -> None:
        """Every running pod is to be replaced."""
        self.old = self.ready
        self.version += 1

    def crash(self, pods: int) -> None:
        """Running pods start to crash."""
        fallen = min(pods, self.ready)
        self.ready -= fallen
        self.looping += fallen
        self.restarts += fallen
        self.old = min(self.old, self.ready)

    def advance(self, now: float) -> None:
        """What the controllers and the node do until `now`."""
        if self._ending:
            self._ending = [at for at in self._ending if at > now]
        if self._starting:
            self._become_ready(now)
        if self.looping and now >= self.crashing_until:
            self.ready += self.looping
            self.looping = 0
        self._replace(now)
        self._fit(now)

    def read(self, max_surge: str) -> Workload:
        """As the operator sees it."""
        pending = len(self._starting)
        return Workload(
            uid="workload",
            replicas=self.replicas,
            scale_version=str(self.version),
            writer=self.writer,
            ready=self.ready,
            pending=pending,
            crash_looping=self.looping,
            oom_killed=0,
            terminating=len(self._ending),
            restarts=self.restarts,
            max_surge=max_surge,
            paused=False,
            rolling_out=self.old > 0,
            generation=self.version,
            not_ready=NotReady("etl-worker", "CrashLoopBackOff") if self.looping else None,
        )

    def _become_ready(self, now: float) -> None:
        due = sum(1 for at in self._starting if at <= now)
        if not due:
            return
        self._starting = [at for at in self._starting if at > now]
        if now < self.crashing_until:
            self.looping += due
            self.restarts += due
        else:
            self.ready += due

    def _replace(self, now: float) -> None:
        """One turn of a rolling update, with no pod missing but where surge is 0."""
        if not self.old:
            return
        extra = surge(self.replicas, self._setup.surge)
        most = self.replicas + extra
        missing = min(self.replicas - (self.living - self.old), most - self.living)
        self._start(missing, now)
        keep = self.replicas if extra else self.replicas - 1
        while self.old and self.ready - 1 >= keep and self.ready > self.old - 1:
            self.old -= 1
            self._end_one(now)
            if not extra:
                break

    def _fit(self, now: float) -> None:
        """As many pods as `replicas` says (and the surge of a rollout)."""
        allowed = self.replicas + (surge(self.replicas, self._setup.surge) if self.old else 0)
        while self.living > allowed:
            if self.looping:
                self.looping -= 1
                self._ending.append(now + self._setup.grace)
            elif self._starting:
                self._starting.pop()
            else:
                self._end_one(now)
                self.old = min(self.old, self.ready)
        if not self.old:
            self._start(self.replicas - self.living, now)

    def _start(self, pods: int, now: float) -> None:
        for _ in range(pods):
            self._starting.append(now + self._setup.start_delay)

    def _end_one(self, now: float) -> None:
        self.ready -= 1
        self._ending.append(now + self._setup.grace)
