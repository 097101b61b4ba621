"""Whose replicas are they? Another writer is noticed, named and respected (P9)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    fresh_policy,
    later,
    queue,
    seen,
    workload,
)
from tests.simulator.situations import (
    HPA,
    US,
    situation,
    step,
    wrote,
)

from starforge_backlog.api.memory import MEMORY, apart
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.cluster.lenient import parse_status
from starforge_backlog.decide.plan import Resume
from starforge_backlog.decide.situation import Situation
from starforge_backlog.decide.steps.scaling import scale
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import Autoscaler, Known, Rival, ScaleWriter, Unknown, Why


def theirs(replicas: int = 9, writer: ScaleWriter | None = HPA, **changes: Any) -> Situation:
    """Another client's replicas, where we had written four."""
    memory = {"applied_replicas": 4, **changes.pop("memory", {})}
    pods = workload(replicas, max_surge="0", writer=writer)
    return situation(pods=pods, memory=memory, **changes)


def noticed(at: datetime, replicas: int = 9) -> dict[str, Any]:
    """The memory of a conflict."""
    outcome = scale(theirs(replicas, now=at))
    return {"external": outcome.status.external}


def test_another_writer_is_named_and_respected() -> None:
    outcome = scale(theirs())
    assert (wrote(outcome), outcome.reason) == (None, "ReplicaConflict")
    assert "kube-controller-manager set replicas to 9" in outcome.message
    assert outcome.status.external is not None
    assert outcome.status.last_step is None


ASLEEP = {"name": "etl-worker", "minReplicas": 0, "maxReplicas": 20}


@pytest.mark.parametrize(
    "before",
    [
        theirs(memory=noticed(later(-10))),
        situation(memory={"hold_down_until": later(900), "failed_steps": 2}),
        situation(
            pods=workload(6, max_surge="0"),
            memory={
                "last_step": step(at=later(-20), ready_at=later(-10)),
                "next_step_not_before": later(80),
            },
        ),
        situation(
            spec={"target": ASLEEP},
            pods=workload(0, max_surge="0", writer=None),
            memory={"asleep_since": later(-3600), "applied_replicas": 0},
        ),
    ],
    ids=["another writer is respected", "hold-down", "a step is observed", "asleep"],
)
def test_without_memory_of_the_target_the_rest_stays(before: Situation) -> None:
    """`status.memory` was cleared: that is not another target under the same name."""
    written = apart(QueueBacklogPolicyStatus(scaling=before.before))
    del written[MEMORY]
    cleared, _ = parse_status(written)
    assert (cleared.scaling.target_uid, cleared.scaling.applied_replicas) == ("", None)
    whole, found = scale(before), scale(replace(before, before=cleared.scaling))
    assert (wrote(found), found.reason) == (wrote(whole), whole.reason)
    assert found.status.target_uid == before.workload.uid
    kept = ("hold_down_until", "failed_steps", "external", "asleep_since")
    for field in kept:
        assert getattr(found.status, field) == getattr(whole.status, field), field


def test_a_respected_writer_costs_one_write_of_status() -> None:
    first = scale(theirs())
    again = scale(theirs(memory={"external": first.status.external}, now=later(15)))
    assert again.status == first.status


def test_quiet_for_long_enough_they_are_ours_again() -> None:
    memory = noticed(later(-299))
    assert wrote(scale(theirs(memory=memory))) is None
    memory = noticed(later(-300))
    outcome = scale(theirs(memory=memory))
    assert wrote(outcome) == 11
    assert outcome.status.external is None


def test_each_further_write_of_theirs_starts_the_time_again() -> None:
    memory = noticed(later(-299), replicas=8)
    outcome = scale(theirs(9, memory=memory))
    assert outcome.status.external is not None
    assert outcome.status.external.since == NOW
    wrote_again = ScaleWriter("kube-controller-manager", later(-10))
    same = scale(theirs(9, writer=wrote_again, memory=noticed(later(-299))))
    assert same.status.external is not None
    assert same.status.external.since == NOW


def fight(policy: Situation, writers: list[ScaleWriter], *, quiet: float = 0) -> list[float]:
    """Each writer takes replicas back `quiet` seconds after we have gone on; for how long each was
    respected, in seconds."""
    at, clock, waits = policy, 0.0, list[float]()
    for writer in writers:
        began = clock = clock + quiet
        pods = workload(9, max_surge="0", writer=writer)
        at = replace(at, workload=pods, before=at.before.model_copy(update={"applied_replicas": 4}))
        while True:
            at = replace(at, now=later(clock))
            outcome = scale(at)
            at = replace(at, before=outcome.status)
            if outcome.reason != "ReplicaConflict":
                break
            clock += 15
        waits.append(clock - began)
        at = replace(at, before=at.before.model_copy(update={"last_step": None}))
    return waits


