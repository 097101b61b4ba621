"""Which changes make an Event: each fault once, actions always, what holds the next step too."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.given import NOW, fresh_policy, later, queue, seen, unknown, workload

from starforge_backlog.api.status import (
    Condition,
    ExternalWriter,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
    Step,
)
from starforge_backlog.decide.plan import Resume, ScaleTo, StepKind
from starforge_backlog.decide.results import Failed, Result, Resumed, ResumeOutcome, Written
from starforge_backlog.report.status import report
from starforge_backlog.report.transitions import Note, transitions
from starforge_backlog.snapshot import Unknown, Why

NEW = QueueBacklogPolicyStatus()


def having(*conditions: tuple[str, str, str], **parts: Any) -> QueueBacklogPolicyStatus:
    """A status with these conditions: type, status, reason."""
    made = tuple(
        Condition(type=t, status=s, reason=r, message=f"{r} of {t}", last_transition_time=NOW)
        for t, s, r in conditions
    )
    return QueueBacklogPolicyStatus(conditions=made, **parts)


def reasons(notes: tuple[Note, ...]) -> list[str]:
    return [note.reason for note in notes]


def test_a_missing_target_is_one_event() -> None:
    policy = fresh_policy()
    fine = report(policy.spec, NEW, policy.decide(seen()), (), 1, NOW)
    missing = Unknown(Why.TARGET_NOT_FOUND, "deployments etl-worker does not exist", NOW)
    after = report(policy.spec, fine, policy.decide(seen(target=missing)), (), 1, NOW)
    assert {c.type for c in after.conditions if c.reason == "TargetNotFound"} >= {
        "Ready",
        "ConsumersHealthy",
        "Scaling",
    }
    assert reasons(transitions(fine, after, ())) == ["NotReady"]
    assert reasons(transitions(after, fine, ())) == ["Ready"]
    assert transitions(after, after, ()) == ()


def test_the_start_of_an_operator_is_no_event() -> None:
    """What is not read often enough yet passes by itself; a fault among it does not."""
    policy = fresh_policy()
    calm = having(("DatabaseHeadroom", "True", "Available"), ("Scaling", "True", "Steady"))
    started = report(policy.spec, calm, policy.decide(seen(awaited=("ns/other",))), (), 1, NOW)
    why = {condition.type: condition.reason for condition in started.conditions}
    assert (why["DatabaseHeadroom"], why["Scaling"]) == ("NotYetObserved", "WarmingUp")
    assert not [note for note in transitions(calm, started, ()) if note.warning]
    assert not reasons(transitions(started, calm, ()))
    worse = having(("DatabaseHeadroom", "False", "Pressure"), ("Scaling", "True", "Steady"))
    assert reasons(transitions(worse, started, ())) == ["DatabaseHeadroomNotKnown"]
    broken = policy.decide(seen(queues=queue(unknown())))
    after = report(policy.spec, calm, broken, (), 1, NOW)
    assert [note.warning for note in transitions(calm, after, ())] == [True]


def test_a_second_fault_beside_the_first_is_reported_as_well() -> None:
    one = having(("Ready", "False", "Unreachable"), ("ConsumersHealthy", "True", "AllReady"))
    two = having(
        ("Ready", "False", "Unreachable"), ("ConsumersHealthy", "Unknown", "TargetNotFound")
    )
    assert reasons(transitions(one, two, ())) == ["ConsumersNotKnown"]
    same = having(("Ready", "False", "Unreachable"), ("ConsumersHealthy", "Unknown", "Unreachable"))
    assert transitions(one, same, ()) == ()


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("PausedByBreaker", "ProducersPaused"),
        ("PauseFailed", "ProducerNotPaused"),
        ("Pausing", "ProducerNotPaused"),
    ],
)
def test_a_pause_that_failed_is_not_called_one(reason: str, expected: str) -> None:
    before = having(("ProducersRunning", "True", "Running"))
    assert reasons(transitions(before, having(("ProducersRunning", "False", reason)), ())) == [
        expected
    ]


@pytest.mark.parametrize(
    ("was", "now", "status", "expected"),
    [
        ("Steady", "BudgetExhausted", "False", ["BudgetExhausted"]),
        ("Observing", "HoldDown", "False", ["HoldDown"]),
        ("Steady", "Held", "False", ["Held"]),
        ("Steady", "Suspended", "False", ["Suspended"]),
        ("Steady", "ReplicaConflict", "False", ["ReplicaConflict"]),
        ("Stepping", "AtMaximum", "True", ["AtMaximum"]),
        ("Held", "Observing", "False", ["HeldEnded"]),
        ("ReplicaConflict", "Steady", "True", ["ReplicaConflictEnded"]),
        ("Steady", "Stepping", "True", []),
        ("Stepping", "Observing", "False", []),
        ("BudgetExhausted", "BudgetExhausted", "False", []),
        ("BudgetExhausted", "Observing", "False", []),
        ("Steady", "WarmingUp", "Unknown", []),
        ("WarmingUp", "Steady", "True", []),
        ("WarmingUp", "Unknown", "Unknown", ["Unknown"]),
    ],
)
def test_what_holds_the_next_step(was: str, now: str, status: str, expected: list[str]) -> None:
    found = transitions(having(("Scaling", "True", was)), having(("Scaling", status, now)), ())
    assert reasons(found) == expected
    assert all(note.limit.startswith("Scaling") for note in found)
    assert all(note.warning == (status != "True") for note in found if note.reason == now)


def test_replicas_that_somebody_else_wrote_are_an_event_each_time() -> None:
    def written(replicas: int, at: float) -> QueueBacklogPolicyStatus:
        writer = ExternalWriter(manager="argocd", replicas=replicas, since=later(at))
        scaling = ScalingStatus(external=writer)
        return having(("Scaling", "False", "ReplicaConflict"), scaling=scaling)

    calm = having(("Scaling", "True", "Steady"))
    first, second = written(9, 0), written(9, 60)
    found = transitions(calm, first, ())
    assert reasons(found) == ["ReplicasWrittenByOthers"]
    assert "ReplicaConflict of Scaling" in found[0].text, "the condition says who and what to do"
    assert transitions(first, first, ()) == ()
    assert reasons(transitions(first, second, ())) == ["ReplicasWrittenByOthers"]


def test_a_policy_whose_replicas_somebody_writes_says_who_and_until_when() -> None:
    policy = fresh_policy()
    policy.status = QueueBacklogPolicyStatus(
        scaling=ScalingStatus(applied_replicas=4, target_uid="workload-1")
    )
    before = policy.status
    plan = policy.decide(seen(target=workload(9)))
    after = report(policy.spec, before, plan, (), 1, NOW)
    (note,) = [n for n in transitions(before, after, ()) if n.action == "Observe" and n.limit]
    assert note.reason == "ReplicasWrittenByOthers"
    assert "starforge-backlog set replicas to 9" in note.text


def held(**changes: Any) -> PauseStatus:
    found: dict[str, Any] = {
        "producer": "ingestion",
        "by": PausedBy.US,
        "state": PauseState.HELD,
        "since": NOW,
        "token": "t",
    }
    return PauseStatus(**(found | changes))


def test_a_resume_without_an_answer_that_was_done_is_reported() -> None:
    """The last word of it was ResumeFailed."""
    action = Resume(held(), "no open breaker pauses it")
    failed = Result(action, Failed(Why.TIMEOUT, "no answer in time"))
    one = QueueBacklogPolicyStatus(paused=(held(),))
    two = QueueBacklogPolicyStatus(paused=(held(failed=True, message="no answer in time"),))
    assert reasons(transitions(one, two, (failed,))) == ["ResumeFailed"]
    assert reasons(transitions(two, two, (failed,))) == [], "reported"
    assert reasons(transitions(two, NEW, ())) == ["Resumed"]
    done = Result(action, Resumed(ResumeOutcome.RESUMED))
    assert reasons(transitions(two, NEW, (done,))) == ["Resumed"], "once"
    assert transitions(one, NEW, ()) == (), "a person's resume is not reported"


@pytest.mark.parametrize("reverted", [False, True])
def test_a_step_without_an_answer_that_was_done_is_reported(reverted: bool) -> None:
    step = Step(from_=4, to=6, message="w", at=NOW, reverted=reverted)
    start, end = (6, 4) if reverted else (4, 6)
    kind = StepKind.REVERT if reverted else StepKind.UP
    action = ScaleTo(kind, start, end, "7", 1, 24, "w")
    applied = end if reverted else start
    failed = QueueBacklogPolicyStatus(
        scaling=ScalingStatus(replicas=start, applied_replicas=applied, last_step=step)
    )
    after = QueueBacklogPolicyStatus(
        scaling=ScalingStatus(replicas=end, applied_replicas=end, last_step=step)
    )
    assert reasons(transitions(failed, after, ())) == [f"Scaled{kind}"]
    done = Result(action, Written(end))
    assert reasons(transitions(failed, after, (done,))) == [f"Scaled{kind}"], "once"
    assert transitions(after, after, ()) == ()


def test_a_failed_action_is_limited_and_one_that_was_done_is_not() -> None:
    action = Resume(held(), "no open breaker pauses it")
    failed = transitions(NEW, NEW, (Result(action, Failed(Why.TIMEOUT, "late")),))
    assert [note.limit for note in failed] == ["ResumeFailed ingestion"]
    done = transitions(NEW, NEW, (Result(action, Resumed(ResumeOutcome.RESUMED)),))
    assert [note.limit for note in done] == [""]


def test_a_failure_that_status_holds_in_short_is_reported_once() -> None:
    action, message = Resume(held(), "no open breaker pauses it"), "x" * 5_000
    failed = (Result(action, Failed(Why.ERROR, message)),)
    policy = fresh_policy()
    plan = policy.decide(seen(producers=unknown()))
    plan = plan.with_status(plan.status.model_copy(update={"paused": (held(),)}))
    after = report(policy.spec, policy.status, plan, failed, 1, NOW)
    assert len(after.paused[0].message) == 2_000
    assert not [n for n in transitions(after, after, failed) if n.reason == "ResumeFailed"]
