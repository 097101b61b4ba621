"""Arrivals, throughput, attempts and outcomes of a queue, from what was read lately. Pure.

Every add raises the queue's `id`, and jobs are conserved: what arrived and has not ended has left
the queue's lists and sets. So

    left = arrived − Δ(wait + paused + prioritized + active + delayed + waiting-children)

without reading one finished job, whether or not BullMQ keeps those. Three things spoil it, and each
has its remedy: an add of a job that exists raises `id` as well (the event stream says how often);
a failed job that a person puts back returns without an add (at most as many as left the failed
set); a job that is removed has left without being worked on (events say so, one by one). Where the
events since the sample before were read completely, they tell it exactly; where they are a part,
they stand for all. Where the workers keep metrics, their counters tell it exactly.
"""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from starforge_backlog.queues.samples import Samples
from starforge_backlog.snapshot import Known, Outcomes, Reading, Unknown, Why

# Metrics are believed to count all workers when they see at least this share of what left.
_ALL_WORKERS = 0.8
# What left is taken for removed, not worked on, when it is so many times what the events show, …
_REMOVED = 4.0
# … and by more than this many jobs: below, events and counters are read at different moments.
_FEW = 20
_ALL_TOLD = 0.95  # share of the seconds in which it must be told how jobs ended
_ALL_KEPT = 0.9  # share of the jobs that left that must still be there; the two are not one moment
_ENOUGH_ENTRIES = 50  # of events that stand for more than were read
_ENOUGH_ENDED = 20  # jobs in a sample of events below which no ratio is told

_EVENTS_MEND = "give the Queue a longer event stream (streams.events.maxLen, 10,000 by default)"
_METRICS_MEND = (
    "start the workers with metrics: {maxDataPoints: 15}, or keep what ended for a while"
    " (removeOnComplete and removeOnFail: {age: 600})"
)


@dataclass(frozen=True, slots=True)
class Slice:
    """Events since the slice before: all of them if `whole`, else the newest `entries`, which go
    back `seconds`."""

    seconds: float
    whole: bool
    entries: int
    of: int | None = None  # how many there were; None: Redis before 7 does not count them
    added: int = 0
    again: int = 0  # adds of a job that was there already
    replaced: int = 0  # adds that removed a job
    completed: int = 0
    failed: int = 0  # for good
    retried: int = 0  # failed attempts after which the job is tried again
    restarted: int = 0  # put back by hand after they had ended
    removed: int = 0

    @property
    def ended(self) -> int:
        """Jobs that ended, well or badly."""
        return self.completed + self.failed

    @property
    def failed_attempts(self) -> int:
        """Attempts that failed, for good or not."""
        return self.failed + self.retried

    @property
    def tells(self) -> bool:
        """Whether it is enough to stand for all."""
        return self.whole or self.entries >= _ENOUGH_ENTRIES

    @property
    def scale(self) -> float | None:
        """By how much there was more than was read; None where that is not known. Not by time:
        after a burst and a rest the newest events go back far and are few."""
        if self.whole:
            return 1.0
        return None if self.of is None else max(1.0, self.of / max(1, self.entries))


@dataclass(frozen=True, slots=True)
class EventMark:
    """How far the event stream was read."""

    newest: str = ""  # id of the newest entry; "0-0": there was none
    ever: int | None = None  # entries that were ever added


def parse_slice(answer: str, before: EventMark, step: float | None) -> tuple[Slice, EventMark]:
    """From events.lua: the slice, and the mark for the next time.

    `step`: seconds since the sample before.
    """
    said: dict[str, Any] = json.loads(answer)
    ever = int(said["ever"]) if said["ever"] is not False else None
    of = None if ever is None or before.ever is None else ever - before.ever
    entries, whole = int(said["entries"]), bool(said["whole"])
    if of is not None:
        whole = of == entries
        of = of if of >= entries else None  # another stream than before
    counts = {name: max(0, int(said[name])) for name in _COUNTS}
    return (
        Slice(
            seconds=(int(said["now"]) - int(said["from"])) / 1000,
            whole=whole and step is not None,
            entries=entries,
            of=of,
            **counts,
        ),
        EventMark(said["newest"], ever),
    )


_COUNTS = (
    "added",
    "again",
    "replaced",
    "completed",
    "failed",
    "retried",
    "restarted",
    "removed",
)


