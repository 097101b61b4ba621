"""Guardrail mode: a maximum within the budget, and back to its owner's (P1, P2, P4, P9)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulator.given import NOW, OWNER, later, workload
from tests.simulator.situations import UID, WINDOW, other_clients
from tests.unit.guards import FEW, HPA, TOKEN, at, hpa, lowered, step, to

from starforge_backlog.api.status import (
    BudgetStatus,
    GuardStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
)
from starforge_backlog.decide.budget.formula import potential
from starforge_backlog.decide.budget.shares import Share
from starforge_backlog.decide.guard.marks import Whose, whose
from starforge_backlog.decide.guard.maximum import guard, hand_back
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.plan import SetMaximum
from starforge_backlog.decide.results import Failed, MaximumOutcome, MaximumResult, Result
from starforge_backlog.snapshot import (
    Autoscaler,
    Follower,
    Known,
    ScaleWriter,
    Unknown,
    Why,
)


def test_above_the_budget_it_is_lowered_at_once_and_the_intent_comes_first() -> None:
    outcome = guard(at(hpa(20)))
    found = step(outcome)
    assert found is not None
    assert (found.from_, found.to, found.version, found.restore) == (20, 11, "41", False)
    assert found.guard.previous_maximum == 20
    assert found.guard.token.startswith(f"{OWNER}/")
    assert outcome.status.guard == found.guard, "in status before it is written (P6)"
    assert found.connections == 110
    assert outcome.allowed == 110


HELD = [
    # Nothing to do.
    ({"found": hpa(11)}, "Steady"),
    ({"found": hpa(5)}, "Steady"),
    # Lowered as far as the budget asks.
    ({"found": lowered(11)}, "Guarded"),
    ({"found": lowered(11, limited=True)}, "Guarded"),  # four run: it can still go there
    ({"found": lowered(4, limited=True), **FEW}, "BudgetExhausted"),
    # P2: an unknown budget moves nothing, up or down.
    ({"found": hpa(20), "budget": Unknown(Why.UNREACHABLE, "refused", NOW)}, "BudgetNotKnown"),
    ({"found": lowered(4), "budget": Unknown(Why.UNREACHABLE, "refused", NOW)}, "BudgetNotKnown"),
    ({"found": lowered(4), "pressure": None}, "DatabaseHealthNotKnown"),
    ({"found": lowered(4), "pressure": ("5 wait",)}, "Pressure"),
    ({"found": lowered(4), "sample_is_old": True}, "Observing"),
    ({"found": lowered(4), "memory": {"next_step_not_before": later(1)}}, "Observing"),
    ({"found": lowered(4), "window_opens": later(1)}, "Observing"),
    ({"found": lowered(4), "free_steps": 0}, "Guarded"),
    ({"found": lowered(4, limited=True), "free_steps": 0}, "BudgetExhausted"),
    # Its own minimum is the least.
    ({"found": lowered(6, minimum=6), **FEW}, "MinimumAboveBudget"),
    ({"found": hpa(6, minimum=6), **FEW}, "MinimumAboveBudget"),
    # Another policy's mark is not ours to undo.
    ({"found": hpa(20, token="uid-2/hpa/x", written=20, kept_maximum=30)}, "GuardTaken"),
    ({"found": Unknown(Why.AUTOSCALER_NOT_FOUND, "gone", NOW)}, "AutoscalerNotFound"),
    ({"found": hpa(11, beside="ScaledObject so")}, "ReplicaConflict"),
]


@pytest.mark.parametrize(("changes", "reason"), HELD)
def test_what_moves_nothing(changes: dict[str, Any], reason: str) -> None:
    outcome = guard(at(**changes))
    assert (to(outcome), outcome.reason) == (None, reason)
    assert outcome.message


MOVED = [
    ({"found": hpa(20), **FEW}, 4),
    ({"found": lowered(11), **FEW}, 4),
    ({"found": hpa(20, minimum=6), **FEW}, 6),
    ({"found": hpa(20), "target": {"maxReplicas": 7}}, 7),
    # Under pressure as well, and whatever window is open.
    ({"found": hpa(20), "pressure": ("5 wait",), "window_opens": later(1)}, 11),
    # By `stepUp` per window, never above the budget or its owner's.
    ({"found": lowered(4)}, 6),
    ({"found": lowered(4), "memory": {"next_step_not_before": NOW}}, 6),
    ({"found": lowered(10)}, 11),
    ({"found": lowered(4, owners=5)}, 5),
    ({"found": lowered(4), "free_steps": 1}, 5),
    # Pods that are about to end take nothing from those that run, and leave no room for more.
    ({"found": hpa(20), "pods": workload(4, max_surge="0", terminating=9)}, 4),
    ({"found": hpa(20), "pods": workload(4, max_surge="0", terminating=2)}, 9),
]


@pytest.mark.parametrize(("changes", "wanted"), MOVED)
def test_how_far_it_goes(changes: dict[str, Any], wanted: int) -> None:
    assert to(guard(at(**changes))) == wanted


def test_at_its_owners_maximum_our_mark_goes() -> None:
    found = step(guard(at(lowered(4, owners=6))))
    assert found is not None
    assert (found.to, found.restore, found.most) == (6, True, 6)


def test_a_default_that_nobody_wrote_is_remembered_as_one() -> None:
    found = step(guard(at(hpa(100, implicit=True))))
    assert found is not None
    assert found.implicit
    further = step(guard(at(lowered(11, owners=100, kept_implicit=True), **FEW)))
    assert further is not None
    assert further.implicit
    assert further.guard.previous_maximum == 100


def test_replicas_are_never_written_whatever_the_autoscaler_does() -> None:
    outcome = guard(at(lowered(11), memory={"applied_replicas": 2}))
    assert outcome.step is None
    assert outcome.status.external is None, "its replicas are no conflict"


def test_without_a_database_there_is_nothing_to_guard() -> None:
    assert guard(at(hpa(50), budget=None)).reason == "Steady"
    assert to(guard(at(lowered(4, owners=6), budget=None))) == 6


def test_another_target_under_the_name_does_not_lose_what_was_lowered() -> None:
    memory = {
        "target_uid": "workload-0",
        "guard": GuardStatus(kind=HPA, name="hpa", previous_maximum=20),
    }
    assert to(guard(at(lowered(4), memory=memory))) == 6


# --- another client writes the maximum ----------------------------------------------------------


def changed(maximum: int, manager: str = "argocd") -> Autoscaler:
    """Lowered by us to 11, written over since."""
    writer = ScaleWriter(manager, None)
    return replace(lowered(11), maximum=maximum, writer=writer, changed_since=True)


def test_a_new_maximum_is_the_owners_and_is_lowered_again() -> None:
    found = step(guard(at(changed(30))))
    assert found is not None
    assert (found.from_, found.to, found.guard.previous_maximum) == (30, 11, 30)
    assert found.guard.token != TOKEN


def test_a_new_maximum_within_the_budget_stays_and_our_mark_goes() -> None:
    found = step(guard(at(changed(8))))
    assert found is not None
    assert (found.from_, found.to, found.restore) == (8, 8, True)


def test_one_who_always_writes_it_back_is_respected_longer_and_longer() -> None:
    clock, waits, before = 0.0, list[float](), ScalingStatus(target_uid=UID)
    for _ in range(6):
        began = clock = clock + 30
        while True:
            now = later(clock)
            one = replace(at(changed(30)), before=before, now=now)
            outcome = guard(one)
            before = outcome.status
            if outcome.step is not None:
                break
            assert outcome.reason == "ReplicaConflict"
            assert "argocd" in outcome.message
            clock += 15
        waits.append(clock - began)
    assert waits == [0, 300, 600, 1200, 2400, 3600]


def test_a_respected_writer_costs_one_write_of_status() -> None:
    last = guard(at(changed(30))).status.last_external
    first = guard(at(changed(30), memory={"last_external": last}, now=later(30)))
    again = guard(replace(at(changed(30)), before=first.status, now=later(45)))
    assert first.reason == "ReplicaConflict"
    assert again.status == first.status


def test_somebody_who_came_back_to_our_number_meant_it() -> None:
    """Up, and down again between two passes: the record of writers shows what the number hides."""
    theirs = replace(lowered(4), changed_since=True)
    assert whose(theirs, OWNER) is Whose.CHANGED
    found = step(guard(at(theirs)))
    assert found is not None
    assert (found.to, found.restore) == (4, True)


def test_an_object_from_a_backup_is_ours_and_goes_back_to_its_owners_maximum() -> None:
    """Whoever restored it wrote our mark and the maximum in one go."""
    copy = replace(lowered(4, owners=5), changed_since=True, copied=True)
    assert whose(copy, OWNER) is Whose.OURS
    found = step(guard(at(copy)))
    assert found is not None
    assert (found.to, found.restore) == (5, True)


def test_the_mark_of_a_policy_that_is_gone_is_taken_over() -> None:
    """Policy and object restored together, say: the policy has another uid now."""
    foreign = replace(lowered(4, owners=5), token="uid-2/hpa/x", copied=True)
    assert whose(foreign, OWNER) is Whose.ANOTHERS
    found = step(guard(at(replace(foreign, orphan=True))))
    assert found is not None
    assert (found.to, found.restore, found.guard.token) == (5, True, "uid-2/hpa/x")


# --- a server without a free connection --------------------------------------------------------

FULL = {"budget": Unknown(Why.DATABASE_FULL, "no slot", NOW), "pressure": None}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (hpa(20), 4),  # four run
        (lowered(11), 4),
        (hpa(4), None),
        (hpa(3), None),  # never raised
        (lowered(2), None),
        (hpa(20, minimum=6), 6),
    ],
)
def test_a_server_that_is_full_gets_no_more_pods_than_run(
    found: Autoscaler, wanted: int | None
) -> None:
    outcome = guard(at(found, **FULL))
    assert to(outcome) == wanted
    assert "no free connection" in outcome.message
    if wanted is None:
        assert outcome.reason == "DatabaseFull"
        assert "reserved_connections" in outcome.message


def test_any_other_fault_of_the_server_moves_nothing() -> None:
    for why in set(Why) - {Why.DATABASE_FULL}:
        assert to(guard(at(hpa(20), budget=Unknown(why, "no", NOW), pressure=None))) is None


# --- KEDA --------------------------------------------------------------------------------------

SCALED_OBJECT = {"kind": "ScaledObject", "name": "so", "minimum": 0}
BROKEN = "ScaledObjectCheckFailed: error establishing postgreSQL connection"


def keda(maximum: int, follower: int | None = None, **changes: Any) -> Autoscaler:
    """A ScaledObject that we lowered; KEDA's own autoscaler shows another number."""
    own = None if follower is None else Follower("keda-hpa-so", 1, follower)
    return lowered(maximum, **{**SCALED_OBJECT, "follower": own, **changes})


