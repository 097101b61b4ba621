"""`minReplicas: 0`: asleep without work, awake with the first due job (P2, P4, P6)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.given import (
    NOW,
    at_least,
    fresh_policy,
    later,
    queue,
    seen,
    unknown,
    workload,
)
from tests.simulator.situations import FAILED, OBSERVING, US, situation, step, stepped, wrote

from starforge_backlog.decide.plan import Cause, ScaleTo, StepKind
from starforge_backlog.decide.results import Result, Written
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.decide.steps.scaling import scale
from starforge_backlog.decide.steps.sleep import due, quiet
from starforge_backlog.decide.steps.verdict import READY_WITHIN
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import (
    Count,
    Known,
    NotReady,
    QueueReading,
    ScaleWriter,
    Snapshot,
    Unknown,
    Why,
    Workload,
)

ZERO = {"name": "etl-worker", "minReplicas": 0, "maxReplicas": 20}
PERSON = ScaleWriter("kubectl", None)
ASLEEP = {"asleep_since": later(-3600), "applied_replicas": 0}
SLEEPS_AFTER = timedelta(minutes=10)


def in_progress(count: int | Unknown, waiting: int = 0) -> QueueReading:
    jobs = count if isinstance(count, Unknown) else Known(Count(count), NOW)
    return replace(queue(waiting), in_progress=jobs)


def at(replicas: int = 0, reading: QueueReading | None = None, **changes: Any) -> Situation:
    """A target that may sleep; by default it does, with nothing to do."""
    reading = reading or queue(0)
    memory = {**(ASLEEP if replicas == 0 else {}), **changes.pop("memory", {})}
    parts = {"target": ZERO, **changes.pop("spec", {})}
    pods = changes.pop("pods", workload(replicas, max_surge="0"))
    whole = {"missed": False, "due": due([reading]), "quiet": quiet([reading]), **changes}
    return situation(spec=parts, pods=pods, reading=reading, memory=memory, **whole)


# --- asleep ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "to"),
    [
        ({}, 1),
        # What one replica finishes is known, and so how many are needed; a step at most.
        ({"reading": queue(5000)}, 2),
        ({"reading": queue(20)}, 1),
        ({"reading": queue(5000), "spec": {"scaling": {"stepUp": 5}}}, 5),
        # Never measured: one, or the runbook's step where another client is late already.
        ({"memory": {"throughput_per_replica": None}}, 1),
        ({"memory": {"throughput_per_replica": None}, "missed": True}, 2),
        # A count that stopped at its cap is due all the same.
        ({"reading": queue(at_least(10_000))}, 2),
        # Nothing waits for the window of the step that sent it to sleep.
        ({"memory": {"next_step_not_before": later(80), "last_step": step(1, 0)}}, 1),
        ({"window_opens": later(80)}, 1),
        # An open breaker: consumers drain what is there.
        ({"pausing": True}, 1),
        ({"reading": queue(5000), "free_steps": 1}, 1),
        ({"spec": {"target": {**ZERO, "maxReplicas": 1}}, "reading": queue(5000)}, 1),
        # No rate can be read: the job itself is enough.
        ({"reading": replace(queue(3), arrivals_per_second=unknown())}, 1),
        ({"budget": None, "free_steps": None}, 1),
    ],
)
def test_the_first_due_job_wakes_it(changes: dict[str, Any], to: int) -> None:
    changes = {"reading": queue(1), **changes}
    outcome = scale(at(**changes))
    assert wrote(outcome) == to
    assert stepped(outcome).kind is StepKind.WAKE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reading": queue(0)}, "Asleep"),
        ({"reading": queue(unknown())}, "Asleep"),
        ({"budget": Unknown(Why.UNREACHABLE, "refused", NOW)}, "BudgetNotKnown"),
        ({"pressure": None}, "DatabaseHealthNotKnown"),
        ({"autoscaler": Unknown(Why.TIMEOUT, "late", NOW)}, "AutoscalerNotKnown"),
        ({"pressure": ("5 wait",)}, "Pressure"),
        ({"sample_is_old": True}, "Observing"),
        ({"free_steps": 0}, "BudgetExhausted"),
        ({"memory": {"hold_down_until": later(1)}}, "HoldDown"),
    ],
)
def test_what_lets_it_sleep_on(changes: dict[str, Any], reason: str) -> None:
    outcome = scale(at(**{"reading": queue(1), **changes}))
    assert (wrote(outcome), outcome.reason) == (None, reason)
    assert outcome.message


def test_one_queue_that_cannot_be_read_hides_no_job_of_another() -> None:
    readings = [queue(unknown()), queue(3)]
    assert due(readings) == 3
    assert quiet(readings) is False


def test_a_minimum_that_was_raised_wakes_it() -> None:
    outcome = scale(at(spec={"target": {"name": "w", "minReplicas": 2}}))
    assert wrote(outcome) == 2


# --- whose 0 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("minimum", "created_so"), [(0, True), (0, False), (1, True)])
def test_created_with_no_replicas_it_waits_for_its_first_job(
    minimum: int, created_so: bool
) -> None:
    pods = workload(0, max_surge="0", writer=ScaleWriter("helm", NOW), created_at_zero=created_so)
    memory = {"asleep_since": None, "applied_replicas": None}
    target = {"target": {"name": "etl-worker", "minReplicas": minimum}}
    outcome = scale(at(0, queue(50), pods=pods, memory=memory, spec=target))
    woken = minimum == 0 and created_so
    assert (wrote(outcome) is not None) is woken
    assert (outcome.reason == "ScaledToZero") is not woken


@pytest.mark.parametrize(
    ("writer", "memory", "stays"),
    [
        (US, {}, False),
        # After a restart without a status, or killed before the result: the object shows it.
        (US, {"asleep_since": None, "applied_replicas": None}, False),
        (US, {"asleep_since": None, "applied_replicas": 1, "last_step": step(1, 0)}, False),
        (PERSON, {}, True),
        (PERSON, {"asleep_since": None, "applied_replicas": 0}, True),
        # Kinds that do not say who wrote: as we remember.
        (None, {}, False),
        (None, {"asleep_since": None, "applied_replicas": 4}, True),
    ],
)
def test_scaled_to_zero_by_a_person_it_stays_so(
    writer: ScaleWriter | None, memory: dict[str, Any], stays: bool
) -> None:
    pods = workload(0, max_surge="0", writer=writer)
    outcome = scale(at(0, queue(50), pods=pods, memory=memory))
    assert (outcome.reason == "ScaledToZero") is stays
    assert (wrote(outcome) is None) is stays
    if stays:
        assert "Scale it to 1 or more" in outcome.message
        assert outcome.status.asleep_since is None


# --- awake -------------------------------------------------------------------------------------

QUIET = {"quiet_since": NOW - SLEEPS_AFTER, "idle_since": NOW - SLEEPS_AFTER}


@pytest.mark.parametrize(("replicas", "to"), [(3, 2), (2, 1), (1, 0)])
def test_one_step_at_a_time_to_zero(replicas: int, to: int) -> None:
    outcome = scale(at(replicas, memory=QUIET))
    assert wrote(outcome) == to
    assert (outcome.status.asleep_since == NOW) is (to == 0), "known as ours before it is written"


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": {"quiet_since": later(-599)}},
        {"memory": {"idle_since": NOW - SLEEPS_AFTER}},
        {"reading": queue(1)},
        {"reading": in_progress(1)},
        {"reading": queue(0, arrivals=0.1)},
        # P2: what is not known is not nothing.
        {"reading": queue(unknown())},
        {"reading": in_progress(unknown())},
        {"reading": queue(at_least(0))},
        {"budget": Unknown(Why.UNREACHABLE, "refused", NOW)},
        {"autoscaler": Unknown(Why.TIMEOUT, "late", NOW)},
        {"window_opens": later(1)},
        {"spec": {"target": {"name": "w", "minReplicas": 1}}},
    ],
)
def test_what_keeps_the_last_one_awake(changes: dict[str, Any]) -> None:
    assert wrote(scale(at(1, **{"memory": QUIET, **changes}))) is None


def test_a_larger_step_down_stops_at_one_until_it_was_quiet_for_long_enough() -> None:
    big = {"target": ZERO, "scaling": {"stepDown": 5}}
    busy_lately = {**QUIET, "quiet_since": later(-10)}
    assert wrote(scale(at(3, spec=big, memory=busy_lately))) == 1
    assert wrote(scale(at(3, spec=big, memory=QUIET))) == 0


def test_quiet_is_remembered_once_and_forgotten_at_the_first_job() -> None:
    first = scale(at(1)).status
    assert first.quiet_since == NOW
    again = scale(at(1, memory={"quiet_since": first.quiet_since}, now=later(15))).status
    assert again.quiet_since == NOW
    assert scale(at(1, in_progress(1), memory=QUIET)).status.quiet_since is None
    assert scale(at(1, in_progress(unknown()), memory=QUIET)).status.quiet_since is None


@given(
    waiting=st.none() | st.integers(0, 3),
    working=st.none() | st.integers(0, 3),
    quiet_for=st.integers(0, 1200),
    replicas=st.integers(1, 3),
)
def test_only_a_known_nothing_for_long_enough_sends_it_to_sleep(
    waiting: int | None, working: int | None, quiet_for: int, replicas: int
) -> None:
    jobs = unknown() if waiting is None else Known(Count(waiting), NOW)
    work = unknown() if working is None else Known(Count(working), NOW)
    reading = replace(queue(0), waiting=jobs, in_progress=work)
    memory = {"quiet_since": later(-quiet_for), "idle_since": later(-5000)}
    if wrote(scale(at(replicas, reading, memory=memory))) == 0:
        assert (waiting, working, replicas) == (0, 0, 1)
        assert quiet_for >= SLEEPS_AFTER.total_seconds()


# --- a wake-up that fails ----------------------------------------------------------------------


def woken(to: int, **changes: Any) -> Outcome:
    """Woken, and not one pod became Ready in time."""
    began = later(-(READY_WITHIN.total_seconds() + 100))
    one = step(0, to, at=began, ready_at=None)
    pods = workload(to, max_surge="0", ready=0, pending=to)
    memory = {"last_step": one, "applied_replicas": to, **changes.pop("memory", {})}
    return scale(at(to, queue(5000), pods=pods, memory=memory, **changes))


def test_one_stays_for_the_jobs_that_woke_it() -> None:
    alone = woken(1)
    assert (wrote(alone), alone.reason) == (None, "PodsPending")
    assert alone.status.hold_down_until is not None
    several = woken(3)
    assert (stepped(several).kind, wrote(several)) == (StepKind.REVERT, 1)


def test_after_its_hold_down_the_next_step_comes() -> None:
    failed = step(0, 1, verdict=FAILED, verdict_at=later(-400), ready_at=later(-600))
    memory = {"last_step": failed, "applied_replicas": 1, "hold_down_until": later(-1)}
    assert wrote(scale(at(1, queue(5000), memory=memory))) == 3


# --- what people read --------------------------------------------------------------------------


def snapshot(pods: Workload, waiting: int, **changes: Any) -> Snapshot:
    return replace(seen(target=pods, queues=queue(waiting)), **changes)


def test_a_sleeping_target_is_reported_as_asleep_and_not_as_an_outage() -> None:
    policy = fresh_policy(target=ZERO)
    pods = workload(0, max_surge="0")
    plan = policy.decide(snapshot(pods, 0))
    assert plan.assessment.findings == ()
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    conditions = {c.type: (c.status, c.reason) for c in status.conditions}
    assert conditions["ConsumersHealthy"] == ("True", "Asleep")
    assert conditions["Scaling"] == ("True", "Asleep")
    assert "wakes with the first due job" in status.summary


def test_waking_is_no_outage_and_crashing_is_one() -> None:
    policy = fresh_policy(target=ZERO)
    plan = policy.decide(snapshot(workload(0, max_surge="0"), 7))
    assert plan.assessment.findings == ()
    (action,) = plan.actions
    policy.happened([Result(action, Written(1))])
    starting = workload(1, max_surge="0", ready=0, pending=1)
    assert policy.decide(snapshot(starting, 7)).assessment.findings == ()
    crashing = workload(
        1, max_surge="0", ready=0, crash_looping=1, not_ready=NotReady("a", "exit 1")
    )
    (finding,) = policy.decide(snapshot(crashing, 7)).assessment.findings
    assert finding.cause is Cause.CONSUMER_OUTAGE


def test_scaled_to_zero_by_a_person_with_due_jobs_is_an_outage() -> None:
    policy = fresh_policy(target=ZERO)
    plan = policy.decide(snapshot(workload(0, max_surge="0", writer=PERSON), 7))
    assert [f.cause for f in plan.assessment.findings] == [Cause.CONSUMER_OUTAGE]


def test_a_whole_night() -> None:
    """Quiet, asleep, restarted, woken by one job: no other write in between."""
    policy = fresh_policy(target=ZERO, breakers=[], producers=[])
    replicas, wrote_to, clock = 2, list[int](), 0
    while clock < 3600:
        moment = later(clock)
        waiting = 1 if clock == 3000 else 0
        pods = workload(replicas, max_surge="0")
        reading = queue(waiting, at=moment)
        jobs = replace(reading, in_progress=Known(Count(0), moment))
        plan = policy.decide(seen(at=moment, target=pods, queues=jobs))
        for action in plan.actions:
            assert isinstance(action, ScaleTo)
            replicas = action.to
            wrote_to.append(replicas)
            policy.happened([Result(action, Written(replicas))], moment)
        clock += 15
    assert wrote_to == [1, 0, 1]
    assert policy.status.scaling.last_step is not None
    assert policy.status.scaling.last_step.verdict is not OBSERVING
