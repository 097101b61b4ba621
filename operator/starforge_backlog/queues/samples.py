"""What was read lately, as far back as the longest window; the memory behind every rate.

Bounded: samples that are closer than a second replace each other, older ones than the longest
window are dropped.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from starforge_backlog.snapshot import Unknown, Why

_CLOSEST = 1.0  # seconds between samples: below, a counter's own delay is all one would see


class Timed(Protocol):
    """Something that was read at a moment."""

    @property
    def at(self) -> float:
        """Server time in seconds."""


S = TypeVar("S", bound=Timed)


class Samples(Generic[S]):
    """Samples in order of time, all of one epoch of the counters in them."""

    def __init__(self, *, longest: float) -> None:
        self._longest = longest
        self._samples: list[S] = []
        self._restarted_at: float | None = None

    @property
    def samples(self) -> tuple[S, ...]:
        """All samples, oldest first."""
        return tuple(self._samples)

    @property
    def last(self) -> S | None:
        """The newest sample."""
        return self._samples[-1] if self._samples else None

    def no_window(self, seconds: float, at: datetime, *, reset: str) -> Unknown:
        """Why there is no window of so many seconds to average over, and when there is one; `reset`
        says it where the counters started again."""
        last = self._samples[-1].at if self._samples else 0.0
        if self._restarted_at is not None and last - self._restarted_at < seconds:
            return Unknown(Why.COUNTER_RESET, reset, at)
        message = f"Warming up: rates are known in about {seconds / 2:g} s; no scaling until then."
        if len(self._samples) > 1 and last - self._samples[-2].at > seconds * 2:
            message = (
                f"The last two readings are more than {seconds * 2:g} s apart: rates are known in"
                f" about {seconds / 2:g} s if readings come more often; no scaling until then."
            )
        return Unknown(Why.NOT_YET, message, at)

    def restart(self, at: float) -> None:
        """Forget what the counters were before: they started again."""
        self._samples, self._restarted_at = [], at

    def keep(self, sample: S) -> None:
        """Remember one more."""
        if len(self._samples) > 1 and sample.at - self._samples[-2].at < _CLOSEST:
            self._samples.pop()
        self._samples.append(sample)
        oldest = sample.at - self._longest
        # One sample older than the window stays, so that the whole window is covered.
        while len(self._samples) > 1 and self._samples[1].at <= oldest:
            self._samples.pop(0)

    def window(self, seconds: float) -> tuple[S, S] | None:
        """First and last sample of a window that ends now: as near to `seconds` as can be.

        None unless at least half of the window is covered, and when the nearest earlier sample is
        more than twice as old: a rate over another time than asked for would compare wrongly.
        """
        if not self._samples:
            return None
        last = self._samples[-1]
        earlier = [s for s in self._samples[:-1] if seconds / 2 <= last.at - s.at <= seconds * 2]
        if not earlier:
            return None
        return min(earlier, key=lambda s: abs(last.at - s.at - seconds)), last

    def steps(self, seconds: float) -> list[tuple[S, S]]:
        """Neighbouring samples within the last `seconds`, oldest first."""
        if not self._samples:
            return []
        since = self._samples[-1].at - seconds
        recent = [sample for sample in self._samples if sample.at >= since]
        return list(pairwise(recent))