def test_kedas_own_autoscaler_is_lowered_with_the_scaled_object() -> None:
    found = step(guard(at(hpa(20, **SCALED_OBJECT, follower=Follower("keda-hpa-so", 1, 20)))))
    assert found is not None
    assert (found.to, found.follower, found.follows) == (11, "keda-hpa-so", False)
    assert found.object == "ScaledObject so"


def test_what_keda_did_not_follow_is_written_and_said_with_its_own_reason() -> None:
    outcome = guard(at(keda(4, 11, complaint=BROKEN)))
    found = step(outcome)
    assert found is not None
    assert (found.from_, found.to, found.follows) == (11, 4, True)
    assert found.object == "HorizontalPodAutoscaler keda-hpa-so"
    assert outcome.reason == "GuardNotFollowed"
    assert f"the maximum 11 instead of the 4 of ScaledObject so; KEDA says: {BROKEN}" in (
        outcome.message
    )
    assert outcome.allowed == 110, "until it is written the pods may be eleven (P1)"


def test_a_raised_maximum_that_keda_does_not_take_is_said_and_left_to_it() -> None:
    outcome = guard(at(keda(11, 4, complaint=BROKEN)))
    assert (to(outcome), outcome.reason) == (None, "GuardNotFollowed")


@pytest.mark.parametrize(
    ("follower", "wanted"),
    [(15, 8), (11, None), (8, None)],  # eleven are within the budget: KEDA may take its time
)
def test_what_its_owner_lowered_counts_as_far_as_the_budget_needs_it(
    follower: int, wanted: int | None
) -> None:
    own = Follower("keda-hpa-so", 1, follower)
    outcome = guard(at(hpa(8, **SCALED_OBJECT, follower=own)))
    assert (to(outcome), outcome.reason == "GuardNotFollowed") == (wanted, wanted is not None)


