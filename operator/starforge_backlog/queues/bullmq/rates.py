"""Arrivals, throughput, attempts and outcomes of a queue, from its history. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.decide.numbers import steady
from starforge_backlog.queues.bullmq.history import ENOUGH_ENDED, FEW, History, Totals
from starforge_backlog.snapshot import Known, Outcomes, Reading, Unknown, Why

_ALL_REPORTED = 0.95  # share of the seconds in which it must be known how jobs ended
_ALL_KEPT = 0.9  # share of the jobs that left that must still be there; the two are not one moment

# Where entries are too large to be read.
_HEAVY = (
    "Entries of the queue's event stream have {bytes:,} bytes on average, too many to be read, so"
    " {what} is not known; hand updateProgress() a few numbers, and let jobs return a reference"
    " instead of the data."
)
_EVENTS_FIX = "give the Queue a longer event stream (streams.events.maxLen, 10,000 by default)"
_METRICS_FIX = (
    "start the workers with metrics: {maxDataPoints: 15}, or keep what ended for a while"
    " (removeOnComplete and removeOnFail: {age: 600})"
)
_RESET = (
    "The queue's counters were reset (obliterate, or a Redis restart without its data); rates are"
    " known again after half a window."
)


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

    def heavy(self, what: str) -> str:
        """Why events do not show `what`, where they are too large to be read; else empty."""
        last = self.history.last
        if last is None or last.slice is None or not last.slice.heavy:
            return ""
        return _HEAVY.format(bytes=steady(last.slice.heavy), what=what)

    def missing(self) -> Unknown:
        """Why there is no window to average over."""
        return self.history.no_window(self.seconds, self.at, reset=_RESET)


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
            view.heavy("how many attempts fail")
            or f"The queue's event stream does not say what happened; {_EVENTS_FIX}.",
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
        enough = self.completed + self.failed >= _ALL_KEPT * past.left - FEW
        return self.reaches_back and enough and self.failed >= past.read_failed


def outcomes(view: View, longest: timedelta, kept: Kept) -> Reading[Outcomes]:
    """Jobs that finished and that failed terminally within `longest`, or since the first sample."""
    past = view.history.past(longest.total_seconds())
    if kept.everything(past):
        return Known(Outcomes(kept.completed, kept.failed, longest), view.at)
    if past.seconds < view.seconds / 2:
        return view.missing()
    if past.reported >= _ALL_REPORTED * past.seconds:
        window = timedelta(seconds=past.reported)
        return Known(Outcomes(past.completed, past.failed, window), view.at)
    if past.read_completed + past.read_failed >= ENOUGH_ENDED:
        window = timedelta(seconds=past.read)
        return Known(Outcomes(past.read_completed, past.read_failed, window), view.at)
    return Unknown(
        Why.NOT_CONFIGURED,
        "It is not known how jobs end: the workers keep no metrics, jobs that ended are removed"
        f" and the event stream is too short or its entries too large; {_METRICS_FIX}.",
        view.at,
    )