PERSON = ScaleWriter("kubectl-scale", None)


def test_a_writer_that_always_comes_back_is_asked_less_and_less_often() -> None:
    assert fight(theirs(), [HPA] * 7, quiet=60) == [300, 600, 1200, 2400, 3600, 3600, 3600]


@pytest.mark.parametrize(
    ("writers", "quiet", "waits"),
    [
        ([HPA, HPA], 299, [300, 600]),
        ([HPA, HPA], 300, [300, 300]),
        ([HPA, HPA, HPA], 599, [300, 300, 300]),
        ([HPA, PERSON, HPA], 60, [300, 300, 300]),
    ],
)
def test_a_quiet_time_or_another_writer_starts_again(
    writers: list[ScaleWriter], quiet: float, waits: list[float]
) -> None:
    assert fight(theirs(), writers, quiet=quiet) == waits


def test_a_longer_yield_of_the_policy_is_kept() -> None:
    patient = theirs(spec={"scaling": {"yieldFor": "2h"}})
    assert fight(patient, [HPA, HPA]) == [7200, 7200]


def test_writes_while_it_is_respected_are_one_time() -> None:
    first = scale(theirs(8)).status.external
    second = scale(theirs(9, memory={"external": first}, now=later(60))).status.external
    assert second is not None
    assert (second.times, second.since) == (1, later(60))


@pytest.mark.parametrize("writer", [US, None])
@pytest.mark.parametrize("replicas", [4, 6])
def test_a_write_of_ours_whose_answer_was_lost_is_still_ours(
    replicas: int, writer: ScaleWriter | None
) -> None:
    pending = step(4, 6, ready_at=later(-5))
    outcome = scale(theirs(replicas, writer=writer, memory={"last_step": pending}))
    assert outcome.reason != "ReplicaConflict"


def test_a_person_who_undoes_our_step_is_respected() -> None:
    pending = step(4, 6, ready_at=later(-5))
    memory = {"last_step": pending, "applied_replicas": 6}
    person = ScaleWriter("kubectl-scale", None)
    assert scale(theirs(4, writer=person, memory=memory)).reason == "ReplicaConflict"


def test_scaled_to_zero_stays_so() -> None:
    outcome = scale(theirs(0, writer=ScaleWriter("kubectl-scale", None)))
    assert (wrote(outcome), outcome.reason) == (None, "ScaledToZero")
    assert "kubectl-scale" in outcome.message


def test_another_object_under_the_same_name_is_a_new_one() -> None:
    memory = {
        "target_uid": "workload-0",
        "hold_down_until": later(900),
        "failed_steps": 3,
        "last_step": step(),
        "need": 12,
    }
    outcome = scale(theirs(4, memory=memory))
    assert wrote(outcome) == 6
    assert outcome.status.failed_steps == 0
    assert outcome.status.need == 12


# --- an autoscaler of the target ---------------------------------------------------------------


def autoscaler(kind: str = "HorizontalPodAutoscaler", **changes: Any) -> Known[Autoscaler | None]:
    whole: dict[str, Any] = {"uid": "a-1", "version": "1", "minimum": 1, "maximum": 30}
    return Known(Autoscaler(kind, "web", **{**whole, **changes}), NOW)


@pytest.mark.parametrize("kind", ["HorizontalPodAutoscaler", "ScaledObject"])
def test_a_target_of_an_autoscaler_is_left_to_it_before_it_ever_wrote(kind: str) -> None:
    """Not even a failed step is reverted, nor a budget kept: that would be a fight."""
    storms = [
        situation(autoscaler=autoscaler(kind)),
        situation(autoscaler=autoscaler(kind), pods=workload(20, max_surge="0"), pressure=("5",)),
        situation(autoscaler=autoscaler(kind), memory={"last_step": step(2, 4)}),
        situation(autoscaler=autoscaler(kind), pods=workload(0, max_surge="0")),
    ]
    for at in storms:
        outcome = scale(at)
        assert (wrote(outcome), outcome.reason) == (None, "ReplicaConflict")
        assert f"{kind} web scales it between 1 and 30" in outcome.message
        assert f"spec.target.guard.{kind[0].lower()}{kind[1:]}" in outcome.message