def test_at_its_minimum_kedas_autoscaler_is_lowered_as_far_as_it_goes() -> None:
    found = step(guard(at(keda(6, 20, minimum=6), **FEW)))
    assert found is not None
    assert (found.to, found.follows) == (6, True)


def test_an_autoscaler_of_keda_that_cannot_be_read_is_said() -> None:
    outcome = guard(at(replace(keda(11), follower=Unknown(Why.TIMEOUT, "late", NOW))))
    assert outcome.reason == "Guarded"
    assert "whether KEDA follows it is not seen: late" in outcome.message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"found": keda(11, held_at=15)}, "keeps 15 replicas, whatever its maximum is, and the"),
        ({"found": keda(11, held_at=15)}, "the budget is 11; set the annotation to 11 or less"),
        ({"found": keda(4, paused=True), "pods": workload(20, max_surge="0"), **FEW}, "leaves 20"),
        (
            {"found": keda(4, paused=True), "pods": workload(20, max_surge="0"), **FEW},
            "the budget is 4; scale etl-worker to 4 or less, or remove the annotation",
        ),
    ],
)
def test_a_paused_scaled_object_is_bounded_by_nothing(changes: dict[str, Any], says: str) -> None:
    outcome = guard(at(**changes))
    assert (to(outcome), outcome.reason) == (None, "PausedAboveBudget")
    assert says in outcome.message
    assert "autoscaling.keda.sh/paused" in outcome.message


