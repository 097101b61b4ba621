"""Was a step good? Each rule of `decide/steps/verdict.py`, in both directions (P3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    at_least,
    later,
    queue,
    seconds,
    unknown,
    workload,
)
from tests.simulator.situations import (
    FAILED,
    INCONCLUSIVE,
    OBSERVING,
    PASSED,
    WINDOW,
    step,
)

from starforge_backlog.api.status import (
    Baseline,
    Step,
    StepVerdict,
)
from starforge_backlog.decide.assess.need import load
from starforge_backlog.decide.steps.verdict import READY_WITHIN, Evidence, baseline, judge
from starforge_backlog.snapshot import Confidence, Count, QueueReading, Why, Workload

NEVER = unknown(Why.NOT_IN_TABLE)


def verdict(
    one: Step,
    reading: QueueReading,
    *,
    pods: Workload | None = None,
    pressure: tuple[str, ...] | None = (),
    objective: int = 1,
    read_at: datetime = NOW,
) -> StepVerdict:
    found = load([("jobs", reading)])
    pods = pods or workload(one.to)
    after = baseline(found, pods, 50.0)
    evidence = Evidence(after, pressure, found.missing, read_at, found.waiting_exact)
    result = judge(one, pods, evidence, WINDOW, objective, NOW)
    assert result.why
    return result.verdict


def stuck(**changes: Any) -> Workload:
    """Six replicas in a rollout that makes no progress."""
    return workload(6, rolling_out=True, stuck_since=later(-600), pods=7, **changes)


@pytest.mark.parametrize(
    ("one", "reading", "more", "expected"),
    [
        # Throughput: 4 → 6 replicas should bring 4 → 6 jobs/s.
        (step(), queue(5000, throughput=6.0), {}, PASSED),
        (step(), queue(9000, throughput=6.0), {}, PASSED),  # a growing backlog is not its fault
        (step(), queue(5000, throughput=4.5), {}, PASSED),
        (step(), queue(5000, throughput=3.0), {}, FAILED),  # it fell
        (step(), queue(5000, throughput=0.0), {}, FAILED),
        (
            step(10, 20, before=Baseline(completion_rate=40.0)),
            queue(5000, throughput=41.0),
            {},
            FAILED,
        ),  # it added nothing
        (
            step(10, 20, before=Baseline(completion_rate=40.0)),
            queue(5000, throughput=60.0),
            {},
            PASSED,
        ),
        # Nothing left to do is no failure of the step.
        (step(), queue(6, throughput=0.5), {}, PASSED),
        (step(), queue(7, throughput=0.5), {}, FAILED),
        # Nothing ended, before or after: jobs may be longer than the window.
        (
            step(before=Baseline(completion_rate=0.0)),
            queue(5000, throughput=0.0),
            {},
            INCONCLUSIVE,
        ),
        # The table does not show throughput: the runbook's words, if nothing else is wrong.
        (step(), queue(5000, throughput=NEVER), {}, PASSED),
        (step(), queue(5106, throughput=NEVER), {}, PASSED),  # within noise
        (step(), queue(5107, throughput=NEVER), {}, INCONCLUSIVE),
        (step(), queue(90_000, throughput=NEVER), {}, INCONCLUSIVE),
        (step(before=Baseline()), queue(5000, throughput=NEVER), {}, INCONCLUSIVE),
        (step(), queue(at_least(5000), throughput=NEVER), {}, INCONCLUSIVE),
        (step(), queue(Count(10, Confidence.ESTIMATED), throughput=NEVER), {}, INCONCLUSIVE),
        # Pressure and crashes decide at once, before any window is over.
        (step(ready_at=None), queue(5000), {"pressure": ("5 wait",)}, FAILED),
        (step(ready_at=None), queue(5000), {"pods": workload(6, crash_looping=1)}, FAILED),
        # Too early.
        (step(ready_at=None), queue(5000), {}, OBSERVING),
        (step(ready_at=later(-89)), queue(5000, throughput=0.0), {}, OBSERVING),
        (step(ready_at=later(-90)), queue(5000, throughput=0.0), {}, FAILED),
        (step(), queue(5000, throughput=0.0), {"pods": workload(6, rolling_out=True)}, OBSERVING),
        # A rollout that is stuck: its pods were broken before the step.
        (
            step(before=Baseline(completion_rate=4.0, ready=3)),
            queue(5000, throughput=6.0),
            {"pods": stuck(ready=5, crash_looping=2)},
            PASSED,
        ),
        (
            step(before=Baseline(completion_rate=4.0, ready=3)),
            queue(5000, throughput=6.0),
            {"pods": stuck(ready=2)},
            FAILED,
        ),
        # A reading that is used again: of the window's last seconds it knows nothing.
        (step(ready_at=later(-90)), queue(5000), {"read_at": later(-1)}, OBSERVING),
        (step(ready_at=later(-91)), queue(5000), {"read_at": later(-1)}, FAILED),
        (step(ready_at=later(-5)), queue(5000), {"read_at": later(60)}, OBSERVING),
        # Pods that never become Ready.
        (step(ready_at=None, at=NOW - READY_WITHIN - WINDOW), queue(5000), {}, OBSERVING),
        (step(ready_at=None, at=NOW - READY_WITHIN - WINDOW - seconds(1)), queue(5000), {}, FAILED),
        # A missing reading is no verdict.
        (step(), queue(unknown()), {}, INCONCLUSIVE),
        (step(), queue(5000, oldest=unknown(), throughput=6.0), {}, INCONCLUSIVE),
        (step(), queue(5000, throughput=unknown()), {}, INCONCLUSIVE),
        (step(), queue(5000, throughput=6.0), {"pressure": None}, INCONCLUSIVE),
        # More failures.
        (step(), queue(5000, throughput=6.0, failed=3, finished=97), {}, FAILED),
        (step(), queue(5000, throughput=6.0, failed=1, finished=99), {}, PASSED),
        (
            step(before=Baseline(completion_rate=4.0, failure_percent=2.0)),
            queue(5000, throughput=6.0, failed=4, finished=96),
            {},
            PASSED,
        ),
        (
            step(before=Baseline(completion_rate=4.0, failure_percent=2.0)),
            queue(5000, throughput=6.0, failed=5, finished=95),
            {},
            FAILED,
        ),
    ],
)
def test_verdicts(
    one: Step, reading: QueueReading, more: dict[str, Any], expected: StepVerdict
) -> None:
    assert verdict(one, reading, **more) is expected


@pytest.mark.parametrize(
    ("ended", "expected"), [(43, PASSED), (36, PASSED), (35, FAILED), (20, FAILED)]
)
def test_where_jobs_are_few_a_step_must_not_have_brought_less(
    ended: int, expected: StepVerdict
) -> None:
    """36 jobs in a window before, 43 expected after two more replicas: chance is as large as what
    the step brings, and such steps would climb past the point where workers help, one by one."""
    few = step(10, 12, before=Baseline(completion_rate=0.4))
    assert verdict(few, queue(5000, throughput=ended / 90)) is expected