def test_gone_the_replicas_are_ours_at_once() -> None:
    before = scale(situation(autoscaler=autoscaler())).status
    outcome = scale(replace(situation(autoscaler=Known(None, NOW)), before=before))
    assert outcome.reason != "ReplicaConflict"


def test_a_paused_scaled_object_scales_nothing() -> None:
    assert wrote(scale(situation(autoscaler=autoscaler("ScaledObject", paused=True)))) == 6


def test_of_what_keda_made_its_scaled_object_is_named() -> None:
    outcome = scale(situation(autoscaler=autoscaler(owner="so")))
    assert "ScaledObject so (by HorizontalPodAutoscaler web) scales" in outcome.message
    assert "spec.target.guard.scaledObject" in outcome.message


def test_a_right_that_may_come_back_in_a_moment_hides_an_autoscaler() -> None:
    lost = Unknown(Why.PERMISSION_LOST, "refused", NOW)
    assert wrote(scale(situation(autoscaler=lost))) is None


def test_without_the_right_to_list_others_are_noticed_by_what_they_write() -> None:
    unlisted = Unknown(Why.NO_PERMISSION, "may not list", NOW)
    assert wrote(scale(situation(autoscaler=unlisted))) == 6
    assert scale(theirs(autoscaler=unlisted)).reason == "ReplicaConflict"


def test_one_that_cannot_be_seen_for_the_moment_holds_up_and_down() -> None:
    late = Unknown(Why.TIMEOUT, "no answer within 2s", NOW)
    up = scale(situation(autoscaler=late))
    assert (wrote(up), up.reason) == (None, "AutoscalerNotKnown")
    idle = {"idle_since": later(-3600)}
    down = scale(situation(autoscaler=late, reading=queue(0), missed=False, memory=idle))
    assert wrote(down) is None
    # What harms the database is taken back all the same: nobody else is known to write.
    over = workload(20, max_surge="0")
    assert wrote(scale(situation(autoscaler=late, pods=over, pressure=("5 wait",)))) == 11


@pytest.mark.parametrize(
    ("reading", "ready", "said"),
    [
        (Unknown(Why.NO_PERMISSION, "may not list; set x", NOW), "True", "may not list; set x"),
        (Unknown(Why.TIMEOUT, "no answer within 2s", NOW), "False", "no answer within 2s"),
        (autoscaler("ScaledObject", paused=True), "True", "ScaledObject web is paused"),
        (autoscaler(), "True", "Delete it, or name it in spec.target.guard"),
        (Known(None, NOW), "True", ""),
    ],
)
def test_what_is_reported_of_it(
    reading: Known[Autoscaler | None] | Unknown, ready: str, said: str
) -> None:
    policy = fresh_policy()
    plan = policy.decide(replace(seen(), autoscaler=reading))
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    conditions = {c.type: c for c in status.conditions}
    assert conditions["Ready"].status == ready
    assert said in conditions["Scaling"].message


def test_a_newer_policy_reports_which_one_it_waits_for_and_releases_what_it_paused() -> None:
    policy = fresh_policy()
    entry = PauseStatus(
        producer="ingestion",
        by=PausedBy.US,
        state=PauseState.HELD,
        since=NOW,
        token="uid-1/ingestion/x",
    )
    policy.status = QueueBacklogPolicyStatus(
        paused=(entry,), breakers=(BreakerStatus(name="ingestion", state=BreakerState.OPEN),)
    )
    rival = Rival("ns/old", "Deployment etl-worker", deleting=True)
    plan = policy.decide(replace(seen(), rival=rival))
    assert [type(action) for action in plan.actions] == [Resume]
    status = report(policy.spec, policy.status, plan, (), 1, NOW)
    ready = status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "TargetTaken")
    assert "the older policy ns/old; it is being deleted" in ready.message
    assert status.breakers == ()
    assert "TO DO" in status.summary


def test_while_the_younger_one_lets_go_the_older_holds_what_it_has() -> None:
    policy = fresh_policy()
    storm = queue(90_000, oldest=9000, arrivals=50.0, throughput=1.0)
    rival = Rival("ns/young", "Deployment etl-worker", leaving=True)
    plan = policy.decide(replace(seen(queues=storm), rival=rival))
    assert plan.actions == ()
    assert "releases it within one pass" in plan.assessment.scaling_message
