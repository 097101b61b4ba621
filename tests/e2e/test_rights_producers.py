"""ConfigMaps, workloads and a webhook through the whole operator, under the chart's own rights.

A cluster of its own: the rights that are granted here would be too many in `test_rights.py`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import pytest
import yaml
from tests.e2e.api import APPS, CORE, Api, Json
from tests.e2e.place import CHART, NAMESPACE, RELEASE, Place, installed
from tests.e2e.test_pauses import recover, trip
from tests.e2e.together import GroupStory, Outcomes, SerialGroup, title
from tests.e2e.world import World
from tests.producers.webhook_api import SECRET
from tests.producers.webhook_page import running
from tests.thorough import THOROUGH

from local.paths import new_run_dir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ROUNDS: Final = 4 if THOROUGH else 2
BATCH: Final = "/apis/batch/v1"
KINDS: Final = ("configMaps", "deployments", "statefulSets", "cronJobs")
RIGHTS: Final = {"rbac": {"producers": {kind: {"pause": True} for kind in KINDS}}}
GRANTED: Final = {
    ("", "configmaps"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
}
BREAKER: Final[Json] = {
    "name": "storm",
    "trip": [{"waiting": 50, "for": "1s"}],
    "recover": {"belowPercent": 50, "for": "1s", "probeFor": "4s"},
}


@dataclass(frozen=True)
class Feeders:
    """Everything that feeds the queue, in one namespace, and an API outside of it."""

    api: Api
    namespace: str
    url: str

    def make(self) -> None:
        labels = {"app": "feeder"}
        pod = {"containers": [{"name": "c", "image": "none"}]}
        template = {
            "metadata": {
                "labels": labels,
                "annotations": {"local.starforge.dev/process": "none"},
            },
            "spec": pod,
        }
        scaled = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        once = {"spec": {"template": {"spec": {**pod, "restartPolicy": "Never"}}}}
        suspended = {"schedule": "0 0 1 1 *", "jobTemplate": once}
        for path, body in (
            (f"{CORE}/%s/configmaps", {"data": {"ingest_paused": "no", "other": "x"}}),
            (f"{APPS}/%s/deployments", {"spec": scaled}),
            (f"{APPS}/%s/statefulsets", {"spec": {**scaled, "serviceName": "feeder"}}),
            (f"{BATCH}/%s/cronjobs", {"spec": suspended}),
        ):
            where = path % f"namespaces/{self.namespace}"
            self.api.create(where, {"metadata": {"name": "feeder"}, **body})

    @property
    def producers(self) -> list[Json]:
        reference = {"secretKeyRef": {"name": "partner", "key": "signing-key"}}
        return [
            {"name": "config-map", "configMap": {"name": "feeder"}},
            {"name": "deployment", "workload": {"name": "feeder"}},
            {"name": "stateful-set", "workload": {"kind": "StatefulSet", "name": "feeder"}},
            {"name": "cron-job", "workload": {"kind": "CronJob", "name": "feeder"}},
            {"name": "webhook", "webhook": {"url": self.url, "secret": reference}},
        ]

    def get(self, group: str, plural: str) -> Json:
        return self.api.get(f"{group}/namespaces/{self.namespace}/{plural}/feeder")

    def state(self) -> tuple[Any, ...]:
        """Of the four objects."""
        return (
            self.get(CORE, "configmaps")["data"],
            self.get(APPS, "deployments")["spec"]["replicas"],
            self.get(APPS, "statefulsets")["spec"]["replicas"],
            self.get(BATCH, "cronjobs")["spec"]["suspend"],
        )


RUNNING: Final = ({"ingest_paused": "no", "other": "x"}, 2, 2, False)
STOPPED: Final = ({"ingest_paused": "true", "other": "x"}, 0, 0, True)


@dataclass(frozen=True)
class Scene:
    """A cluster whose operator has no right to pause any of them yet, and the page's receiver."""

    place: Place
    url: str


@contextlib.contextmanager
def own_cluster() -> Iterator[Scene]:
    with installed(new_run_dir("e2e-producers")) as place, running() as address:
        yield Scene(place, address)


def with_feeders(story: Callable[[Place, World, Feeders], None]) -> GroupStory:
    """A story of a scene."""

    @functools.wraps(story)
    def run(scene: Scene) -> None:
        place = scene.place
        with contextlib.closing(World.create(place, place.cluster.postgres)) as world:
            world.write_secret({"signing-key": SECRET}, "partner")
            world.deploy()
            feeders = Feeders(world.api, world.namespace, scene.url)
            feeders.make()
            story(place, world, feeders)
            assert world.tracebacks() == []

    return run


def guard(world: World, feeders: Feeders) -> None:
    """A policy that pauses them all."""
    names = [producer["name"] for producer in feeders.producers]
    world.apply(
        target={"name": "etl-worker", "maxReplicas": 1},
        producers=feeders.producers,
        breakers=[{**BREAKER, "pause": names}],
    )


def grant(place: Place) -> None:
    place.cluster.helm(
        *("upgrade", RELEASE, CHART, "-n", NAMESPACE, "--reuse-values", "-f", "-"),
        stdin=yaml.safe_dump(RIGHTS),
    )


def entries(world: World) -> dict[str, Json]:
    return {entry["producer"]: entry for entry in world.status().get("paused", ())}


