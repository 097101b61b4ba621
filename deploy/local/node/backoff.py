"""How long a container that keeps ending has to wait, by the kubelet's rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BackOff:
    """The first restart is immediate, then `base`, doubling up to thirty times it.

    A run of twice the longest wait is a success and forgets all that.
    """

    base: float = 10.0
    _next: float = 0.0

    @property
    def longest(self) -> float:
        return 30 * self.base

    def after_run_of(self, seconds: float) -> float:
        if seconds >= 2 * self.longest:
            self._next = 0.0
        wait = self._next
        self._next = min(max(2 * wait, self.base), self.longest)
        return wait
