"""Steps up and down, within the budget and one at a time (P1, P2, P3)."""

from __future__ import annotations

from dataclasses import replace
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
    OBSERVING,
    STORM,
    WINDOW,
    other_clients,
    situation,
    step,
    stepped,
    wrote,
)

from starforge_backlog.decide.plan import StepKind
from starforge_backlog.decide.situation import Situation
from starforge_backlog.decide.steps.scaling import scale
from starforge_backlog.snapshot import Consumers, Known, QueueReading, Unknown, Why


def test_a_step_up_is_small_and_remembered_before_it_is_written() -> None:
    outcome = scale(situation())
    assert (stepped(outcome).kind, stepped(outcome).from_, stepped(outcome).to) == (
        StepKind.UP,
        4,
        6,
    )
    assert stepped(outcome).version == "7"
    assert stepped(outcome).connections == 60
    remembered = outcome.status.last_step
    assert remembered is not None
    assert (remembered.from_, remembered.to, remembered.at) == (4, 6, NOW)
    assert remembered.verdict is OBSERVING
    assert outcome.status.next_step_not_before == NOW + WINDOW


LIMITED = replace(
    STORM, consumers=Known(Consumers(4, held=4, limited_by="its global rate limit of 2"), NOW)
)

UP_HELD_BY = [
    ({"reading": LIMITED}, "QueueLimit"),
    ({"budget": Unknown(Why.UNREACHABLE, "refused", NOW)}, "BudgetNotKnown"),
    ({"pressure": None}, "DatabaseHealthNotKnown"),
    ({"reading": replace(STORM, waiting=unknown())}, "LoadNotKnown"),
    ({"reading": replace(STORM, oldest_due_age=unknown())}, "LoadNotKnown"),
    ({"reading": replace(STORM, arrivals_per_second=unknown())}, "LoadNotKnown"),
    ({"reading": replace(STORM, throughput_per_second=unknown())}, "LoadNotKnown"),
    ({"pressure": ("5 wait",)}, "Pressure"),
    ({"pods": workload(4, max_surge="0", paused=True)}, "RolloutPaused"),
    ({"pods": workload(4, max_surge="0", rolling_out=True)}, "RolloutInProgress"),
    (
        # nothing of the old revision is left that works
        {"pods": workload(4, max_surge="0", rolling_out=True, stuck_since=NOW, pods=4, ready=0)},
        "PodsPending",
    ),
    (
        # a pod of the last step is still starting
        {
            "pods": workload(
                4, max_surge="0", rolling_out=True, stuck_since=NOW, pods=5, ready=3, starting=1
            )
        },
        "PodsPending",
    ),
    ({"pods": workload(4, max_surge="0", crash_looping=1)}, "PodsCrashing"),
    ({"pods": workload(4, max_surge="0", pending=1)}, "PodsPending"),
    ({"pods": workload(4, max_surge="0", ready=3)}, "PodsPending"),
    ({"pods": workload(11, max_surge="0")}, "BudgetExhausted"),
    ({"free_steps": 0}, "BudgetExhausted"),
    ({"spec": {"target": {"name": "w", "maxReplicas": 4}}}, "AtMaximum"),
    ({"memory": {"hold_down_until": later(1)}}, "HoldDown"),
    ({"memory": {"next_step_not_before": later(1)}}, "Observing"),
    ({"window_opens": later(1)}, "Observing"),
    ({"memory": {"last_step": step(2, 4, ready_at=later(-60))}}, "Observing"),
    ({"memory": {"last_step": step(2, 4)}, "pressure": None}, "StepNotJudged"),
]


@pytest.mark.parametrize(("changes", "reason"), UP_HELD_BY)
def test_what_holds_a_step_up(changes: dict[str, Any], reason: str) -> None:
    outcome = scale(situation(**changes))
    assert (wrote(outcome), outcome.reason) == (None, reason)
    assert outcome.message


@pytest.mark.parametrize(
    ("changes", "to"),
    [
        ({"free_steps": 1}, 5),
        # A stuck rollout: the pods that work are scaled, whatever becomes of the others.
        (
            {
                "pods": workload(
                    4, max_surge="0", rolling_out=True, stuck_since=NOW, pods=5, ready=3
                )
            },
            6,
        ),
        ({"pods": workload(10, max_surge="0")}, 11),  # as far as the budget goes
        ({"spec": {"target": {"name": "w", "maxReplicas": 5}}}, 5),
        ({"memory": {"step_size": 8}}, 11),
        ({"memory": {"hold_down_until": NOW, "next_step_not_before": NOW}}, 6),
        # 4.5 jobs/s need five replicas, so two more would be one too many.
        ({"reading": queue(50, oldest=300, arrivals=4.5, throughput=4.0)}, 5),
        # Throughput was never seen: the runbook's step, because an objective is missed.
        ({"memory": {"throughput_per_replica": None}}, 6),
        # Below minReplicas the work does not matter, nor what limits it.
        ({"reading": LIMITED, "spec": {"target": {"name": "w", "minReplicas": 7}}}, 6),
        (
            {
                "reading": queue(0),
                "missed": False,
                "spec": {"target": {"name": "w", "minReplicas": 7}},
            },
            6,
        ),
    ],
)
def test_how_far_a_step_goes(changes: dict[str, Any], to: int) -> None:
    assert wrote(scale(situation(**changes))) == to


@pytest.mark.parametrize(
    "reading",
    [
        queue(0, arrivals=4.0, throughput=4.0),
        # Within the tolerance of what four replicas finish.
        queue(50, oldest=10, arrivals=4.3, throughput=4.0),
        # More arrives than is finished, but nothing waits yet.
        queue(3, arrivals=9.0, throughput=4.0),
    ],
)
def test_enough_is_enough(reading: QueueReading) -> None:
    outcome = scale(situation(reading=reading, missed=False))
    assert (wrote(outcome), outcome.reason) == (None, "Steady")