def test_what_it_is_held_at_is_not_promised_to_others() -> None:
    assert guard(at(keda(11, held_at=15))).allowed == 150


def test_paused_within_the_budget_is_only_said() -> None:
    outcome = guard(at(keda(11, held_at=3)))
    assert outcome.reason == "Guarded"
    assert "keeps 3 replicas" in outcome.message


def test_a_write_to_kedas_autoscaler_changes_nothing_that_is_remembered() -> None:
    action = step(guard(at(keda(4, 11))))
    assert action is not None
    for got in (Failed(Why.NO_PERMISSION, "may not"), MaximumResult(MaximumOutcome.WRITTEN, 4)):
        status = QueueBacklogPolicyStatus(scaling=ScalingStatus(guard=action.guard))
        assert merge(status, (Result(action, got),), NOW).scaling.guard == action.guard


# --- the share of a server ---------------------------------------------------------------------


def share(entitled: int, *, most: int = 11, lacking: int = 0) -> Share:
    return Share(entitled, most, lacking, ("ns/other",) if lacking else (), {})


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        # What is not in use goes at once, pods one window at a time.
        ({"found": hpa(10), "share": share(3, lacking=20)}, 4),
        ({"found": lowered(4), "share": share(3, lacking=20)}, 3),
        ({"found": lowered(4), "share": share(3, lacking=20), "window_opens": later(1)}, None),
        ({"found": lowered(4), "share": share(3, lacking=20), "pressure": None}, None),
        ({"found": lowered(4, minimum=4), "share": share(3, lacking=20)}, None),
        # Nobody waits: what fits may stay.
        ({"found": hpa(10), "share": share(3)}, None),
        # Raised to the share, not to the budget.
        ({"found": lowered(4), "share": share(5, most=5)}, 5),
        ({"found": lowered(5), "share": share(5, most=5)}, None),
    ],
)
def test_what_others_have_a_right_to(changes: dict[str, Any], wanted: int | None) -> None:
    assert to(guard(at(**changes))) == wanted


