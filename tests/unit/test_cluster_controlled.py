"""Which of the pods under a target's labels are the target's."""

from __future__ import annotations

from typing import Any

import pytest

from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.controlled import KEEP_SECONDS, ControlledPods, Owner
from starforge_backlog.cluster.errors import ClusterFault, fault_from_status

DEPLOYMENT = Owner("Deployment", "etl-worker", "u-etl")
CANARY = ("Deployment", "etl-worker-canary", "u-canary")


def owned(kind: str, name: str, uid: str) -> Json:
    return {"ownerReferences": [{"kind": kind, "name": name, "uid": uid, "controller": True}]}


def pod(name: str, *owner: str, template: str = "1") -> Json:
    labels = {"app": "etl", "pod-template-hash": template}
    return {"metadata": {"name": name, "labels": labels, **(owned(*owner) if owner else {})}}


class Sets:
    """ReplicaSets by name, each with its uid and its controller; and what was asked."""

    def __init__(self, refuse: int | None = None, **sets: tuple[str, tuple[str, ...]]) -> None:
        self.sets = {name.replace("_", "-"): found for name, found in sets.items()}
        self.refuse = refuse
        self.asked: list[str] = []
        self.now = 0.0

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self.asked.append(name)
        if self.refuse is not None or name not in self.sets:
            asked = resource.asked("get", namespace, name)
            raise fault_from_status(asked, self.refuse or 404, b"{}")
        uid, owner = self.sets[name]
        return {"metadata": {"uid": uid, **(owned(*owner) if owner else {})}}


def pods_of(sets: Sets) -> ControlledPods:
    client: Any = sets
    return ControlledPods(client, lambda: sets.now)


async def names(sets: Sets, target: Owner, *pods: Json) -> list[str]:
    return [found["metadata"]["name"] for found in await pods_of(sets).of(target, "ns", pods)]


OURS = ("ReplicaSet", "etl-worker-1", "u-rs")
THEIRS = ("ReplicaSet", "etl-worker-canary-1", "u-rs-canary")


def both(refuse: int | None = None) -> Sets:
    return Sets(
        refuse,
        etl_worker_1=("u-rs", ("Deployment", "etl-worker", "u-etl")),
        etl_worker_canary_1=("u-rs-canary", CANARY),
    )


async def test_a_canary_and_a_bare_pod_under_the_same_labels_are_not_the_targets() -> None:
    pods = (pod("a", *OURS), pod("b", *THEIRS), pod("debug"), pod("c", *OURS))
    assert await names(both(), DEPLOYMENT, *pods) == ["a", "c"]


@pytest.mark.parametrize("refuse", [403, 404])
async def test_without_the_right_the_name_of_the_set_has_to_do(refuse: int) -> None:
    assert await names(both(refuse), DEPLOYMENT, pod("a", *OURS), pod("b", *THEIRS)) == ["a"]


@pytest.mark.parametrize("refuse", [429, 500, 503, 504])
async def test_a_fault_of_the_moment_is_no_answer(refuse: int) -> None:
    with pytest.raises(ClusterFault):
        await names(both(refuse), DEPLOYMENT, pod("a", *OURS))


async def test_a_set_is_asked_for_once_and_again_when_its_controller_may_have_changed() -> None:
    sets = both()
    controlled = pods_of(sets)
    pods = [pod(name, *OURS) for name in "abc"]
    for _ in range(3):
        assert len(await controlled.of(DEPLOYMENT, "ns", pods)) == 3
    assert sets.asked == ["etl-worker-1"]
    sets.now += KEEP_SECONDS
    sets.sets["etl-worker-1"] = ("u-rs", CANARY)
    assert await controlled.of(DEPLOYMENT, "ns", pods) == []


async def test_a_set_that_was_created_again_under_its_name_controls_no_pod_of_the_old_one() -> None:
    sets = Sets(etl_worker_1=("u-another", ("Deployment", "etl-worker", "u-etl")))
    assert await names(sets, DEPLOYMENT, pod("a", *OURS)) == []


@pytest.mark.parametrize(
    ("target", "owner", "theirs"),
    [
        (Owner("StatefulSet", "etl", "u"), ("StatefulSet", "etl", "u"), True),
        (Owner("StatefulSet", "etl", "u"), ("StatefulSet", "other", "x"), False),
        (Owner("StatefulSet", "etl", "u"), OURS, False),
        (Owner("ReplicaSet", "etl-worker-1", "u-rs"), OURS, True),
        (Owner("ReplicaSet", "etl-worker-1", "u-rs"), THEIRS, False),
        (DEPLOYMENT, ("Job", "import", "x"), False),
        # Kinds that we do not know: whatever is not known to be another's.
        (Owner("Rollout", "etl", "u-etl"), OURS, True),
        (Owner("Widget", "w", "u"), ("Widget", "w", "u"), True),
        (Owner("Widget", "w", "u"), ("Widget", "other", "x"), False),
        (Owner("Widget", "w", "u"), ("WidgetSet", "w-1", "x"), True),
        (Owner("Widget", "w", "u"), (), True),
    ],
)
async def test_kinds(target: Owner, owner: tuple[str, ...], theirs: bool) -> None:
    assert await names(both(), target, pod("a", *owner)) == (["a"] if theirs else [])
