"""The CRD is deleted, the chart is uninstalled: pauses are released or named, nothing hangs.

A cluster of its own: these stories take the CRD, and the operator, away from everybody.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final

import pytest
import yaml
from tests.e2e.api import CORE, Refused
from tests.e2e.place import (
    CHART,
    NAMESPACE,
    RELEASE,
    ROOT,
    STARTS_WITHIN,
    VALUES,
    Place,
    installed,
)
from tests.e2e.store import RUNNING
from tests.e2e.test_pauses import paused_by_us
from tests.e2e.together import GroupStory, Outcomes, SerialGroup, title
from tests.e2e.world import SECRET, World

from local.commands import CommandError
from local.paths import new_run_dir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

CRD: Final = "crd/queuebacklogpolicies.backlog.starforge.dev"
CRD_PATH: Final = (
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
    "queuebacklogpolicies.backlog.starforge.dev"
)


def own_cluster() -> AbstractContextManager[Place]:
    return installed(new_run_dir("going"))


@contextlib.contextmanager
def worlds(place: Place) -> Iterator[tuple[World, World]]:
    """Two, so that no operator frees only the first."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(contextlib.closing(World.create(place, place.cluster.postgres)))
            for _ in range(2)
        ]
        stack.callback(apply_crd, place)
        yield made[0], made[1]


def in_two_worlds(story: Callable[[tuple[World, World]], None]) -> GroupStory:
    """A story of a place."""

    @functools.wraps(story)
    def run(place: Place) -> None:
        with worlds(place) as made:
            story(made)

    return run


def apply_crd(place: Place) -> None:
    """As another client who installs again: over one that is terminating this is refused."""

    def applied() -> bool:
        place.cluster.apply_crds(ROOT / "crds")
        return True

    place.cluster.eventually(applied, what="the CRD", within=STARTS_WITHIN)


def until_serving(place: Place) -> None:
    place.cluster.eventually(
        lambda: place.probe("readyz")[0] == 200, what="ready again", within=2 * STARTS_WITHIN
    )


def is_there(place: Place) -> bool:
    try:
        place.api.get(CRD_PATH)
    except Refused as refused:
        if refused.status != 404:
            raise
        return False
    return True


def until_gone(world: World) -> None:
    world.until(lambda: not is_there(world.place), "the CRD is gone", STARTS_WITHIN)


def paused_in(worlds: tuple[World, World]) -> None:
    with ThreadPoolExecutor(len(worlds)) as together:
        for done in [together.submit(paused_by_us, world) for world in worlds]:
            done.result()


@in_two_worlds
def the_crd_is_deleted_while_pauses_are_held(worlds: tuple[World, World]) -> None:
    one, two = worlds
    place = one.place
    paused_in(worlds)
    place.cluster.kubectl("delete", CRD, "--wait=false")
    until_gone(one)
    assert [world.store.flag() for world in worlds] == [RUNNING, RUNNING]

    # Installed again, its policies are followed again, by the same installation.
    apply_crd(place)
    until_serving(place)
    two.apply("again")
    two.until_ready("again")
    assert one.tracebacks() + two.tracebacks() == []


@in_two_worlds
def the_operator_restarts_while_the_crd_is_terminating(worlds: tuple[World, World]) -> None:
    """One pause cannot be released for a while, so that the CRD outlives the operator's process."""
    stuck, free = worlds
    place = stuck.place
    paused_in(worlds)
    with stuck.store.connect() as person, person.transaction():
        person.execute("SELECT 1 FROM feature_flags FOR UPDATE")
        place.cluster.kubectl("delete", CRD, "--wait=false")
        free.until_gone()
        found = stuck.until_condition("Ready", "ReleaseFailed")
        assert "release=abandon" in found["message"]
        mark = place.log_mark()
        os.kill(place.pid(), signal.SIGKILL)
        place.cluster.eventually(
            lambda: "its CRD is being deleted" in place.log_text(mark),
            what="the new process says what it waits for",
            within=STARTS_WITHIN,
        )
        assert place.probe("readyz")[0] != 200
        place.cluster.eventually(lambda: place.probe("healthz")[0] == 200, what="it lives")
    until_gone(stuck)
    assert [world.store.flag() for world in worlds] == [RUNNING, RUNNING]
    apply_crd(place)
    until_serving(place)
    free.apply("again")
    free.until_ready("again")


