"""The whole decision: order, one thing per window, Observe, suspend, hold, and memory (P2-P6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    OWNER,
    Policy,
    at_least,
    connections,
    flag,
    fresh_policy,
    health,
    later,
    per_replica,
    queue,
    seen,
    unknown,
    workload,
)
from tests.simulator.pasts import TOKEN, calm, held, kinds, reason, remembering, storm

from starforge_backlog.api.status import (
    BreakerState,
    ExternalWriter,
    PauseState,
    QueueBacklogPolicyStatus,
    Step,
    StepVerdict,
)
from starforge_backlog.decide.plan import Pause, Resume, ScaleTo, StepKind
from starforge_backlog.decide.results import (
    Failed,
    NotDone,
    Paused,
    PauseOutcome,
    Result,
    Resumed,
    ResumeOutcome,
    Written,
)
from starforge_backlog.snapshot import (
    Claim,
    FlagValue,
    Known,
    QueueReading,
    ScaleWriter,
    Unknown,
    Why,
)

PAUSED_BY_US = flag(FlagValue.PAUSED, token=TOKEN, version="5")


SOON = [
    {"name": "ingestion", "pause": ["ingestion"], "trip": [{"waiting": 5000, "for": "1m"}]},
]


# --- order -----------------------------------------------------------------------------------


def test_producers_are_paused_before_replicas_change() -> None:
    policy = remembering(fresh_policy(breakers=SOON))
    policy.decide(storm(0))
    plan = policy.decide(storm(60))
    assert kinds(plan) == ["Pause", "Up"]
    (entry,) = plan.status.paused
    assert entry.state is PauseState.INTENDED
    assert isinstance(plan.actions[0], Pause)
    assert entry.token == plan.actions[0].token


def test_a_step_down_comes_before_a_release_that_may_fail() -> None:
    failed = Step(from_=2, to=4, message="", at=later(-600), verdict=StepVerdict.FAILED)
    policy = remembering(
        fresh_policy(), breaker=BreakerState.CLOSED, paused=(held(),), last_step=failed
    )
    plan = policy.decide(calm(producers=PAUSED_BY_US))
    assert kinds(plan) == ["Revert", "Resume"]


def test_a_pause_that_cannot_be_done_does_not_stop_the_workers() -> None:
    """The first action that fails ends a pass, so what failed before is tried last."""
    missing = held(state=PauseState.REFUSED, message="there is no such row")
    policy = remembering(fresh_policy(), breaker=BreakerState.OPEN, paused=(missing,))
    assert kinds(policy.decide(storm(producers=unknown(Why.ROW_MISSING)))) == ["Up", "Pause"]


def test_a_producer_that_cannot_be_released_does_not_keep_the_next_one_waiting() -> None:
    names = ["a", "b"]
    policy = fresh_policy(
        producers=[{"name": n, "featureFlag": {"name": n}} for n in names],
        breakers=[{"name": "both", "pause": names, "trip": [{"waiting": 5000, "for": "1m"}]}],
    )
    stuck = held(producer="a", message="permission denied for table feature_flags")
    policy.status = QueueBacklogPolicyStatus(paused=(stuck, held(producer="b")))
    flags = dict.fromkeys(names, PAUSED_BY_US)
    (action,) = policy.decide(calm(producers=flags)).actions
    assert isinstance(action, Resume)
    assert action.held.producer == "b"


@pytest.mark.parametrize(("failed", "does"), [(True, ["Up", "Resume"]), (False, ["Resume"])])
def test_a_former_place_that_cannot_be_reached_keeps_no_step_waiting(
    failed: bool, does: list[str]
) -> None:
    """Its release is tried with every pass, and each try would begin a window."""
    former = held(producer="ingestion@2026-01-01T00:00:00Z", failed=failed)
    policy = remembering(fresh_policy(), breaker=BreakerState.CLOSED, paused=(former,))
    busy = queue(2000, oldest=300, arrivals=9.0, throughput=4.0)
    assert kinds(policy.decide(seen(queues=busy))) == does


def test_a_release_is_all_that_happens_in_its_window() -> None:
    policy = remembering(
        fresh_policy(), breaker=BreakerState.OPEN, recovering_since=-120, paused=(held(),)
    )
    busy = queue(2000, oldest=300, arrivals=9.0, throughput=4.0)
    plan = policy.decide(seen(queues=busy, producers=PAUSED_BY_US))
    assert kinds(plan) == ["Resume"]
    assert reason(plan) == "Observing"
    policy.happened([Result(plan.actions[0], Resumed(ResumeOutcome.RESUMED))])
    assert policy.status.released_at == NOW
    assert policy.status.paused == ()
    for after, does in ((75, []), (90, ["Up"])):
        busy = queue(2000, oldest=300, arrivals=9.0, throughput=4.0, at=later(after))
        assert kinds(policy.decide(seen(at=later(after), queues=busy))) == does


@pytest.mark.parametrize(("step_age", "released"), [(89, False), (90, True)])
def test_nothing_is_released_in_the_window_of_a_step(step_age: float, released: bool) -> None:
    young = Step(from_=5, to=4, message="", at=later(-step_age))
    policy = remembering(
        fresh_policy(),
        breaker=BreakerState.OPEN,
        recovering_since=-120,
        paused=(held(),),
        last_step=young,
    )
    plan = policy.decide(calm(producers=PAUSED_BY_US))
    assert plan.status.breakers[0].state is BreakerState.HALF_OPEN
    assert ("Resume" in kinds(plan)) is released


def test_two_producers_are_released_one_window_apart() -> None:
    names = ["a", "b"]
    policy = fresh_policy(
        producers=[{"name": n, "featureFlag": {"name": n}} for n in names],
        breakers=[{"name": "both", "pause": names, "trip": [{"waiting": 5000, "for": "1m"}]}],
    )
    entries = tuple(held(producer=n, token=f"{OWNER}/{n}/1") for n in names)
    policy.status = QueueBacklogPolicyStatus(paused=entries)

    def flags(at: float, *paused: str) -> dict[str, Any]:
        return {
            n: flag(FlagValue.PAUSED, token=f"{OWNER}/{n}/1", version="5", at=later(at))
            if n in paused
            else flag(at=later(at))
            for n in names
        }

    first = policy.decide(calm(producers=flags(0, "a", "b")))
    # Recovery runs backwards: what was paused last is resumed first.
    assert [a.held.producer for a in first.actions if isinstance(a, Resume)] == ["b"]
    policy.happened([Result(first.actions[0], Resumed(ResumeOutcome.RESUMED))])
    assert kinds(policy.decide(calm(75, producers=flags(75, "a")))) == []
    second = policy.decide(calm(90, producers=flags(90, "a")))
    assert [a.held.producer for a in second.actions if isinstance(a, Resume)] == ["a"]


# --- unknown is not zero ---------------------------------------------------------------------


def half_open() -> Policy:
    """A breaker on probation whose producer is still paused."""
    return remembering(fresh_policy(), breaker=BreakerState.HALF_OPEN, paused=(held(),))


@pytest.mark.parametrize(
    ("reading", "released"),
    [(queue(10), True), (queue(unknown()), False), (queue(10, at=later(-60)), False)],
)
def test_a_release_needs_readings_of_now(reading: QueueReading, released: bool) -> None:
    plan = half_open().decide(seen(queues=reading, producers=PAUSED_BY_US))
    assert ("Resume" in kinds(plan)) is released


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"target": unknown(Why.TIMEOUT)}, "Timeout"),
    ({"each": unknown(Why.ENV_NOT_FOUND)}, "EnvNotFound"),
    ({"each": per_replica(role=None)}, "BudgetNotKnown"),
    ({"open_now": unknown()}, "BudgetNotKnown"),
    ({"open_now": connections(read_only=True)}, "BudgetNotKnown"),
    ({"state": unknown()}, "DatabaseHealthNotKnown"),
    ({"awaited": ("ns/other",)}, "WarmingUp"),
    ({"queues": {}}, "WarmingUp"),
    ({"queues": queue(unknown())}, "LoadNotKnown"),
]


@pytest.mark.parametrize(("hidden", "why"), UNREADABLE)
def test_a_step_up_needs_every_reading(hidden: dict[str, Any], why: str) -> None:
    policy = remembering(fresh_policy(breakers=[]))
    snapshot = {"queues": storm().queues, **hidden}
    plan = policy.decide(seen(**snapshot))
    assert (kinds(plan), reason(plan)) == ([], why)
    assert kinds(policy.decide(storm(15))) == ["Up"]


def test_a_snapshot_without_the_database_is_not_a_policy_without_one() -> None:
    policy = remembering(fresh_policy(breakers=[]))
    plan = policy.decide(replace(storm(), database=None))
    assert (kinds(plan), reason(plan)) == ([], "WarmingUp")


def test_one_of_two_queues_is_not_the_sum() -> None:
    queues = [{"name": "jobs", "postgres": {}}, {"name": "more", "postgres": {}}]
    policy = remembering(fresh_policy(queues=queues, breakers=[]))
    assert kinds(policy.decide(storm())) == []


def test_the_last_known_budget_stays_for_its_peak() -> None:
    policy = remembering(fresh_policy(breakers=[]))
    policy.decide(storm())
    before = policy.status.budget
    policy.decide(storm(15, open_now=unknown()))
    assert policy.status.budget == before
    assert policy.status.scaling.budget_replicas is None


def test_other_policies_on_the_database_are_counted() -> None:
    policy = remembering(fresh_policy(breakers=[]))
    plan = policy.decide(storm(claims=(Claim("ns/other", "other", 60),)))
    assert (kinds(plan), reason(plan)) == ([], "BudgetExhausted")


# --- Observe, suspend, hold ------------------------------------------------------------------


def test_observe_says_what_it_would_do_and_does_nothing() -> None:
    policy = remembering(fresh_policy(mode="Observe", breakers=SOON))
    policy.decide(storm(0))
    for at in (60, 75):
        plan = policy.decide(storm(at))
        assert kinds(plan) == []
        assert len(plan.would) == 2
        assert plan.would[0].startswith("pause ingestion: 9000 waiting")
        assert plan.would[1].startswith("scale 4 -> 6: ")
        assert plan.status.paused == ()
        assert plan.status.scaling.last_step is None


def test_a_switch_to_observe_releases_ours_whatever_is_unknown() -> None:
    policy = remembering(fresh_policy(mode="Observe"), breaker=BreakerState.OPEN, paused=(held(),))
    plan = policy.decide(storm(open_now=unknown(), producers=unknown()))
    assert kinds(plan) == ["Resume"]
    policy.happened([Result(plan.actions[0], Resumed(ResumeOutcome.RESUMED))])
    assert kinds(policy.decide(storm(15))) == []


def step_of(age: float, **changes: Any) -> Step:
    """A step up of that many seconds ago."""
    return Step(**{"from_": 2, "to": 4, "message": "", "at": later(-age), **changes})


FAILED_ONCE = {"hold_down_until": later(120), "failed_steps": 2}


@pytest.mark.parametrize(
    ("memory", "first_step_at"),
    [
        ({}, 2),
        ({"last_step": step_of(600, verdict=StepVerdict.PASSED)}, 2),
        # Not judged yet, or judged and not yet taken back: a window from the switch on.
        ({"last_step": step_of(10), "next_step_not_before": later(80)}, 90),
        ({"last_step": step_of(300, verdict=StepVerdict.INCONCLUSIVE)}, 90),
        ({"last_step": step_of(100, verdict=StepVerdict.FAILED)}, 90),
        # Taken back: the hold-down holds, and the next one is longer.
        (
            {
                "last_step": step_of(100, verdict=StepVerdict.FAILED, reverted=True),
                "next_step_not_before": later(60),
                **FAILED_ONCE,
            },
            120,
        ),
        # Another client's replicas of a moment ago.
        ({"external": ExternalWriter(manager="hpa", replicas=4, since=later(-5))}, 90),
    ],
)
def test_a_switch_to_observe_and_back_is_no_way_around_a_verdict(
    memory: dict[str, Any], first_step_at: int
) -> None:
    policy = remembering(fresh_policy(mode="Observe", breakers=[]), **memory)
    policy.decide(storm(0))
    policy.spec = fresh_policy(breakers=[]).spec
    steps = {at: kinds(policy.decide(storm(at))) for at in range(2, first_step_at + 1)}
    assert [at for at, does in steps.items() if does] == [first_step_at]
    assert policy.status.scaling.failed_steps == memory.get("failed_steps", 0)


def test_a_watched_policy_writes_its_window_once() -> None:
    policy = remembering(fresh_policy(mode="Observe", breakers=[]), last_step=step_of(10))
    policy.decide(storm(0))
    before = policy.status
    policy.decide(storm(15))
    assert policy.status == before


def test_observe_does_not_quarrel_about_replicas() -> None:
    policy = remembering(fresh_policy(mode="Observe"))
    hpa = workload(9, writer=ScaleWriter("kube-controller-manager", None))
    assert reason(policy.decide(calm(target=hpa))) != "ReplicaConflict"


@pytest.mark.parametrize(
    ("parts", "hold", "expected"),
    [({"suspend": True}, None, "Suspended"), ({}, "looking into it", "Held"), ({}, "", "Held")],
)
def test_suspended_or_held_nothing_is_done_and_nothing_lost(
    parts: dict[str, Any], hold: str | None, expected: str
) -> None:
    policy = remembering(fresh_policy(**parts), breaker=BreakerState.HALF_OPEN, paused=(held(),))
    policy.hold = hold
    before = policy.status
    plan = policy.decide(calm(producers=PAUSED_BY_US))
    assert (kinds(plan), reason(plan)) == ([], expected)
    assert plan.status.paused == before.paused
    assert plan.status.breakers[0].state is BreakerState.HALF_OPEN
    second = policy.decide(calm(15, producers=flag(FlagValue.PAUSED, token=TOKEN, version="5")))
    assert second.status == plan.status


def test_time_under_hold_is_not_sustained() -> None:
    policy = remembering(fresh_policy(breakers=SOON))
    policy.decide(storm(0))
    policy.hold = "lunch"
    policy.decide(storm(15))
    policy.hold = None
    assert "Pause" not in kinds(policy.decide(storm(3600)))
    assert "Pause" in kinds(policy.decide(storm(3600 + 45)))


# --- memory ----------------------------------------------------------------------------------


def test_killed_after_the_intent_the_pause_goes_on() -> None:
    policy = remembering(fresh_policy(breakers=SOON))
    policy.decide(storm(0))
    first = policy.decide(storm(60))  # killed here: nothing was carried out
    again = policy.decide(storm(75))
    assert isinstance(first.actions[0], Pause)
    assert isinstance(again.actions[0], Pause)
    assert first.actions[0].token == again.actions[0].token
    ours = Paused(PauseOutcome.ALREADY_OURS, version="9")
    policy.happened([Result(again.actions[0], ours)], later(75))
    assert policy.status.paused[0].state is PauseState.HELD
    token, version = first.actions[0].token, "9"
    said = flag(FlagValue.PAUSED, token=token, version=version, at=later(90))
    assert "Pause" not in kinds(policy.decide(storm(90, producers=said)))


@pytest.mark.parametrize("answer", [True, False])
def test_killed_around_a_step_it_is_observed_and_not_repeated(answer: bool) -> None:
    policy = remembering(fresh_policy(breakers=[]))
    plan = policy.decide(storm())
    (step,) = plan.actions
    assert isinstance(step, ScaleTo)
    if answer:
        policy.happened([Result(step, Written(step.to))])
    landed = workload(6, writer=ScaleWriter("starforge-backlog", None))
    after = policy.decide(storm(15, target=landed))
    assert (kinds(after), reason(after)) == ([], "Observing")


def test_a_step_that_met_a_conflict_is_decided_again() -> None:
    policy = remembering(fresh_policy(breakers=[]))
    (step,) = policy.decide(storm()).actions
    policy.happened([Result(step, Failed(NotDone.CONFLICT, "another client wrote meanwhile"))])
    assert kinds(policy.decide(storm(15))) == ["Up"]


def test_a_steady_queue_changes_no_byte_of_status() -> None:
    policy = remembering(fresh_policy())
    policy.decide(calm(0))
    before = policy.status
    for n in range(1, 50):
        wobble = queue(
            10 + n % 7, oldest=n % 11, arrivals=3.5 + n % 3 / 10, throughput=3.5, at=later(15 * n)
        )
        plan = policy.decide(seen(at=later(15 * n), queues=wobble))
        assert kinds(plan) == []
        assert policy.status == before


def test_a_capped_count_is_a_number_to_act_on() -> None:
    """`≥ 10000` is enough to know that more is needed."""
    policy = remembering(fresh_policy(breakers=[]))
    reading = queue(at_least(10_000), oldest=300, arrivals=20.0, throughput=4.0)
    assert kinds(policy.decide(seen(queues=reading))) == ["Up"]


def test_under_pressure_and_over_budget_to_the_safe_size_at_once() -> None:
    policy = remembering(fresh_policy(breakers=[]), applied_replicas=9)
    full = connections(by_role={"web": 150}, peak_by_role={"web": 150}, clients=190)
    plan = policy.decide(
        storm(target=workload(9, max_surge="0"), open_now=full, state=health(lock_waiters=9))
    )
    (step,) = plan.actions
    assert isinstance(step, ScaleTo)
    assert (step.kind, step.to) == (StepKind.SAFE, 2)


@pytest.mark.parametrize(("sampled", "kind"), [(0, None), (14, "Safe")])
def test_a_sample_of_before_our_write_does_not_cut_twice(sampled: float, kind: str | None) -> None:
    """The connections of pods that are gone by now resemble another client's under their role."""
    roles = {"web": 60, "worker": 400}
    full = connections(max_connections=500, by_role=roles, peak_by_role={"web": 200}, clients=460)
    policy = remembering(fresh_policy(breakers=[]), applied_replicas=40)
    waits = health(lock_waiters=9)
    first = policy.decide(storm(target=workload(40, max_surge="0"), open_now=full, state=waits))
    (step,) = first.actions
    assert isinstance(step, ScaleTo)
    assert step.kind is StepKind.SAFE
    policy.happened([Result(step, Written(step.to))])
    after = storm(15, target=workload(step.to, max_surge="0"))
    assert after.database is not None
    reused = replace(
        after.database,
        connections=Known(full, later(sampled)),
        health=Known(waits, later(sampled)),
    )
    plan = policy.decide(replace(after, database=reused))
    assert kinds(plan) == ([] if kind is None else [kind])
    if kind is None:
        assert reason(plan) == "Observing"


def test_a_verdict_waits_for_readings_of_after_the_window() -> None:
    policy = remembering(fresh_policy(breakers=[]))
    policy.decide(storm())
    landed = workload(6, max_surge="0")
    policy.decide(storm(15, target=landed))
    reused = replace(storm(106, target=landed), queues=storm(104).queues)
    assert reason(policy.decide(reused)) == "Observing"
    policy.decide(storm(107, target=landed))
    step = policy.status.scaling.last_step
    assert step is not None
    assert step.verdict is StepVerdict.FAILED  # the storm's throughput never changed


def test_known_and_unknown_are_all_there_is() -> None:
    plan = fresh_policy().decide(storm(state=unknown()))
    assert isinstance(plan.assessment.utilization, Known)
    assert plan.assessment.pressure is None
    unread = fresh_policy().decide(storm(open_now=unknown()))
    assert isinstance(unread.assessment.utilization, Unknown)
    assert isinstance(unread.assessment.budget, Unknown)
