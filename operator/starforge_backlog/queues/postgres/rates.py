"""Arrivals, throughput and outcomes, from what was read lately. Pure.

Jobs are conserved: what arrived and is neither in the line nor in progress has left. So

    left = arrived − Δ(waiting + scheduled + in progress)
    finished = left − Δfailed − Δquarantined

without reading one finished job. Where a count stops at its cap the
difference is not known; then an index on the time of the last change gives it, and without one the
number of row updates, which is an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.queues.postgres.ended import Ended
from starforge_backlog.queues.postgres.history import History, Sample
from starforge_backlog.queues.postgres.words import Group
from starforge_backlog.snapshot import Known, Outcomes, Reading, Unknown, Why

# The server publishes its counters up to a second late, busy sessions up to two.
STATISTICS_DELAY = 2.0
# Claim and completion: updates per job until the table has shown its own number.
_UPDATES_PER_JOB = 2.0
_ENOUGH_JOBS = 20  # below, a ratio of two small numbers says nothing
_LEARN = 0.3  # weight of the newest ratio
_RATIOS = (0.5, 20.0)  # updates per job that are believed
# Deletes per update from which a table is taken to delete its jobs on completion (claim, delete).
_DELETES_LIKE_CLAIMS = 0.8

_LIVE = (Group.WAITING, Group.IN_PROGRESS)
_EVERYTHING = tuple(Group)
_SET_ASIDE = (Group.FAILED, Group.QUARANTINED)
_RESET = (
    "The table's activity counters were reset (statistics reset, crash or another server); rates"
    " are known again after half a window."
)


@dataclass(frozen=True, slots=True)
class View:
    """One queue's view of a table: its types (none: all), its window, at one moment."""

    history: History
    ended: Ended | None
    types: tuple[str, ...]
    seconds: float
    at: datetime
    updates_per_job: float = _UPDATES_PER_JOB
    queue: str = ""  # its name in the policy, for the field that fixes something

    def missing(self) -> Unknown:
        """Why there is no window to average over."""
        return self.history.no_window(self.seconds, self.at, reset=_RESET)

    def counterless(self, sample: Sample) -> Unknown | None:
        """Why the counters of this server mean nothing, if so."""
        if sample.counters.standby:
            return Unknown(
                Why.READ_ONLY,
                "A standby does not count what happens on the primary; point the URL in the Secret"
                " at the primary.",
                self.at,
            )
        if not sample.counters.counting:
            return Unknown(
                Why.NOT_CONFIGURED,
                "The server counts no activity; set track_counts = on (its default).",
                self.at,
            )
        return None

    @property
    def trusted_end(self) -> Ended | None:
        """Jobs that ended lately, unless the application does not keep the time of change."""
        if self.ended is None or self.ended.changed:
            return self.ended
        steps = self.history.steps(self.ended.span)
        updates = sum(b.counters.updated - a.counters.updated for a, b in steps)
        return None if updates else self.ended


def arrivals(view: View) -> Reading[float]:
    """Jobs that were enqueued, per second."""
    window = view.history.window(view.seconds)
    if window is None:
        return view.missing()
    first, last = window
    if (fault := view.counterless(last)) is not None:
        return fault
    seconds = last.at - first.at
    arrived = _arrived(view, first, last)
    if arrived is not None:
        return Known(arrived / seconds, view.at)
    end = view.trusted_end
    growth = _growth(first, last, _LIVE, view.types)
    if end is not None and growth is not None and (covered := end.covered(seconds)) > seconds / 2:
        left = sum(end.jobs(g, seconds, view.types) for g in (Group.FINISHED, Group.FAILED))
        return Known(max(0.0, left / covered + growth / seconds), view.at)
    return _no_rate_per_type(view)


def throughput(view: View) -> tuple[Reading[float], str]:
    """Jobs that left the queue, finished or failed for good, per second; and how it was found."""
    window = view.history.window(view.seconds)
    if window is None:
        return view.missing(), ""
    first, last = window
    seconds = last.at - first.at
    fault = view.counterless(last)
    if fault is None and (left := _left(view, first, last)) is not None:
        reading = _not_negative(view, left, _arrived(view, first, last) or 0, seconds)
        return reading, "throughput from counts"
    end = view.trusted_end
    if end is not None and (covered := end.covered(view.seconds)) >= view.seconds / 2:
        jobs = sum(end.jobs(g, view.seconds, view.types) for g in (Group.FINISHED, Group.FAILED))
        return Known(jobs / covered, view.at), "throughput from the times of change"
    if fault is not None:
        return fault, ""
    if view.types:
        return _no_rate_per_type(view), ""
    return (
        Known(_jobs_by_updates(first, last, view.updates_per_job) / seconds, view.at),
        "throughput estimated from row updates",
    )


def outcomes(view: View, longest: timedelta) -> Reading[Outcomes]:
    """Jobs that finished and that failed within `longest`, or since the first sample if later."""
    end = view.trusted_end
    if end is not None and (covered := end.covered(longest.total_seconds())) > 0:
        return Known(
            Outcomes(
                finished=end.jobs(Group.FINISHED, covered, view.types),
                failed=end.jobs(Group.FAILED, covered, view.types),
                window=timedelta(seconds=covered),
            ),
            view.at,
        )
    steps = view.history.steps(longest.total_seconds())
    if not steps:
        return view.missing()
    if (fault := view.counterless(steps[-1][1])) is not None:
        return fault
    results = [result for a, b in steps if (result := _ends_of_step(view, a, b)) is not None]
    if not results:
        return Unknown(
            Why.NO_INDEX, f"{_why_no_ends(view, *steps[-1])}; {_index_on_end(view)}.", view.at
        )
    seconds = sum(result.seconds for result in results)
    if seconds < view.seconds / 2:
        return view.missing()
    finished = _not_negative(
        view,
        sum(result.finished for result in results),
        sum(result.arrived for result in results),
        seconds,
        per_second=False,
    )
    if isinstance(finished, Unknown):
        return finished
    return Known(
        Outcomes(
            finished=round(finished.value),
            failed=sum(result.failed for result in results),
            window=timedelta(seconds=seconds),
        ),
        view.at,
    )