def test_without_throughput_and_without_a_missed_objective_nothing_happens() -> None:
    calm = situation(missed=False, memory={"throughput_per_replica": None})
    assert wrote(scale(calm)) is None


def test_without_a_database_only_the_maximum_limits() -> None:
    free = situation(budget=None, free_steps=None, spec={"target": {"name": "w"}})
    assert wrote(scale(free)) == 6


@pytest.mark.parametrize(
    ("waiting", "throughput", "to"), [(1000, 4.0, None), (5000, 4.0, 6), (5000, 0.0, 6)]
)
def test_paused_producers_drain_in_time_or_get_help(
    waiting: int, throughput: float, to: int | None
) -> None:
    """1,000 jobs at 4/s are gone within 15 minutes; 5,000 would keep producers paused for more."""
    reading = queue(waiting, oldest=300, arrivals=0.0, throughput=throughput)
    memory = {"throughput_per_replica": None}
    outcome = scale(situation(pausing=True, reading=reading, memory=memory))
    assert wrote(outcome) == to


@pytest.mark.parametrize(
    ("pressure", "to", "kind"),
    [((), 7, StepKind.OVER_BUDGET), (("5 wait",), 2, StepKind.SAFE), (None, None, None)],
)
def test_over_the_budget(
    pressure: tuple[str, ...] | None, to: int | None, kind: StepKind | None
) -> None:
    """One window at a time; with pressure to the safe size in one write; none without readings."""
    pods = workload(8, max_surge="0")
    outcome = scale(situation(pods=pods, budget=other_clients(150, pods), pressure=pressure))
    assert wrote(outcome) == to
    assert (stepped(outcome).kind if outcome.step else None) == kind


def test_the_safe_size_waits_for_no_window() -> None:
    pods = workload(7, max_surge="0")
    memory = {"last_step": step(8, 7, at=later(-15)), "next_step_not_before": later(75)}
    over = {"pods": pods, "budget": other_clients(150, pods), "memory": memory}
    assert wrote(scale(situation(**over))) is None
    assert wrote(scale(situation(**over, pressure=("5 wait",)))) == 2


def test_a_minimum_above_the_budget_is_kept() -> None:
    pods = workload(4, max_surge="0")
    policy = {"target": {"name": "w", "minReplicas": 4}}
    held = situation(pods=pods, budget=other_clients(170, pods), spec=policy, pressure=("5 wait",))
    assert (wrote(scale(held)), scale(held).reason) == (None, "Pressure")


def test_a_lowered_maximum_is_followed_even_in_a_storm() -> None:
    outcome = scale(situation(spec={"target": {"name": "w", "maxReplicas": 2}}))
    assert wrote(outcome) == 3
    assert outcome.message.endswith("maxReplicas is 2")


QUIET = queue(0, arrivals=1.0, throughput=1.0)


def quiet(**changes: Any) -> Situation:
    """One job per second over four replicas that could do four; idle for ten minutes."""
    memory = {"idle_since": later(-600), **changes.pop("memory", {})}
    return situation(**{"reading": QUIET, "missed": False, **changes}, memory=memory)


def test_a_step_down_comes_after_its_time() -> None:
    outcome = scale(quiet())
    assert (stepped(outcome).kind, stepped(outcome).to) == (StepKind.DOWN, 3)
    assert wrote(scale(quiet(memory={"idle_since": later(-599)}))) is None
    first = scale(quiet(memory={"idle_since": None}))
    assert first.status.idle_since == NOW


@pytest.mark.parametrize(
    "changes",
    [
        {"missed": True},
        {"reading": queue(0, arrivals=3.4, throughput=3.4)},  # three could not do it
        {"reading": queue(unknown(), arrivals=1.0, throughput=1.0)},
        {"pressure": None},
        {"pods": workload(1, max_surge="0")},
        {"spec": {"target": {"name": "w", "minReplicas": 4}}},
        # Paused producers make any number seem enough, until the backlog is gone.
        {"pausing": True, "reading": queue(4, arrivals=0.0, throughput=1.0)},
    ],
)
def test_what_is_not_idle(changes: dict[str, Any]) -> None:
    outcome = scale(quiet(**changes))
    assert wrote(outcome) is None
    assert outcome.status.idle_since is None


def test_idle_pods_go_while_a_breaker_is_open_and_nothing_waits() -> None:
    """Their pools may be what keeps it open."""
    assert wrote(scale(quiet(pausing=True, reading=queue(0, arrivals=0.0)))) == 3


@pytest.mark.parametrize(
    ("arrivals", "begins", "goes_on"),
    # Three replicas could do 3/s; by chance 2.4/s measured over 90 s are off by 0.25/s.
    [(2.4, True, True), (2.5, False, True), (3.0, False, True), (3.02, False, False)],
)
def test_idling_has_a_hysteresis(arrivals: float, begins: bool, goes_on: bool) -> None:
    near = queue(0, arrivals=arrivals, throughput=arrivals)
    first = scale(quiet(reading=near, memory={"idle_since": None}))
    assert (first.status.idle_since is not None) is begins
    assert (wrote(scale(quiet(reading=near))) == 3) is goes_on


def test_never_seen_under_load_idle_means_that_nobody_waits() -> None:
    never = {"throughput_per_replica": None, "idle_since": later(-600)}
    assert wrote(scale(quiet(memory=never))) == 3
    busy = queue(4, arrivals=1.0, throughput=1.0)
    assert wrote(scale(quiet(memory=never, reading=busy))) is None


def test_after_a_step_down_the_next_storm_starts_small() -> None:
    assert scale(quiet(memory={"step_size": 16})).status.step_size is None
