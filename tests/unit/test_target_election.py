"""Who acts on a workload: the oldest policy that names it, and never two at once (P9)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starforge_backlog.coordination.target_election import UNSEEN_FOR_SECONDS, TargetElection
from starforge_backlog.snapshot import Rival

Body = dict[str, Any]


def policy(
    name: str,
    target: str = "w",
    *,
    created: int = 0,
    uid: str | None = None,
    guard: Body | None = None,
    **parts: Any,
) -> Body:
    """A policy as the watch shows it; `created` in seconds."""
    spec = {"name": target, **({"guard": guard} if guard else {}), **parts}
    meta = {
        "namespace": "ns",
        "name": name,
        "uid": uid or f"uid-{name}",
        "creationTimestamp": f"2026-01-01T00:00:{created:02d}Z",
    }
    return {"metadata": meta, "spec": {"target": spec}}


def deleting(body: Body) -> Body:
    meta = {**body["metadata"], "deletionTimestamp": "2026-01-01T01:00:00Z"}
    return {**body, "metadata": meta}


OLD, YOUNG = policy("old", created=1), policy("young", created=2)


def test_alone_it_acts() -> None:
    assert TargetElection().ask(OLD) is None


def test_a_policy_is_known_from_the_list_until_it_is_gone() -> None:
    """A mark on an autoscaler whose policy is not known is nobody's."""
    targets = TargetElection()
    targets.expect(OLD)
    targets.note(YOUNG)
    assert (targets.knows("uid-old"), targets.knows("uid-young")) == (True, True)
    targets.drop("uid-old")
    assert not targets.knows("uid-old")


@pytest.mark.parametrize(
    "other",
    [
        policy("young", "another", created=2),
        policy("young", created=2, kind="StatefulSet"),
        policy("young", created=2, apiVersion="example.com/v1"),
        {**YOUNG, "metadata": {**YOUNG["metadata"], "namespace": "elsewhere"}},
        policy("young", "x", created=2, guard={"scaledObject": "w"}),
    ],
)
def test_what_is_not_the_same_is_nobodys_business(other: Body) -> None:
    targets = TargetElection()
    targets.note(other)
    assert (targets.ask(OLD), targets.ask(other)) == (None, None)


def test_the_newer_waits_and_knows_for_whom() -> None:
    targets = TargetElection()
    targets.note(OLD)
    assert targets.ask(YOUNG) == Rival("ns/old", "Deployment w")
    assert targets.ask(OLD) is None


def test_of_the_same_second_the_uid_decides() -> None:
    targets = TargetElection()
    a, b = policy("b", uid="1"), policy("a", uid="2")
    targets.note(a)
    targets.note(b)
    assert targets.ask(a) is None
    assert targets.ask(b) is not None


def test_another_version_of_a_kind_is_the_same_object() -> None:
    targets = TargetElection()
    targets.note(policy("old", created=1, apiVersion="argoproj.io/v1alpha1", kind="Rollout"))
    young = policy("young", created=2, apiVersion="argoproj.io/v1", kind="Rollout")
    assert targets.ask(young) == Rival("ns/old", "Rollout w")


def test_one_guarded_autoscaler_has_one_policy() -> None:
    targets = TargetElection()
    guard = {"horizontalPodAutoscaler": "hpa"}
    targets.note(policy("old", "x", created=1, guard=guard))
    young = policy("young", "y", created=2, guard=guard)
    assert targets.ask(young) == Rival("ns/old", "HorizontalPodAutoscaler hpa")


def test_gone_the_younger_takes_over_at_once() -> None:
    targets = TargetElection()
    targets.note(OLD)
    targets.note(YOUNG)
    targets.ask(OLD)
    targets.ask(YOUNG)
    targets.note(deleting(OLD))
    rival = targets.ask(YOUNG)
    assert rival is not None
    assert rival.deleting, "it may still hold something of the target"
    assert targets.drop("uid-old") == ("uid-young",)
    assert targets.ask(YOUNG) is None


def test_an_older_one_that_shows_late_waits_for_the_younger() -> None:
    targets = TargetElection()
    assert targets.ask(YOUNG) is None
    assert targets.ask(OLD) == Rival("ns/young", "Deployment w", leaving=True)
    assert targets.ask(YOUNG) == Rival("ns/old", "Deployment w")
    assert targets.ask(OLD) is None


def test_who_waits_keeps_nothing_from_others() -> None:
    """`middle` loses its guard to `old`; so it does not act, and the target is `young`'s."""
    targets = TargetElection()
    guard = {"horizontalPodAutoscaler": "hpa"}
    old = policy("old", "x", created=1, guard=guard)
    middle = policy("middle", "y", created=2, guard=guard)
    young = policy("young", "y", created=3)
    for body in (old, middle, young):
        targets.note(body)
    assert targets.ask(middle) is not None
    assert targets.ask(young) is None
    assert targets.ask(old) is None