@dataclass(frozen=True, slots=True)
class Totals:
    """What happened since the first sample. The difference of two is a window."""

    seconds: float = 0.0
    arrived: float = 0.0
    left: float = 0.0
    # How jobs ended, and in how many of the seconds that was told.
    told: float = 0.0
    completed: int = 0
    failed: int = 0
    # Attempts that failed, and in how many of the seconds events told.
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
        and a Redis without persistence forgets them. A clock that went back tells nothing."""
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
        """What happened within the last `seconds`, or since we look if that is less."""
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
    told = Totals(seconds=seconds, arrived=arrived, left=left)
    if ended is not None:
        told = replace(told, told=seconds, completed=ended[0], failed=ended[1])
    if seen is not None and seen.tells:
        told = replace(
            told,
            seen=seconds,
            failed_attempts=_failed_attempts(seen, left, seconds),
            read=seconds if seen.whole else min(seen.seconds, seconds),
            read_completed=seen.completed,
            read_failed=seen.failed,
        )
    return told


def _failed_attempts(seen: Slice, left: float, seconds: float) -> float:
    """Of a whole step: by the jobs that ended in it, whose number is known well; where hardly any
    did, by the number of events, else by time."""
    if seen.whole:
        return seen.failed_attempts
    if seen.ended >= _ENOUGH_ENDED:
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
    """Jobs that ended between two samples, and how, where that is told."""
    seen = sample.slice if sample.slice is not None and sample.slice.tells else Slice(0, False, 0)
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
        all_seen = by_events is not None and by_events <= counted / _ALL_WORKERS + _FEW
        if counted >= _ALL_WORKERS * gone or all_seen:
            return float(counted), (completed, failed)
    if by_events is not None and gone > _REMOVED * by_events + _FEW:
        return by_events, None  # drained or cleaned: nobody worked on those
    return gone, None


@dataclass(frozen=True, slots=True)
class View:
    """A queue's history at one moment, over a window in seconds."""

    history: History
    seconds: float
    at: datetime

    def window(self) -> Totals | Unknown:
        """What happened in it."""
        found = self.history.window(self.seconds)
        if found is None:
            return self.missing()
        first, last = found
        return last.totals.since(first.totals)

    def missing(self) -> Unknown:
        """Why there is no window to average over."""
        if self.history.restarted_within(self.seconds):
            return Unknown(
                Why.COUNTER_RESET,
                "The queue's counters started anew (obliterate, or a Redis that came back without"
                " its data); rates follow after half a window.",
                self.at,
            )
        return Unknown(
            Why.NOT_YET,
            f"Rates need readings that are {self.seconds / 2:g} s to {self.seconds * 2:g} s apart.",
            self.at,
        )


def arrivals(view: View) -> Reading[float]:
    """Jobs that were added, per second."""
    past = view.window()
    return past if isinstance(past, Unknown) else Known(past.arrived / past.seconds, view.at)


def throughput(view: View) -> Reading[float]:
    """Jobs that ended, well or for good badly, per second."""
    past = view.window()
    return past if isinstance(past, Unknown) else Known(past.left / past.seconds, view.at)


def failed_attempts(view: View) -> Reading[float]:
    """Attempts that failed, retried or not, per second: from the events that were read, which are
    all of them for a queue that is not too busy."""
    past = view.window()
    if isinstance(past, Unknown):
        return past
    if past.seen < past.seconds / 2:
        return Unknown(
            Why.NOT_CONFIGURED,
            f"The queue's event stream does not tell what happened; {_EVENTS_MEND}.",
            view.at,
        )
    return Known(past.failed_attempts / past.seen, view.at)


@dataclass(frozen=True, slots=True)
class Kept:
    """Jobs that ended in the outcome window and are still there."""

    completed: int
    failed: int
    reaches_back: bool  # there are older ones as well, so none was removed for its age

    def everything(self, past: Totals) -> bool:
        """Whether none of those that ended in the window was removed, as far as the same window
        shows: an old job that is still there proves nothing about those that came after it."""
        enough = self.completed + self.failed >= _ALL_KEPT * past.left - _FEW
        return self.reaches_back and enough and self.failed >= past.read_failed


def outcomes(view: View, longest: timedelta, kept: Kept) -> Reading[Outcomes]:
    """Jobs that finished and that failed for good within `longest`, or since we look."""
    past = view.history.past(longest.total_seconds())
    if kept.everything(past):
        return Known(Outcomes(kept.completed, kept.failed, longest), view.at)
    if past.seconds < view.seconds / 2:
        return view.missing()
    if past.told >= _ALL_TOLD * past.seconds:
        window = timedelta(seconds=past.told)
        return Known(Outcomes(past.completed, past.failed, window), view.at)
    if past.read_completed + past.read_failed >= _ENOUGH_ENDED:
        window = timedelta(seconds=past.read)
        return Known(Outcomes(past.read_completed, past.read_failed, window), view.at)
    return Unknown(
        Why.NOT_CONFIGURED,
        "Nothing tells how jobs end: the workers keep no metrics, jobs that ended are removed and"
        f" the event stream is too short; {_METRICS_MEND}.",
        view.at,
    )
