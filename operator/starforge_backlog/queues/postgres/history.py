"""What was read of a table lately, as far back as the longest window."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from starforge_backlog.queues.postgres.activity import Counters
from starforge_backlog.queues.postgres.depth import Depths
from starforge_backlog.queues.postgres.words import Group
from starforge_backlog.queues.samples import Samples

# Types remembered per group, by number of jobs; the policy allows 64 per queue.
_TYPES_KEPT = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters and depths of one moment. `arrived` is summed up from sample to sample."""

    counters: Counters
    depths: Depths | None
    arrived: int = 0
    # Each sample is read as long as it is in a window, by every queue on the table.
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


class History(Samples[Sample]):
    """Samples in order of time, all of one epoch of the counters."""

    def add(self, counters: Counters, depths: Depths | None) -> None:
        """Remember a reading. Counters that do not continue the last ones start a new history."""
        arrived, last = 0, self.last
        if last is not None:
            if not counters.continues(last.counters):
                self.restart(counters.at)
            else:
                arrived = last.arrived + counters.committed_since(last.counters)
        self.keep(Sample(counters, None if depths is None else _shortened(depths), arrived))


def _shortened(depths: Depths) -> Depths:
    kept = {}
    for group, depth in depths.by_group.items():
        if depth is None or len(depth.by_type) <= _TYPES_KEPT:
            kept[group] = depth
            continue
        most = sorted(depth.by_type.items(), key=lambda item: -item[1].total.value)[:_TYPES_KEPT]
        kept[group] = replace(depth, by_type=dict(most), all_types=False)
    return Depths(kept)
