"""What was read lately, as far back as the longest window; the memory behind the rates.

Bounded: samples that are closer than a second replace each other, older ones than the longest
window are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from starforge_backlog.queues.postgres.activity import Counters
from starforge_backlog.queues.postgres.depth import Depths
from starforge_backlog.queues.postgres.words import Group

# Types remembered per group, by number of jobs; the policy allows 64 per queue.
_TYPES_KEPT = 64
_CLOSEST = 1.0  # seconds between samples: below, the counters' own delay is all one would see


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters and depths of one moment. `arrived` is summed up from sample to sample."""

    counters: Counters
    depths: Depths | None
    arrived: int = 0
    # Each sample is looked at as long as it is in a window, by every queue on the table.
    _memo: dict[tuple[tuple[Group, ...], tuple[str, ...]], int | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def at(self) -> float:
        """Server time in seconds."""
        return self.counters.at

    def exact(self, groups: tuple[Group, ...], types: tuple[str, ...] = ()) -> int | None:
        """Jobs in these groups together, None unless each is exact."""
        key = (groups, types)
        if key not in self._memo:
            self._memo[key] = self._exact(groups, types)
        return self._memo[key]

    def _exact(self, groups: tuple[Group, ...], types: tuple[str, ...]) -> int | None:
        if self.depths is None:
            return None
        depths = [self.depths.of(group, types) for group in groups]
        counts = [None if depth is None else depth.exact for depth in depths]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


class History:
    """Samples in order of time, all of one epoch of the counters."""

    def __init__(self, *, longest: float) -> None:
        self._longest = longest
        self._samples: list[Sample] = []
        self._restarted_at: float | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, oldest first."""
        return tuple(self._samples)

    def restarted_within(self, seconds: float) -> bool:
        """Whether the counters started anew less than `seconds` before the last sample."""
        return (
            self._restarted_at is not None and self._samples[-1].at - self._restarted_at < seconds
        )

    def add(self, counters: Counters, depths: Depths | None) -> None:
        """Remember a reading. Counters that do not continue the last ones start a new history."""
        arrived = 0
        if self._samples:
            last = self._samples[-1]
            if not counters.continues(last.counters):
                self._samples, self._restarted_at = [], counters.at
            else:
                arrived = last.arrived + counters.committed_since(last.counters)
        kept = None if depths is None else _shortened(depths)
        if len(self._samples) > 1 and counters.at - self._samples[-2].at < _CLOSEST:
            self._samples.pop()
        self._samples.append(Sample(counters, kept, arrived))
        oldest = counters.at - self._longest
        # One sample older than the window stays, so that the whole window is covered.
        while len(self._samples) > 1 and self._samples[1].at <= oldest:
            self._samples.pop(0)

    def window(self, seconds: float) -> tuple[Sample, Sample] | None:
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

    def steps(self, seconds: float) -> list[tuple[Sample, Sample]]:
        """Neighbouring samples within the last `seconds`, oldest first."""
        if not self._samples:
            return []
        since = self._samples[-1].at - seconds
        recent = [sample for sample in self._samples if sample.at >= since]
        return list(pairwise(recent))


def _shortened(depths: Depths) -> Depths:
    kept = {}
    for group, depth in depths.by_group.items():
        if depth is None or len(depth.by_type) <= _TYPES_KEPT:
            kept[group] = depth
            continue
        most = sorted(depth.by_type.items(), key=lambda item: -item[1].total.value)[:_TYPES_KEPT]
        kept[group] = replace(depth, by_type=dict(most), all_types=False)
    return Depths(kept)
