"""Was the last step good? (P3; runbook: *Scale in small steps and observe*)

pass          throughput rose, or the backlog is gone, and no pressure
fail          pressure, crash loops, more failures, throughput down - or not up: past the point
              where workers help, more of them only hurt
inconclusive  a reading is missing; wait, and judge when it is back

Where the table never shows throughput, the backlog stands in for it:

pass          it fell, or did not rise beyond noise
inconclusive  it rose, or stands above what is counted: that may be the arrivals' doing. After
              `RISING_WINDOWS` windows without a sign of harm the step is let go without a verdict,
              and the next one is the smallest (runbook: *increase further if healthy*)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.status import Baseline, Step, StepFailure, StepVerdict
from starforge_backlog.decide.assess.need import NOISE_SIGMAS, Load, chance
from starforge_backlog.decide.numbers import digits
from starforge_backlog.snapshot import Workload

# A pod that has not become Ready by then never will by waiting: images are pulled and
# applications started within it in all but broken cases.
READY_WITHIN = timedelta(minutes=3)
# How long a backlog that rises is watched for harm before the next step, in windows: each step
# without a verdict takes four times as long as one with.
RISING_WINDOWS = 3
# Of the throughput that the added replicas should bring, this share must arrive. Less means that
# something else (the database, a lock, one hot row) is the limit.
USEFUL_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and the sentence that explains it; `OBSERVING` while it is too early.

    `final` says of an inconclusive one that waiting will not change it, `failed_by` of a failed
    one what it failed by.
    """

    verdict: StepVerdict
    why: str
    final: bool = False
    failed_by: StepFailure | None = None


def failed(by: StepFailure, why: str) -> Judgement:
    """The verdict of a step that has to be taken back."""
    return Judgement(StepVerdict.FAILED, why, failed_by=by)


def baseline(load: Load, workload: Workload, utilization: float | None) -> Baseline:
    """The readings that a later verdict is taken against."""
    return Baseline(
        waiting_jobs=load.waiting,
        completion_rate=_rounded(load.throughput),
        arrival_rate=_rounded(load.arrivals),
        failure_percent=_rounded(load.failed_percent),
        database_utilization_percent=_rounded(utilization),
        restarts=workload.restarts,
        ready=workload.ready,
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an up-step is judged by."""

    after: Baseline
    pressure: tuple[str, ...] | None  # None: the database could not be read
    missing: tuple[str, ...]  # readings of the queues that could not be taken
    # The oldest reading that could: a sample that is used again is of before the window's end,
    # whatever the time is now.
    read_at: datetime
    counted: bool  # the backlog's number is neither a lower bound nor an estimate


def judge(
    step: Step,
    workload: Workload,
    evidence: Evidence,
    observe_for: timedelta,
    failed_objective: int,
    now: datetime,
) -> Judgement:
    """Judge an up-step. Rules in order; the first that applies decides."""
    after, pressure = evidence.after, evidence.pressure
    before = step.before
    if pressure:
        return failed(StepFailure.PRESSURE, f"database pressure: {'; '.join(pressure)}")
    if workload.stuck_since is not None:
        # Its pods were broken before the step; what counts is that the step broke no others.
        if workload.ready < (before.ready or 0):
            why = f"{before.ready} -> {workload.ready} pods Ready: {workload.not_ready_why}"
            return failed(StepFailure.PODS, why)
    elif workload.crash_looping:
        return failed(StepFailure.PODS, f"pods crash: {workload.not_ready_why}")
    if workload.changing:
        return Judgement(StepVerdict.OBSERVING, "a rollout is under way")
    if step.ready_at is None:
        if now - step.at > READY_WITHIN + observe_for:
            return failed(
                StepFailure.PODS,
                f"pods not Ready after {format_duration(now - step.at)}: "
                f"{workload.trouble or f'{workload.ready} of {step.to}'}",
            )
        return Judgement(StepVerdict.OBSERVING, f"{workload.ready} of {step.to} pods Ready")
    if min(now, evidence.read_at) - step.ready_at < observe_for:
        until = f"observed until {step.ready_at + observe_for:%H:%M:%S} UTC"
        return Judgement(StepVerdict.OBSERVING, until)
    if pressure is None:
        return Judgement(StepVerdict.INCONCLUSIVE, "the database cannot be read")
    if evidence.missing or after.waiting_jobs is None:
        why = "; ".join(evidence.missing) or "the backlog cannot be read"
        return Judgement(StepVerdict.INCONCLUSIVE, why)
    if _failures_rose(before, after, failed_objective):
        return failed(
            StepFailure.FAILURES,
            f"failures rose from {before.failure_percent or 0:g}% to {after.failure_percent:g}%",
        )
    if after.waiting_jobs <= step.to:
        return Judgement(
            StepVerdict.PASSED, f"the backlog is drained ({after.waiting_jobs} waiting)"
        )
    if before.completion_rate is None or after.completion_rate is None:
        watched_until = step.ready_at + (1 + RISING_WINDOWS) * observe_for
        waiting = after.waiting_jobs if evidence.counted else None
        return _by_backlog(step, waiting, watched_until, now)
    return _by_throughput(step, before.completion_rate, after, observe_for)


def _failures_rose(before: Baseline, after: Baseline, objective: int) -> bool:
    if after.failure_percent is None:
        return False
    return after.failure_percent > max(objective, 2 * (before.failure_percent or 0))


def _by_backlog(
    step: Step, waiting: int | None, watched_until: datetime, now: datetime
) -> Judgement:
    """Throughput cannot be read from this table. `waiting` is None when it is not exact."""
    before = step.before.waiting_jobs
    if before is not None and waiting is not None:
        noise = max(step.to, NOISE_SIGMAS * math.sqrt(before))
        if waiting <= before + noise:
            trend = f"waiting {before} -> {waiting}, no pressure, throughput unknown"
            return Judgement(StepVerdict.PASSED, trend)
    # Without the number, which changes with every pass: this stands in status (P7).
    why = "throughput is not known and the backlog does not fall"
    if now < watched_until:
        why += f"; watched until {watched_until:%H:%M:%S} UTC, then the smallest step"
        return Judgement(StepVerdict.INCONCLUSIVE, why)
    return Judgement(StepVerdict.INCONCLUSIVE, f"{why}; no sign of harm", final=True)


def _by_throughput(step: Step, before: float, after: Baseline, observe_for: timedelta) -> Judgement:
    now = after.completion_rate or 0.0
    expected = before * (step.to - step.from_) / max(1, step.from_)
    noise = chance(before, observe_for)
    change = f"throughput {before:g} -> {now:g} jobs/s with {step.from_} -> {step.to} replicas"
    if before <= 0 and now <= 0:
        # Jobs that take longer than the window cannot be distinguished from idle workers.
        why = f"{change}: no job ended in {format_duration(observe_for)}; raise scaling.observeFor"
        return Judgement(StepVerdict.INCONCLUSIVE, why)
    if now < before - noise:
        return failed(StepFailure.THROUGHPUT, f"{change}: it fell")
    # Chance is allowed for, but not until a step passes that brought less than nothing: where jobs
    # are few, such steps would climb past the point where workers help, one by one.
    least = USEFUL_SHARE * expected
    if now < before + least - min(noise, least):
        return failed(StepFailure.THROUGHPUT, f"{change}: the step added nothing")
    return Judgement(StepVerdict.PASSED, change)


def _rounded(value: float | None) -> float | None:
    return None if value is None else digits(value, 3)
