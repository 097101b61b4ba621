"""The chart's rights against the API server's audit log: none is missing, none is too much."""

from __future__ import annotations

from typing import Final

import pytest
from tests.e2e.api import APPS, CORE
from tests.e2e.autoscaling import (
    HPA,
    HPAS,
    SCALED_OBJECT,
    SCALED_OBJECTS_OF,
    hpa,
    install_keda,
    make_hpa,
    make_scaled_object,
    marks,
    the_scaled_object,
)
from tests.e2e.place import RELEASE, Place
from tests.e2e.test_pauses import recover, trip
from tests.e2e.world import SECRET, TRIPS, World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

Right = tuple[str, str, str]  # group, resource, verb

# Asked by everybody who has an account; not from the chart.
DISCOVERY: Final = ("/api", "/apis", "/version")


def granted(place: Place) -> set[Right]:
    """What the ClusterRole of the release says."""
    role = place.api.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{RELEASE}")
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def with_pool_size_from_a_config_map(world: World) -> None:
    world.api.create(
        f"{CORE}/namespaces/{world.namespace}/configmaps",
        {"metadata": {"name": "pool"}, "data": {"PG_POOL_MAX": "4"}},
    )
    world.deploy(env={})
    container = {
        "name": "worker",
        "envFrom": [{"configMapRef": {"name": "pool"}}],
        "env": [
            {
                "name": "DATABASE_URL",
                "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "WORKER_URL"}},
            }
        ],
    }
    world.api.patch(
        f"{APPS}/namespaces/{world.namespace}/deployments/etl-worker",
        {"spec": {"template": {"spec": {"containers": [container]}}}},
        content="application/strategic-merge-patch+json",
    )


def stateful(world: World) -> None:
    """A StatefulSet as a target."""
    labels = {"app": "shard"}
    pod = {
        "metadata": {"labels": labels, "annotations": {"local.starforge.dev/process": "none"}},
        "spec": {
            "containers": [
                {
                    "name": "worker",
                    "image": "none",
                    "env": [{"name": "PG_POOL_MAX", "value": "4"}],
                }
            ]
        },
    }
    world.api.create(
        f"{APPS}/namespaces/{world.namespace}/statefulsets",
        {
            "metadata": {"name": "shard"},
            "spec": {
                "replicas": 1,
                "serviceName": "shard",
                "selector": {"matchLabels": labels},
                "template": pod,
            },
        },
    )
    database = {"url": {"secretKeyRef": {"name": SECRET, "key": "DATABASE_URL"}}}
    world.apply(
        "shard",
        target={"kind": "StatefulSet", "name": "shard"},
        database={**database, "workerRole": world.store.worker},
    )


def guarded(world: World) -> None:
    """Autoscalers of both kinds whose maximum is lowered."""
    make_hpa(world)
    make_scaled_object(world)
    guards = {"one": {"horizontalPodAutoscaler": HPA}, "two": {"scaledObject": SCALED_OBJECT}}
    for name, guard in guards.items():
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        kind = next(iter(guard))
        path = HPAS if kind == "horizontalPodAutoscaler" else SCALED_OBJECTS_OF
        world.deploy(name, env={"PG_POOL_MAX": "10"})
        world.api.patch(
            f"{path.format(world.namespace)}/{guard[kind]}", {"spec": {"scaleTargetRef": ref}}
        )
        world.apply(name, target={"name": name, "guard": guard, "maxReplicas": 5})
    world.until(lambda: marks(hpa(world)), "a lower maximum")
    world.until(lambda: marks(the_scaled_object(world)), "a lower maximum")


def test_each_right_is_used_and_none_is_missing(place: Place, world: World) -> None:
    with_pool_size_from_a_config_map(world)
    stateful(world)
    install_keda(place)
    guarded(world)
    world.apply_breaker()
    world.until_ready()
    trip(world)
    world.until(lambda: world.pause()["state"] == "Held", "a pause")
    scaled = {"deployments/scale", "statefulsets/scale"}
    world.until(lambda: scaled == {w.resource for w in world.scale_writes()}, "both are scaled")
    recover(world)
    world.delete()
    world.until_gone()
    world.store.enqueue(TRIPS)

    requests = place.audit.since()
    assert [r for r in requests if r.code in {401, 403}] == []
    used = {r.right for r in requests if not r.path.startswith(DISCOVERY) or r.resource}
    assert used - granted(place) == set(), "used, but not granted by the chart"
    assert granted(place) - used == set(), "granted, but never used"
