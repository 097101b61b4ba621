"""The job queue: what waits, for how long, and how it flowed in the last window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flow:
    """Jobs that came and ended within a window of that many seconds."""

    arrived: int
    finished: int
    failed: int
    seconds: float


class Backlog:
    """First in, first out. Jobs that came at the same moment are one cohort."""

    def __init__(self, window: float) -> None:
        self.waiting = 0
        self.arrived = 0
        self.finished = 0
        self.failed = 0
        self._cohorts: deque[tuple[float, int]] = deque()
        self._window = window
        # (time, arrived, finished, failed); the first one is where the window begins.
        self._history: deque[tuple[float, int, int, int]] = deque([(0.0, 0, 0, 0)])

    def add(self, now: float, jobs: int) -> None:
        """Jobs arrive."""
        if jobs > 0:
            self._cohorts.append((now, jobs))
            self.waiting += jobs
            self.arrived += jobs

    def begin(self) -> None:
        """What is there already did not arrive in any window."""
        self._history[0] = (0.0, self.arrived, self.finished, self.failed)

    def take(self, jobs: int, failing: int) -> int:
        """Finish up to that many jobs, `failing` percent of them badly; returns how many."""
        done = min(jobs, self.waiting)
        left = done
        while left:
            since, count = self._cohorts[0]
            if count > left:
                self._cohorts[0] = (since, count - left)
                break
            self._cohorts.popleft()
            left -= count
        bad = (self.finished + self.failed + done) * failing // 100 if failing else 0
        bad = min(done, max(0, bad - self.failed)) if failing else 0
        self.waiting -= done
        self.failed += bad
        self.finished += done - bad
        return done

    def purge(self, keep: int) -> None:
        """Forget the newest jobs, all but `keep`."""
        while self.waiting > keep:
            since, count = self._cohorts.pop()
            left = max(0, keep - (self.waiting - count))
            self.waiting -= count - left
            if left:
                self._cohorts.append((since, left))

    def oldest(self, now: float) -> float:
        """Age of the oldest job in seconds; 0 when none waits."""
        return now - self._cohorts[0][0] if self._cohorts else 0.0

    def note(self, now: float) -> None:
        """Remember the counters, so that rates are known."""
        history = self._history
        history.append((now, self.arrived, self.finished, self.failed))
        while len(history) > 1 and history[1][0] <= now - self._window:
            history.popleft()

    def flow(self, now: float) -> Flow:
        """What happened within the last window."""
        began, arrived, finished, failed = self._history[0]
        return Flow(
            arrived=self.arrived - arrived,
            finished=self.finished - finished,
            failed=self.failed - failed,
            seconds=max(1.0, now - began),
        )