def test_an_edited_guard_is_free_again() -> None:
    targets = TargetElection()
    guard = {"horizontalPodAutoscaler": "hpa"}
    targets.ask(policy("old", "x", created=1, guard=guard))
    targets.ask(policy("old", "x", created=1))
    assert targets.ask(policy("young", "y", created=2, guard=guard)) is None


def test_one_that_was_listed_and_never_shown_is_not_waited_for_for_ever() -> None:
    now = 0.0
    targets = TargetElection(lambda: now)
    targets.expect(OLD)
    assert targets.ask(YOUNG) is not None
    now = UNSEEN_FOR_SECONDS
    assert targets.ask(YOUNG) is None


def test_one_that_the_watch_shows_stays() -> None:
    now = 0.0
    targets = TargetElection(lambda: now)
    targets.expect(OLD)
    targets.note(OLD)
    targets.expect(OLD)
    now = 2 * UNSEEN_FOR_SECONDS
    assert targets.ask(YOUNG) is not None


def test_a_spec_that_cannot_be_read_keeps_its_target() -> None:
    targets = TargetElection()
    odd = policy("old", created=1)
    odd["spec"]["queues"] = "new in a later version"
    targets.note(odd)
    assert targets.ask(YOUNG) is not None


def test_a_body_without_a_target_harms_nobody() -> None:
    targets = TargetElection()
    assert targets.ask({**OLD, "spec": {}}) is None
    assert targets.ask(YOUNG) is None


@given(st.integers(0, 2**32))
def test_never_two_at_once_and_the_oldest_in_the_end(seed: int) -> None:
    """Policies come late, are edited and go, in any order, and ask in any order."""
    dice = random.Random(seed)
    targets = TargetElection()
    bodies = [
        policy(
            str(n),
            dice.choice("xy"),
            created=dice.randrange(3),
            guard=dice.choice([None, {"scaledObject": "s"}]),
        )
        for n in range(5)
    ]
    acting: dict[str, Body] = {}

    def ask(body: Body) -> None:
        uid = body["metadata"]["uid"]
        acting.pop(uid, None)
        if targets.ask(body) is None:
            acting[uid] = body
        named = [thing for body in acting.values() for thing in things(body)]
        assert len(named) == len(set(named)), "two act on one thing"

    alive: dict[str, Body] = {}
    for _ in range(40):
        body = dice.choice(bodies)
        uid = body["metadata"]["uid"]
        match dice.randrange(6):
            case 0:
                targets.drop(uid)
                alive.pop(uid, None)
                acting.pop(uid, None)
            case 1:
                targets.note(body)
                alive[uid] = body
            case _:
                alive[uid] = body
                ask(body)
    for _ in range(3):
        for body in alive.values():
            ask(body)
    for body in alive.values():
        shared = [o for o in alive.values() if set(things(o)) & set(things(body))]
        if body is min(shared, key=lambda o: (o["metadata"]["creationTimestamp"], uid_of(o))):
            assert uid_of(body) in acting, "the oldest of all who name its things acts"


def uid_of(body: Body) -> str:
    return str(body["metadata"]["uid"])


def things(body: Body) -> list[str]:
    target = body["spec"]["target"]
    return [target["name"], *(target.get("guard") or {}).values()]


@pytest.mark.parametrize("shown", [True, False])
def test_made_again_under_its_name_it_does_not_wait_for_itself(shown: bool) -> None:
    """The CRD was deleted and made again: nobody saw the end of the one before."""
    targets = TargetElection()
    before = policy("etl", created=1, uid="before")
    (targets.note if shown else targets.expect)(before)
    again = policy("etl", created=2, uid="again")
    assert targets.ask(again) is None
    assert not targets.knows("before")


def test_a_name_that_was_another_policys_a_second_ago() -> None:
    targets = TargetElection()
    targets.expect(policy("etl", created=1, uid="zzz"))
    assert targets.ask(policy("etl", created=1, uid="aaa")) is None


def test_what_an_edit_lets_go_is_free_once_its_pass_has_ended() -> None:
    """The older policy names another target now, and its running pass still acts on the first."""
    targets = TargetElection()
    assert targets.ask(OLD) is None
    targets.note(edited := policy("old", "x", created=1))
    assert targets.ask(YOUNG) == Rival("ns/old", "Deployment w", leaving=True)
    assert targets.ask(edited) is None
    assert targets.ask(YOUNG) is None
    targets.drop("uid-young")
    targets.drop("uid-old")