def learn_updates_per_job(history: History, seconds: float, before: float) -> float:
    """Updates per job that left, from a window in which the counts were exact."""
    window = history.window(seconds)
    if window is None:
        return before
    first, last = window
    growth = _growth(first, last, _LIVE, ())
    if growth is None or not first.counters.counting or first.counters.standby:
        return before
    left = last.arrived - first.arrived - growth
    if left < _ENOUGH_JOBS:
        return before
    ratio = (last.counters.updated - first.counters.updated) / left
    least, most = _RATIOS
    return before + _LEARN * (min(most, max(least, ratio)) - before)


def _arrived(view: View, first: Sample, last: Sample) -> int | None:
    """Jobs that arrived between two samples; None where types cannot be distinguished.

    Without deletes the growth of all rows is it, at once and exactly; the counters know no types
    and are a second late, but see rows that came and went.
    """
    if last.counters.deleted == first.counters.deleted:
        rows = _growth(first, last, _EVERYTHING, view.types)
        if rows is not None and rows >= 0:
            return rows
    return None if view.types else last.arrived - first.arrived


def _left(view: View, first: Sample, last: Sample) -> int | None:
    """Jobs that left the line between two samples; None where a count stopped at its cap."""
    arrived = _arrived(view, first, last)
    live = _growth(first, last, _LIVE, view.types)
    if live is None and not _in_progress_known(first, last):
        # Without an index over running jobs: those who left the line were claimed, which is the
        # same but for the few that run just now.
        live = _growth(first, last, (Group.WAITING,), view.types)
    if arrived is None or live is None:
        return None
    failed = _growth(first, last, (Group.FAILED,), view.types)
    quarantined = _growth(first, last, (Group.QUARANTINED,), view.types)
    if failed is None or quarantined is None:
        return arrived - live
    # Setting a job aside, or putting a failed one back, is not work done.
    return arrived - live - failed - quarantined + max(0, failed)


def _in_progress_known(first: Sample, last: Sample) -> bool:
    return any(
        sample.depths is not None and sample.depths.of(Group.IN_PROGRESS) is not None
        for sample in (first, last)
    )


def _growth(
    first: Sample, last: Sample, groups: tuple[Group, ...], types: tuple[str, ...]
) -> int | None:
    before, after = first.exact(groups, types), last.exact(groups, types)
    return None if before is None or after is None else after - before


def _jobs_by_updates(first: Sample, last: Sample, updates_per_job: float) -> float:
    updated = last.counters.updated - first.counters.updated
    deleted = last.counters.deleted - first.counters.deleted
    if deleted > _DELETES_LIKE_CLAIMS * updated:
        return float(deleted)
    return updated / updates_per_job


@dataclass(frozen=True, slots=True)
class _Ends:
    finished: int
    failed: int
    arrived: int
    seconds: float


def _ends_of_step(view: View, first: Sample, last: Sample) -> _Ends | None:
    """Jobs that ended between neighbouring samples; None where that is not known."""
    arrived = _arrived(view, first, last)
    live = _growth(first, last, _LIVE, view.types)
    failed = _growth(first, last, (Group.FAILED,), view.types)
    aside = _growth(first, last, _SET_ASIDE, view.types)
    if arrived is None or live is None or failed is None or aside is None:
        return None
    if failed < 0:
        if aside < 0:
            return None  # failed jobs were put back or removed: new ones hide behind them
        failed = aside  # they were quarantined
    return _Ends(arrived - live - aside, failed, arrived, last.at - first.at)


def _index_on_end(view: View) -> str:
    column = f"spec.queues[{view.queue}].postgres.columns.updatedAt"
    return f"create an index on the column of {column}"


def _why_no_ends(view: View, first: Sample, last: Sample) -> str:
    if _growth(first, last, (Group.FAILED,), view.types) is None:
        return "No index counts the failed jobs, or there are more than are counted"
    if _growth(first, last, _LIVE, view.types) is None:
        return "The jobs that wait and run are more than are counted, or no index counts them"
    if _arrived(view, first, last) is None:
        return "The table's counters do not count by type"
    return "Failed jobs were put back or removed, which hides those that fail now"


def _not_negative(
    view: View, jobs: float, arrived: float, seconds: float, *, per_second: bool = True
) -> Reading[float]:
    """A flow that cannot be negative: a little is the counters' delay, more is not known yet."""
    delay = arrived * STATISTICS_DELAY / seconds + 1
    if jobs < -delay:
        return Unknown(
            Why.NOT_YET,
            "The counters have not caught up with the table yet; the next reading will show it.",
            view.at,
        )
    return Known(max(0.0, jobs / seconds if per_second else jobs), view.at)


def _no_rate_per_type(view: View) -> Unknown:
    return Unknown(
        Why.NO_INDEX,
        "The table's counters do not count by type, and rows were deleted or the table is too"
        f" big to be counted; {_index_on_end(view)}, or give the types a table of their own.",
        view.at,
    )