def install(place: Place) -> None:
    # The CRD was applied again by hand.
    flags = ("--take-ownership", "--force-conflicts")
    place.cluster.helm(
        *("install", RELEASE, CHART, "-n", NAMESPACE, "-f", "-", *flags),
        stdin=yaml.safe_dump(VALUES),
    )
    until_serving(place)


def finalizers(world: World) -> list[str]:
    return list(world.policy()["metadata"].get("finalizers", ()))


def released_for_an_uninstall(world: World) -> None:
    """What the policy says once its operator has gone."""
    assert world.store.flag() == RUNNING
    status = world.status()
    assert (status["paused"], status.get("pausedNames", "")) == ([], "")
    assert {c["reason"] for c in status["conditions"]} == {"NotFollowed"}
    assert "resumed ingestion" in world.condition("Ready")["message"]
    assert finalizers(world) == []


@in_two_worlds
def the_chart_is_uninstalled_while_pauses_are_held(worlds: tuple[World, World]) -> None:
    one, two = worlds
    place = one.place
    paused_in(worlds)
    place.cluster.helm("uninstall", RELEASE, "-n", NAMESPACE)
    for world in worlds:
        released_for_an_uninstall(world)
    jobs = "/apis/batch/v1/namespaces/operators/jobs"
    one.until(lambda: place.api.items(jobs) == [], "the hook that succeeded is gone")
    one.delete()
    one.until_gone()  # without any operator

    install(place)
    two.until(lambda: two.pause()["state"] == "Held", "the new operator carries on")
    assert two.store.paused


@in_two_worlds
def an_uninstall_that_cannot_release_fails_and_the_operator_runs_on(
    worlds: tuple[World, World],
) -> None:
    stuck, free = worlds
    place = stuck.place
    quick = {**VALUES, "uninstall": {"timeoutSeconds": 60}}
    place.cluster.helm(
        *("upgrade", RELEASE, CHART, "-n", NAMESPACE, "-f", "-"), stdin=yaml.safe_dump(quick)
    )
    paused_in(worlds)
    with stuck.store.connect() as person, person.transaction():
        person.execute("SELECT 1 FROM feature_flags FOR UPDATE")
        with pytest.raises(CommandError):
            place.cluster.helm("uninstall", RELEASE, "-n", NAMESPACE)
        said = place.cluster.kubectl("logs", "job/starforge-backlog-release", "-n", NAMESPACE)
        refused = next(line for line in said.splitlines() if line.startswith("NOT released"))
        assert f"{stuck.namespace}/etl" in refused
        assert "holds a lock" in refused
        assert "UPDATE" in refused, "how to do it by hand"
        assert "release=abandon" in refused
        assert f"{free.namespace}/etl: resumed ingestion" in said
        # Not half of an uninstall: policies are followed, and pause again, as if nothing had been.
        until_serving(place)
        free.until(lambda: free.store.paused, "the operator carries on")

        # A person lets it go; the operator may be dead by then, the hook reads the annotation.
        stuck.annotate(release="abandon")
        place.cluster.helm("uninstall", RELEASE, "-n", NAMESPACE)
    assert stuck.store.paused, "that is what abandoning means"
    assert "left to do by hand: in the database run: UPDATE" in stuck.condition("Ready")["message"]
    assert finalizers(stuck) == []
    released_for_an_uninstall(free)

    # The way that it said.
    said = stuck.condition("Ready")["message"].partition("run: ")[2].partition(" (sys")[0]
    with stuck.store.connect() as person:
        person.execute(said.encode())
    stuck.until(lambda: stuck.store.flag() == RUNNING, "the flag as it was before")
    place.cluster.kubectl("delete", CRD, "--timeout=110s")
    apply_crd(place)
    install(place)


