"""What happened on a queue between two readings of it. Pure.

Every add raises the queue's `id`, and jobs are conserved: what arrived and has not ended has left
the queue's lists and sets. So

    left = arrived − Δ(wait + paused + prioritized + active + delayed + waiting-children)

without reading one finished job, whether or not BullMQ keeps those. Three things spoil it, and each
has its remedy: an add of a job that exists raises `id` as well (the event stream says how often);
a failed job that a person puts back returns without an add (at most as many as left the failed
set); a job that is removed has left without being worked on (events say so, one by one). Where the
events since the sample before were read completely, they are exact; where they are a part,
they stand for all. Where the workers keep metrics, their counters are exact.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from starforge_backlog.queues.bullmq.events import Slice
from starforge_backlog.queues.samples import Samples

# Metrics are believed to count all workers when they see at least this share of what left.
_ALL_WORKERS = 0.8
# What left is taken for removed, not worked on, when it is so many times what the events show, …
_REMOVED = 4.0
# … and by more than this many jobs: below, events and counters are read at different moments.
FEW = 20
# Jobs that ended, among the events that were read, below which no ratio is reported.
ENOUGH_ENDED = 20


@dataclass(frozen=True, slots=True)
class Totals:
    """What happened since the first sample. The difference of two is a window."""

    seconds: float = 0.0
    arrived: float = 0.0
    left: float = 0.0
    # How jobs ended, and in how many of the seconds that was reported.
    reported: float = 0.0
    completed: int = 0
    failed: int = 0
    # Attempts that failed, and in how many of the seconds events showed them.
    seen: float = 0.0
    failed_attempts: float = 0.0
    # The ends among the events that were read, and how far those went back.
    read: float = 0.0
    read_completed: int = 0
    read_failed: int = 0

    def plus(self, other: Totals) -> Totals:
        """Both together."""
        return Totals(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def since(self, before: Totals) -> Totals:
        """What happened after `before`."""
        return Totals(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))


@dataclass(frozen=True, slots=True)
class Sample:
    """A queue at one moment."""

    at: float  # seconds, by Redis' clock
    ids: int
    live: int
    failed: int  # in the failed set
    failed_since: int = 0  # of them, failed since the sample before
    metrics: tuple[int, int] | None = None  # completed and failed for good, ever
    slice: Slice | None = None  # events since the sample before
    totals: Totals = Totals()

    def continues(self, before: Sample) -> bool:
        """Whether the counters went on: BullMQ never lowers them, but `obliterate` removes them
        and a Redis without persistence forgets them. A clock that went back proves nothing."""
        if self.ids < before.ids or self.at < before.at:
            return False
        if self.metrics is None or before.metrics is None:
            return True
        return all(now >= then for now, then in zip(self.metrics, before.metrics, strict=True))


class History(Samples[Sample]):
    """Samples of a queue; adding one finds out what happened since the last."""

    def add(self, sample: Sample) -> None:
        """Remember a reading. Counters that fell start a new history."""
        last = self.last
        if last is not None and not sample.continues(last):
            self.restart(sample.at)
            last = None
        if last is not None:
            sample = replace(sample, totals=last.totals.plus(_step(last, sample)))
        self.keep(sample)

    def past(self, seconds: float) -> Totals:
        """What happened within the last `seconds`, or since the first sample if that is less."""
        steps = self.steps(seconds)
        return steps[-1][1].totals.since(steps[0][0].totals) if steps else Totals()


def _step(last: Sample, sample: Sample) -> Totals:
    seconds, seen = sample.at - last.at, sample.slice
    arrived = _arrived(sample.ids - last.ids, seen)
    ended: tuple[int, int] | None
    if seen is not None and seen.whole:
        left, ended = float(seen.ended), (seen.completed, seen.failed)
    else:
        left, ended = _left(last, sample, arrived)
    totals = Totals(seconds=seconds, arrived=arrived, left=left)
    if ended is not None:
        totals = replace(totals, reported=seconds, completed=ended[0], failed=ended[1])
    if seen is not None and seen.representative:
        totals = replace(
            totals,
            seen=seconds,
            failed_attempts=_failed_attempts(seen, left, seconds),
            read=seconds if seen.whole else min(seen.seconds, seconds),
            read_completed=seen.completed,
            read_failed=seen.failed,
        )
    return totals


def _failed_attempts(seen: Slice, left: float, seconds: float) -> float:
    """Of a whole step: by the jobs that ended in it, whose number is known well; where hardly any
    did, by the number of events, else by time."""
    if seen.whole:
        return seen.failed_attempts
    if seen.ended >= ENOUGH_ENDED:
        return seen.failed_attempts * left / seen.ended
    scale = seen.scale or max(1.0, seconds / max(seen.seconds, 0.001))
    return seen.failed_attempts * scale


def _arrived(added: int, seen: Slice | None) -> float:
    """Of so many adds, those that brought a job."""
    if seen is None or not seen.added + seen.again:
        return float(added)
    spare = seen.again + seen.replaced
    if seen.whole:
        return float(max(0, added - spare))
    return added * max(0.0, 1 - spare / (seen.added + seen.again))


def _left(last: Sample, sample: Sample, arrived: float) -> tuple[float, tuple[int, int] | None]:
    """Jobs that ended between two samples, and how, where that is reported."""
    seen = (
        sample.slice
        if sample.slice is not None and sample.slice.representative
        else Slice(0, False, 0)
    )
    scale = seen.scale or 0.0
    gone = arrived - (sample.live - last.live)
    # Failed jobs that are no longer in the failed set: put back, or removed.
    taken = max(0, last.failed + sample.failed_since - sample.failed)
    gone += min(taken, max(seen.restarted * scale, -gone, 0.0))
    gone = max(0.0, gone - seen.removed * scale)
    by_events = seen.ended * scale if scale else None
    if sample.metrics is not None and last.metrics is not None:
        completed = sample.metrics[0] - last.metrics[0]
        failed = sample.metrics[1] - last.metrics[1]
        counted = completed + failed
        all_seen = by_events is not None and by_events <= counted / _ALL_WORKERS + FEW
        if counted >= _ALL_WORKERS * gone or all_seen:
            return float(counted), (completed, failed)
    if by_events is not None and gone > _REMOVED * by_events + FEW:
        return by_events, None  # drained or cleaned: nobody worked on those
    return gone, None
