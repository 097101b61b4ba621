"""The last step: observed, judged, taken back, held down (P3, P6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    later,
    queue,
    unknown,
    workload,
)
from tests.simulator.situations import (
    FAILED,
    INCONCLUSIVE,
    PASSED,
    WINDOW,
    judged,
    other_clients,
    step,
    stepped,
    wrote,
)

from starforge_backlog.api.status import (
    Baseline,
    ScalingStatus,
)
from starforge_backlog.decide.plan import StepKind
from starforge_backlog.decide.steps.step_observation import (
    LONGEST_HOLD_DOWN,
    hold_down,
    last_write,
    settled,
)
from starforge_backlog.snapshot import Why


def test_a_passed_step_is_followed_by_the_next_and_remembered() -> None:
    outcome = judged(step(), queue(5000, oldest=300, arrivals=20.0, throughput=6.0))
    assert wrote(outcome) == 8
    assert outcome.status.last_judged is not None
    assert outcome.status.last_judged.verdict is PASSED
    assert outcome.status.last_judged.after is not None


@pytest.mark.parametrize(
    ("growth", "last", "size"),
    [
        ("Fixed", (4, 6), 2),
        ("SlowStart", (4, 6), 4),
        ("SlowStart", (4, 5), 2),
        ("SlowStart", (2, 10), 16),
    ],
)
def test_growth(growth: str, last: tuple[int, int], size: int) -> None:
    one = step(*last, before=Baseline(completion_rate=float(last[0])))
    reading = queue(5000, oldest=300, arrivals=40.0, throughput=float(last[1]))
    outcome = judged(one, reading, spec={"scaling": {"growth": growth}})
    assert outcome.status.step_size == size


RISING = queue(9000, oldest=300, arrivals=20.0, throughput=unknown(Why.NO_INDEX))


@pytest.mark.parametrize(("ready_for", "to"), [(100, None), (359, None), (360, 7)])
def test_a_rising_backlog_alone_lets_steps_go_on_slowly_and_small(
    ready_for: float, to: int | None
) -> None:
    """Throughput can never be read here: neither a pass that doubles, nor a wait without end."""
    one = step(at=later(-ready_for - 20), ready_at=later(-ready_for))
    slow_start = {"scaling": {"growth": "SlowStart", "stepUp": 2}}
    memory = {"step_size": 8, "throughput_per_replica": None}
    outcome = judged(one, RISING, spec=slow_start, memory=memory)
    assert wrote(outcome) == to
    last = outcome.status.last_step if to is None else outcome.status.last_judged
    assert last is not None
    assert last.verdict is INCONCLUSIVE
    assert outcome.status.step_size == (8 if to is None else 1)


@pytest.mark.parametrize(
    ("interval", "ready_for", "to"), [("15s", 100, 8), ("5m", 100, None), ("5m", 301, 8)]
)
def test_a_step_is_observed_for_a_whole_window_of_rates(
    interval: str, ready_for: float, to: int | None
) -> None:
    """Where the interval is longer than `observeFor`, rates are averaged over the interval: a part
    of a younger one is from before the step."""
    one = step(at=later(-ready_for - 20), ready_at=later(-ready_for))
    reading = queue(5000, oldest=300, arrivals=20.0, throughput=6.0)
    assert wrote(judged(one, reading, spec={"interval": interval})) == to


def test_a_step_that_was_let_go_is_not_judged_again() -> None:
    one = step(verdict=INCONCLUSIVE, verdict_at=later(-5), ready_at=later(-400))
    falls = queue(5000, oldest=300, arrivals=20.0, throughput=1.0)
    assert wrote(judged(one, falls)) == 8


def test_a_failed_step_is_taken_back_and_held_down() -> None:
    outcome = judged(
        step(), queue(5000, oldest=300, arrivals=20.0, throughput=2.0), memory={"step_size": 8}
    )
    assert (stepped(outcome).kind, stepped(outcome).to, outcome.reason) == (
        StepKind.REVERT,
        4,
        "HoldDown",
    )
    assert outcome.status.hold_down_until == NOW + 2 * WINDOW
    assert (outcome.status.failed_steps, outcome.status.step_size) == (1, 2)
    assert outcome.status.last_step is not None
    assert outcome.status.last_step.reverted
    # Killed before the result is stored, the write is still known as ours.
    assert outcome.status.applied_replicas == 4


def test_hold_downs_double_and_end() -> None:
    waits = [hold_down(failed, WINDOW) for failed in range(1, 9)]
    assert waits[:3] == [2 * WINDOW, 4 * WINDOW, 8 * WINDOW]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_HOLD_DOWN
    assert hold_down(1, timedelta(hours=1)) == timedelta(hours=2)


def test_a_revert_that_was_not_carried_out_is_tried_again() -> None:
    done = step(verdict=FAILED, verdict_message="it fell", reverted=True)
    outcome = judged(done, memory={"hold_down_until": later(180), "failed_steps": 1})
    assert (wrote(outcome), outcome.status.failed_steps) == (4, 1)


def test_a_revert_goes_as_low_as_the_budget_asks_but_not_below_the_minimum() -> None:
    pods = workload(6, max_surge="0")
    slow = queue(5000, oldest=300, arrivals=20.0, throughput=2.0)
    assert wrote(judged(step(), slow, budget=other_clients(150, pods))) == 2
    two = {"target": {"name": "w", "minReplicas": 3}}
    assert wrote(judged(step(), slow, budget=other_clients(150, pods), spec=two)) == 3


def test_a_budget_that_falls_under_a_step_takes_it_back() -> None:
    pods = workload(6, max_surge="0")
    outcome = judged(step(ready_at=later(-5)), budget=other_clients(130, pods))
    assert wrote(outcome) == 4
    assert "budget fell to 4" in outcome.message


def test_pods_about_to_end_are_no_reason_to_take_a_step_back() -> None:
    pods = workload(11, max_surge="0", terminating=2)
    outcome = judged(step(9, 11, ready_at=later(-5)), pods=pods)
    assert (wrote(outcome), outcome.reason) == (None, "Observing")


def test_a_step_that_never_landed_is_forgotten_at_once() -> None:
    lost = step(4, 6, at=later(-15), ready_at=None)
    memory = {"next_step_not_before": later(75)}
    outcome = judged(lost, pods=workload(4, max_surge="0"), memory=memory)
    assert wrote(outcome) == 6
    assert outcome.status.last_step is not None
    assert outcome.status.last_step.at == NOW


def test_the_window_begins_when_all_pods_are_ready() -> None:
    starting = workload(6, max_surge="0", ready=5, pending=1)
    waits = judged(step(ready_at=None), pods=starting)
    assert waits.status.last_step is not None
    assert waits.status.last_step.ready_at is None
    there = judged(step(ready_at=None))
    assert there.status.last_step is not None
    assert there.status.last_step.ready_at == NOW


def test_a_rollout_under_a_step_starts_its_window_again() -> None:
    outcome = judged(step(), pods=workload(6, max_surge="0", rolling_out=True))
    assert (wrote(outcome), outcome.reason) == (None, "Observing")
    assert outcome.status.last_step is not None
    assert outcome.status.last_step.ready_at is None


def test_no_verdict_is_written_once() -> None:
    first = judged(step(), pressure=None)
    assert first.status.last_step is not None
    assert first.status.last_step.verdict is INCONCLUSIVE
    again = judged(first.status.last_step, pressure=None)
    assert again.status.last_step == first.status.last_step


def test_a_down_step_needs_only_its_window() -> None:
    fresh = judged(step(8, 7, at=later(-89)), pods=workload(7, max_surge="0"))
    assert (wrote(fresh), fresh.reason) == (None, "Observing")
    over = judged(step(8, 7, at=later(-90)), pods=workload(7, max_surge="0"))
    assert over.status.last_judged is not None
    assert over.status.last_judged.verdict is PASSED


@pytest.mark.parametrize(
    ("memory", "wrote_at"),
    [
        ({}, None),
        ({"last_step": step()}, later(-120)),
        ({"last_step": step(), "next_step_not_before": later(-30)}, later(-120)),
        # A revert is no step of its own.
        ({"last_step": step(), "next_step_not_before": later(60)}, later(-30)),
    ],
)
def test_when_we_wrote_last(memory: dict[str, Any], wrote_at: datetime | None) -> None:
    assert last_write(ScalingStatus(**memory), WINDOW) == wrote_at


@pytest.mark.parametrize(
    ("memory", "pods", "is_settled"),
    [
        ({}, {}, True),
        ({}, {"pending": 1}, False),
        ({}, {"terminating": 1}, False),
        ({}, {"ready": 3}, False),
        ({}, {"rolling_out": True}, False),
        ({"next_step_not_before": later(1)}, {}, False),
        ({"applied_replicas": 6}, {}, False),
        ({"last_step": step(2, 4, ready_at=None)}, {}, False),
        ({"last_step": step(2, 4, ready_at=later(-89))}, {}, False),
        ({"last_step": step(2, 4, ready_at=later(-90))}, {}, True),
    ],
)
def test_rates_belong_to_the_replicas_that_run(
    memory: dict[str, Any], pods: dict[str, Any], is_settled: bool
) -> None:
    assert settled(ScalingStatus(**memory), workload(4, **pods), WINDOW, NOW) is is_settled