@in_two_worlds
def a_namespace_is_deleted_while_the_operator_is_away(worlds: tuple[World, World]) -> None:
    """Its Secret is gone when the operator comes back, and nobody can create it again."""
    world, _ = worlds
    place = world.place
    paused_by_us(world)
    operator = ("scale", f"deployment/{RELEASE}", "-n", NAMESPACE)
    place.cluster.kubectl(*operator, "--replicas=0")
    world.until(lambda: gone(place.pod), "the operator is away", STARTS_WITHIN)
    place.cluster.kubectl("delete", "namespace", world.namespace, "--wait=false")
    secret = f"{CORE}/namespaces/{world.namespace}/secrets/{SECRET}"
    world.until(lambda: gone(lambda: world.api.get(secret)), "the Secret is gone", STARTS_WITHIN)
    place.cluster.kubectl(*operator, "--replicas=1")

    message = world.until_condition("Ready", "ReleaseFailed", within=STARTS_WITHIN)["message"]
    assert f"namespace {world.namespace} is being deleted" in message
    assert "create it" not in message, "the API server would refuse that"
    statement = message.partition("in the database run: ")[2].partition(" (sys")[0]
    with world.store.connect() as person:
        person.execute(statement.encode())
    assert world.store.flag() == RUNNING
    assert "release=abandon" in message
    world.annotate(release="abandon")
    world.until_gone()


@in_two_worlds
def a_listed_namespace_is_deleted_while_its_database_hangs(worlds: tuple[World, World]) -> None:
    """The operator's Role goes with the namespace. The other one is followed all the time."""
    doomed, other = worlds
    place = doomed.place
    listed = {**VALUES, "watchNamespaces": [doomed.namespace, other.namespace]}
    upgrade = ("upgrade", RELEASE, CHART, "-n", NAMESPACE, "-f", "-")
    place.cluster.helm(*upgrade, stdin=yaml.safe_dump(listed))
    place.cluster.kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", NAMESPACE)
    paused_in(worlds)
    key = f"{doomed.namespace}/etl"
    with doomed.store.connect() as person, person.transaction():
        person.execute("SELECT 1 FROM feature_flags FOR UPDATE")
        place.cluster.kubectl("delete", "namespace", doomed.namespace, "--wait=false")
        roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{doomed.namespace}/rolebindings"
        doomed.until(lambda: not place.api.items(roles), "our rights are gone", STARTS_WITHIN)
    doomed.until(lambda: not doomed.store.paused, "the release, without a right to see the policy")
    said, *_ = place.cluster.eventually(
        lambda: [line for line in place.log() if line.get("policy") == key and "todo" in line],
        what="the log says what is left",
    )
    command = said["todo"].replace("'", "").split()
    assert command[:2] == ["kubectl", "patch"]
    place.cluster.kubectl(*command[1:])
    doomed.until_gone()

    place.kill()
    other.until(lambda: other.store.paused, "the other namespace is followed by the next process")
    left_out = [line for line in place.log() if line["event"] == "namespace not followed"]
    assert [line["namespace"] for line in left_out] == [doomed.namespace]
    assert f"release --namespace {doomed.namespace}" in left_out[0]["reason"]
    place.cluster.helm(*upgrade, stdin=yaml.safe_dump(VALUES))
    place.cluster.kubectl("rollout", "status", f"deployment/{RELEASE}", "-n", NAMESPACE)


def gone(read: Callable[[], object]) -> bool:
    """Whether there is nothing to see."""
    try:
        read()
    except LookupError:
        return True
    except Refused as refused:
        if refused.status != 404:
            raise
        return True
    return False


SERIAL_GROUP: Final = SerialGroup(own_cluster)
STORIES: Final[tuple[GroupStory, ...]] = (
    the_crd_is_deleted_while_pauses_are_held,
    the_operator_restarts_while_the_crd_is_terminating,
    the_chart_is_uninstalled_while_pauses_are_held,
    an_uninstall_that_cannot_release_fails_and_the_operator_runs_on,
    a_namespace_is_deleted_while_the_operator_is_away,
    a_listed_namespace_is_deleted_while_its_database_hangs,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_going_away(outcomes: Outcomes, story: GroupStory) -> None:
    outcomes[story].result()
