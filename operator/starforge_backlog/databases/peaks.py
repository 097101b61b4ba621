"""The most connections each role had lately: pools fill and drain, a budget needs the tide mark."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta

from starforge_backlog.decide.budget.formula import PEAK_WINDOW


class Peaks:
    """Remembers samples of `PEAK_WINDOW`. In memory alone: after a start the window is short,
    and says so."""

    def __init__(self) -> None:
        self._server = ""
        self._samples: deque[tuple[datetime, dict[str, int]]] = deque()
        self.until: Mapping[str, datetime] = {}
        """When each role's peak of the last `add` stops to count."""

    def add(
        self, server: str, by_role: Mapping[str, int], at: datetime
    ) -> tuple[Mapping[str, int], timedelta]:
        """Add a sample; the peak of each role, and how long the peaks cover.

        Another `server` starts again: its sessions have nothing to do with the old one's.
        """
        if server != self._server:
            self._server = server
            self._samples.clear()
        while self._samples and self._samples[0][0] < at - PEAK_WINDOW:
            self._samples.popleft()
        self._samples.append((at, dict(by_role)))
        peaks: dict[str, int] = {}
        until: dict[str, datetime] = {}
        for seen_at, sample in self._samples:
            for role, count in sample.items():
                if count >= peaks.get(role, 0):
                    peaks[role], until[role] = count, seen_at + PEAK_WINDOW
        self.until = until
        # A clock that was set back leaves samples of the future; they count, as long as they last.
        return peaks, max(at - self._samples[0][0], timedelta())