def all_are(world: World, state: str) -> bool:
    found = entries(world)
    return len(found) == 5 and {entry["state"] for entry in found.values()} == {state}


@with_feeders
def off_until_it_is_granted_then_paused_and_released_to_the_letter(
    place: Place, world: World, feeders: Feeders
) -> None:
    guard(world, feeders)
    trip(world)

    def named() -> bool:
        words = " ".join(entry.get("message", "") for entry in entries(world).values())
        return all(f"rbac.producers.{kind}.pause=true" in words for kind in KINDS)

    world.until(named, "each missing value is named")
    assert feeders.state() == RUNNING
    # The webhook needs no right of the cluster: what fails keeps nothing else from being paused.
    world.until(lambda: entries(world)["webhook"]["state"] == "Held", "the webhook's pause")

    grant(place)
    mark = place.audit.mark()
    world.until(lambda: all_are(world, "Held"), "all are paused")
    assert feeders.state() == STOPPED
    world.until_passes(2)
    assert all_are(world, "Held"), "pods that end are no write of a person"

    recover(world)
    assert feeders.state() == RUNNING
    assert world.status()["paused"] == []
    for group, plural in ((CORE, "configmaps"), (APPS, "deployments"), (BATCH, "cronjobs")):
        annotations = feeders.get(group, plural)["metadata"].get("annotations", {})
        assert not [name for name in annotations if name.startswith("backlog.starforge.dev/")]

    requests = place.audit.since(mark, namespace=world.namespace)
    assert [r for r in requests if r.code in {401, 403}] == []
    patched = {(r.group, r.resource) for r in requests if r.verb == "patch"}
    assert patched >= GRANTED, "granted, and used"
    producers = {r.resource for r in requests if r.name == "feeder"}
    assert producers == {resource for _, resource in GRANTED}, "and no other way is taken"


@with_feeders
def people_and_gitops_are_respected_and_named(place: Place, world: World, feeders: Feeders) -> None:
    grant(place)
    guard(world, feeders)
    # Stopped by a person before the storm.
    jobs = f"{BATCH}/namespaces/{world.namespace}/cronjobs/feeder"
    world.api.send(
        "PATCH",
        jobs,
        {"spec": {"suspend": True}},
        content="application/merge-patch+json",
        query={"fieldManager": "alice"},
    )
    world.until_ready()
    trip(world)
    world.until(
        lambda: (
            [entries(world)[name]["state"] for name in ("config-map", "deployment", "cron-job")]
            == ["Held", "Held", "Foreign"]
        ),
        "the others are paused",
    )
    assert "alice" in entries(world)["cron-job"]["message"]

    # GitOps takes one pause back, a person another.
    world.api.send(
        "PATCH",
        f"{CORE}/namespaces/{world.namespace}/configmaps/feeder",
        {"apiVersion": "v1", "kind": "ConfigMap", "data": RUNNING[0]},
        content="application/apply-patch+yaml",
        query={"fieldManager": "argocd-controller", "force": "true"},
    )
    world.scale(5, "feeder")
    world.until(
        lambda: (
            [entries(world)[name]["state"] for name in ("config-map", "deployment")]
            == ["Overridden", "Overridden"]
        ),
        "both are respected",
    )
    assert "argocd-controller" in entries(world)["config-map"]["message"]
    world.until_passes(2)
    assert feeders.state() == (RUNNING[0], 5, 0, True)
    world.delete()
    world.until_gone()
    assert feeders.state() == (RUNNING[0], 5, 2, True), "ours is released, theirs is not"


@with_feeders
def killed_again_and_again(place: Place, world: World, feeders: Feeders) -> None:
    """At random points of pausing and releasing; the end of each round is all or nothing (P6)."""
    grant(place)
    guard(world, feeders)
    world.until_ready()
    chance = Random(11)
    for _ in range(ROUNDS):
        trip(world)
        time.sleep(chance.uniform(0, 1.5))
        place.kill()
        world.until(lambda: all_are(world, "Held"), "all are paused")
        assert feeders.state() == STOPPED
        world.store.clear()
        time.sleep(chance.uniform(0, 6))
        place.kill()
        world.until(lambda: world.breaker() == "Closed", "the breaker closes")
        world.until(lambda: feeders.state() == RUNNING, "all are released")
        world.until(lambda: not entries(world), "nothing is held")


@with_feeders
def a_policy_that_is_deleted_or_only_observes_releases_all(
    place: Place, world: World, feeders: Feeders
) -> None:
    grant(place)
    guard(world, feeders)
    world.until_ready()
    trip(world)
    world.until(lambda: all_are(world, "Held"), "all are paused")
    world.apply(mode="Observe")
    world.until(lambda: feeders.state() == RUNNING, "released on the switch")
    world.apply(mode="Enforce")
    world.until(lambda: all_are(world, "Held"), "all are paused again")
    world.delete()
    world.until_gone()
    assert feeders.state() == RUNNING


SERIAL_GROUP: Final = SerialGroup(own_cluster)
STORIES: Final[tuple[GroupStory, ...]] = (
    off_until_it_is_granted_then_paused_and_released_to_the_letter,
    people_and_gitops_are_respected_and_named,
    killed_again_and_again,
    a_policy_that_is_deleted_or_only_observes_releases_all,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_rights_producers(outcomes: Outcomes, story: GroupStory) -> None:
    outcomes[story].result()