# --- any history -------------------------------------------------------------------------------


@dataclass
class Cluster:
    """An autoscaler as the API server keeps it, and a status that may be lost or late."""

    owners: int
    minimum: int
    found: Autoscaler = field(init=False)
    status: ScalingStatus = field(default_factory=lambda: ScalingStatus(target_uid=UID))

    def __post_init__(self) -> None:
        self.found = hpa(self.owners, minimum=self.minimum)

    def write(self, action: SetMaximum) -> None:
        """As `MaximumWriter` does."""
        if not action.restore:
            self.found = replace(
                self.found,
                maximum=action.to,
                kept_maximum=action.guard.previous_maximum,
                token=action.guard.token,
                written=action.to,
                changed_since=False,
            )
        elif self.found.token is not None:
            kept = self.found.kept_maximum if self.found.ours else self.found.maximum
            assert kept is not None
            self.found = hpa(kept, minimum=self.minimum)


EVENTS = st.one_of(
    st.tuples(st.just("pass"), st.integers(0, 160)),  # other clients' connections
    st.tuples(st.just("unreadable"), st.just(0)),
    st.tuples(st.just("killed"), st.integers(0, 160)),  # between the write and the status
    st.tuples(st.just("lost"), st.integers(0, 160)),  # between the intent and the write
    st.tuples(st.just("person"), st.integers(1, 40)),
)


@given(st.integers(1, 40), st.integers(1, 5), st.lists(EVENTS, max_size=25))
def test_never_above_the_owners_nor_the_budget_and_restored_exactly(
    owners: int, minimum: int, events: list[tuple[str, int]]
) -> None:
    cluster = Cluster(max(owners, minimum), minimum)
    pods = workload(1, max_surge="0")
    moment = 0.0
    for what, number in events:
        moment += WINDOW.total_seconds()
        if what == "person":
            wanted = max(number, minimum)
            if wanted == cluster.found.maximum:
                continue  # who writes the number that stands there changes nothing
            cluster.owners = wanted
            cluster.found = replace(cluster.found, maximum=wanted, changed_since=True)
            continue
        unreadable = what == "unreadable"
        room = Unknown(Why.TIMEOUT, "late", NOW) if unreadable else other_clients(number, pods)
        was = cluster.found
        one = at(was, pods=pods, budget=room, now=later(moment))
        outcome = guard(replace(one, before=cluster.status))
        action = step(outcome)
        cluster.status = outcome.status
        if action is None:
            continue
        assert isinstance(room, BudgetStatus), "an unknown budget moves nothing (P2)"
        assert action.to <= cluster.owners, "never above its owner's"
        if not action.restore:
            assert action.to <= max(room.replicas, minimum), "never above the budget (P1)"
            assert action.connections == potential(action.to, pods, room.per_replica)
        if action.to > action.from_:
            assert action.to - action.from_ <= 2, "raised by steps"
        if what != "lost":
            cluster.write(action)
        if what == "killed":
            cluster.status = ScalingStatus(target_uid=UID)  # even the intent may be gone
    mark = whose(cluster.found, OWNER)
    back = hand_back(cluster.status.guard, Known(cluster.found, NOW), OWNER, "deleted")
    assert mark in {Whose.OWNERS, Whose.OURS, Whose.CHANGED}
    if back is not None:
        cluster.write(back)
    assert (cluster.found.maximum, cluster.found.token) == (cluster.owners, None)
