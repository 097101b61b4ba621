"""Was the last step good? (P3; runbook: *Scale in small steps and observe*)

pass          throughput rose, or the backlog is gone, and no pressure
fail          pressure, crash loops, more failures, throughput down - or not up: past the point
              where workers help, more of them only hurt
inconclusive  a reading is missing; wait, and judge when it is back
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.status import Baseline, Step, StepVerdict
from starforge_backlog.decide.need import Load, chance
from starforge_backlog.decide.numbers import digits
from starforge_backlog.snapshot import Workload

# A pod that has not become Ready by then never will by waiting: images are pulled and
# applications started within it in all but broken cases.
READY_WITHIN = timedelta(minutes=3)
# Of the throughput that the added replicas should bring, this share must arrive. Less means that
# something else (the database, a lock, one hot row) is the limit.
USEFUL_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the sentence that explains it; `OBSERVING` while it is too early."""

    verdict: StepVerdict
    why: str


def baseline(load: Load, workload: Workload, utilization: float | None) -> Baseline:
    """The readings that a later verdict is taken against."""
    return Baseline(
        waiting=load.waiting,
        throughput_per_second=_rounded(load.throughput),
        arrivals_per_second=_rounded(load.arrivals),
        failed_percent=_rounded(load.failed_percent),
        database_utilization_percent=_rounded(utilization),
        restarts=workload.restarts,
        ready=workload.ready,
    )


def judge(
    step: Step,
    after: Baseline,
    workload: Workload,
    pressure: tuple[str, ...] | None,
    missing: tuple[str, ...],
    observe_for: timedelta,
    failed_objective: int,
    now: datetime,
    *,
    read_at: datetime,
) -> Judgement:
    """Judge an up-step. `pressure` is None when the database could not be read, `missing` names
    the queues' readings that could not; `read_at` is the oldest of those that could. A sample that
    is used again is of before the window's end, whatever the time is now.

    Rules in order; the first that applies decides.
    """
    before = step.before
    if pressure:
        return Judgement(StepVerdict.FAILED, f"database pressure: {'; '.join(pressure)}")
    if workload.crash_looping:
        return Judgement(StepVerdict.FAILED, f"pods crash: {workload.not_ready_why}")
    if workload.rolling_out:
        return Judgement(StepVerdict.OBSERVING, "a rollout is under way")
    if step.ready_at is None:
        if now - step.at > READY_WITHIN + observe_for:
            return Judgement(
                StepVerdict.FAILED,
                f"pods not Ready after {format_duration(now - step.at)}: "
                f"{workload.not_ready_why or f'{workload.ready} of {step.to}'}",
            )
        return Judgement(StepVerdict.OBSERVING, f"{workload.ready} of {step.to} pods Ready")
    if min(now, read_at) - step.ready_at < observe_for:
        until = f"observed until {step.ready_at + observe_for:%H:%M:%S} UTC"
        return Judgement(StepVerdict.OBSERVING, until)
    if pressure is None:
        return Judgement(StepVerdict.INCONCLUSIVE, "the database cannot be read")
    if missing or after.waiting is None:
        why = "; ".join(missing) or "the backlog cannot be read"
        return Judgement(StepVerdict.INCONCLUSIVE, why)
    if _failures_rose(before, after, failed_objective):
        return Judgement(
            StepVerdict.FAILED,
            f"failures rose from {before.failed_percent or 0:g}% to {after.failed_percent:g}%",
        )
    if after.waiting <= step.to:
        return Judgement(StepVerdict.PASSED, f"the backlog is gone ({after.waiting} waiting)")
    if before.throughput_per_second is None or after.throughput_per_second is None:
        return _by_backlog(before, after)
    return _by_throughput(step, before.throughput_per_second, after, observe_for)


def _failures_rose(before: Baseline, after: Baseline, objective: int) -> bool:
    if after.failed_percent is None:
        return False
    return after.failed_percent > max(objective, 2 * (before.failed_percent or 0))


def _by_backlog(before: Baseline, after: Baseline) -> Judgement:
    """Throughput cannot be told from this table: the runbook's words, *measure queue drain and DB
    metrics; increase further if healthy*."""
    trend = f"waiting {before.waiting} -> {after.waiting}, no pressure, throughput unknown"
    return Judgement(StepVerdict.PASSED, trend)


def _by_throughput(step: Step, before: float, after: Baseline, observe_for: timedelta) -> Judgement:
    now = after.throughput_per_second or 0.0
    expected = before * (step.to - step.from_) / max(1, step.from_)
    noise = chance(before, observe_for)
    change = f"throughput {before:g} -> {now:g} jobs/s with {step.from_} -> {step.to} replicas"
    if before <= 0 and now <= 0:
        # Jobs that take longer than the window look the same as workers that do nothing.
        why = f"{change}: no job ended in {format_duration(observe_for)}; raise scaling.observeFor"
        return Judgement(StepVerdict.INCONCLUSIVE, why)
    if now < before - noise:
        return Judgement(StepVerdict.FAILED, f"{change}: it fell")
    # Chance is allowed for, but not until a step passes that brought less than nothing: where jobs
    # are few, such steps would climb past the point where workers help, one by one.
    least = USEFUL_SHARE * expected
    if now < before + least - min(noise, least):
        return Judgement(StepVerdict.FAILED, f"{change}: the step added nothing")
    return Judgement(StepVerdict.PASSED, change)


def _rounded(value: float | None) -> float | None:
    return None if value is None else digits(value, 3)
