"""What the object of a target contains: surge, rollout, writer, selector."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from starforge_backlog.api.policy import Target
from starforge_backlog.cluster.client import Json, Resource
from starforge_backlog.cluster.errors import Asked, fault_from_status
from starforge_backlog.cluster.owners import last_writer
from starforge_backlog.cluster.scale import selector_text
from starforge_backlog.cluster.secrets import KeyValueStore
from starforge_backlog.cluster.workload import (
    WorkloadReader,
    is_all_updated,
    is_rolling_out,
    max_surge,
    not_created_why,
    stuck_since,
    was_created_so,
)
from starforge_backlog.snapshot import Known, Unknown, Why


@pytest.mark.parametrize(
    ("kind", "strategy", "surge"),
    [
        ("Deployment", None, "25%"),
        ("Deployment", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0}}, "0"),
        ("Deployment", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "30%"}}, "30%"),
        ("Deployment", {"type": "Recreate"}, "0"),
        ("StatefulSet", None, "0"),
        ("ReplicaSet", None, "0"),
        ("Rollout", {"canary": {"maxSurge": 1}}, "1"),
        ("Rollout", {"blueGreen": {}}, "100%"),  # unknown controllers: as if they doubled (P1)
        ("Widget", None, "100%"),
        ("Deployment", {"rollingUpdate": {"maxSurge": "150%"}}, "150%"),
        # Another kind may use these words for anything.
        ("Widget", "RollingUpdate", "100%"),
        ("Widget", ["RollingUpdate"], "100%"),
        ("Widget", {"rollingUpdate": "fast"}, "100%"),
        ("Widget", {"rollingUpdate": {"maxSurge": "half"}}, "100%"),
        ("Widget", {"rollingUpdate": {"maxSurge": 1.5}}, "100%"),
        ("Widget", {"rollingUpdate": {"maxSurge": -1}}, "100%"),
        ("Widget", {"canary": {"maxSurge": "\u0665"}}, "100%"),
    ],
)
def test_surge(kind: str, strategy: Any, surge: str) -> None:
    assert max_surge({"strategy": strategy} if strategy else {}, kind) == surge


ROLLED_OUT = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3}
SAME = {"currentRevision": "a", "updateRevision": "a", "observedGeneration": 2}


@pytest.mark.parametrize(
    ("kind", "status", "spec", "revisions", "rolling"),
    [
        ("Deployment", ROLLED_OUT, {}, 1, False),
        ("Deployment", {**ROLLED_OUT, "observedGeneration": 1}, {}, 1, True),
        ("Deployment", {**ROLLED_OUT, "updatedReplicas": 1}, {}, 1, True),
        ("Deployment", {**ROLLED_OUT, "replicas": 4}, {}, 1, True),
        # a step up of ours: the spec asks for more than there are, and nothing else happened
        ("Deployment", ROLLED_OUT, {"replicas": 5}, 1, False),
        ("Deployment", ROLLED_OUT, {}, 2, True),
        ("Deployment", {}, {}, 0, True),  # created a moment ago
        ("Deployment", {"observedGeneration": 2}, {"replicas": 0}, 0, False),
        ("StatefulSet", SAME, {}, 1, False),
        ("StatefulSet", {**SAME, "updateRevision": "b"}, {}, 2, True),
        (
            "StatefulSet",
            {**SAME, "updateRevision": "b"},
            {"updateStrategy": {"type": "OnDelete"}},
            2,
            False,
        ),
        (
            "StatefulSet",
            {**SAME, "updateRevision": "b"},
            {"updateStrategy": {"rollingUpdate": {"partition": 2}}},
            2,
            False,
        ),
        ("Widget", {}, {}, 1, False),  # other kinds need not know observedGeneration
        ("Widget", {}, {}, 2, True),
    ],
)
def test_rollout(kind: str, status: Json, spec: Json, revisions: int, rolling: bool) -> None:
    found = {"metadata": {"generation": 2}, "spec": spec, "status": status}
    assert is_rolling_out(found, kind, revisions) is rolling


@pytest.mark.parametrize(
    ("kind", "status", "revisions", "updated"),
    [
        ("Deployment", ROLLED_OUT, 1, True),
        ("Deployment", {**ROLLED_OUT, "updatedReplicas": 2}, 1, False),
        ("Deployment", {**ROLLED_OUT, "observedGeneration": 1}, 1, False),
        ("Deployment", ROLLED_OUT, 2, False),
        ("StatefulSet", SAME, 1, True),
        ("StatefulSet", {**SAME, "updateRevision": "b"}, 1, False),
        ("ReplicaSet", ROLLED_OUT, 1, False),  # its template changes without its pods
        ("Rollout", ROLLED_OUT, 1, False),
    ],
)
@pytest.mark.parametrize("partition", [0, 2])
def test_every_pod_is_of_the_new_template(
    kind: str, status: Json, revisions: int, updated: bool, partition: int
) -> None:
    """A partition makes two revisions nothing to wait for, but not one of them."""
    spec = {"updateStrategy": {"rollingUpdate": {"partition": partition}}}
    found = {"metadata": {"generation": 2}, "spec": spec, "status": status}
    assert is_all_updated(found, kind, revisions) is updated


def deployed(*conditions: Json, generation: int = 2, observed: int = 2) -> Json:
    status = {"observedGeneration": observed, "conditions": list(conditions)}
    return {"metadata": {"generation": generation}, "status": status}


STUCK = {
    "type": "Progressing",
    "status": "False",
    "reason": "ProgressDeadlineExceeded",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
QUOTA = 'pods "etl-worker-1-x" is forbidden: exceeded quota: pods, requested: pods=1'
FAILURE = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": QUOTA}


@pytest.mark.parametrize(
    ("found", "kind", "stuck"),
    [
        (deployed(STUCK), "Deployment", True),
        (deployed(), "Deployment", False),
        (deployed({**STUCK, "reason": "ReplicaSetUpdated"}), "Deployment", False),
        # said of the template before the one that was applied a moment ago
        (deployed(STUCK, observed=1), "Deployment", False),
        (deployed(STUCK), "Rollout", False),
        ({"metadata": {}}, "Deployment", False),
    ],
)
def test_a_rollout_that_makes_no_progress(found: Json, kind: str, stuck: bool) -> None:
    assert stuck_since(found, kind) == (datetime(2026, 1, 1, tzinfo=UTC) if stuck else None)


def test_why_pods_cannot_be_created() -> None:
    assert not_created_why(deployed(FAILURE)) == f"FailedCreate: {QUOTA}"
    assert not_created_why(deployed({**FAILURE, "status": "False"})) == ""
    assert not_created_why({"metadata": {}}) == ""
    assert len(not_created_why(deployed({**FAILURE, "message": "m" * 100_000}))) < 300


@pytest.mark.parametrize(
    ("generation", "writer", "created_so"),
    [
        (1, ("helm", "2026-01-01T00:00:00Z"), True),
        (
            3,
            ("helm", "2026-01-01T00:00:01Z"),
            True,
        ),  # its image was changed by another client since
        (3, ("kubectl-edit", "2026-01-02T00:00:00Z"), False),
        (3, ("starforge-backlog", "2026-01-01T00:00:00Z"), False),
        (1, None, False),  # the scale subresource: nobody is on record
    ],
)
def test_what_was_created_with_these_replicas(
    generation: int, writer: tuple[str, str] | None, created_so: bool
) -> None:
    meta: dict[str, Any] = {"generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"}
    if writer is not None:
        meta["managedFields"] = [entry(*writer)]
    assert was_created_so({"metadata": meta}) is created_so


def entry(manager: str, time: str | None = None, sub: str = "", spec: Json | None = None) -> Json:
    fields = {"f:spec": {"f:replicas": {}} if spec is None else spec}
    found: dict[str, Any] = {"manager": manager, "fieldsV1": fields}
    if time:
        found["time"] = time
    if sub:
        found["subresource"] = sub
    return found


@pytest.mark.parametrize(
    ("entries", "manager"),
    [
        ([], None),
        ([entry("kubectl", "2026-01-01T00:00:00Z", spec={"f:paused": {}})], None),
        ([entry("helm", "2026-01-01T00:00:00Z")], "helm"),
        (
            [entry("kube-controller-manager", None, "scale")],
            "HorizontalPodAutoscaler (kube-controller-manager)",
        ),
        # a write through the scale subresource carries no time
        ([entry("kubectl", None, "scale")], "kubectl"),
        ([entry("argocd", "2026-01-01T00:00:00Z"), entry("kubectl", None, "scale")], "kubectl"),
        (
            [entry("argocd", "2026-01-02T00:00:00Z"), entry("helm", "2026-01-01T00:00:00Z")],
            "argocd",
        ),
        # we wrote this number, another manager applied the same one later
        (
            [entry("starforge-backlog", None, "scale"), entry("argocd", "2026-01-01T00:00:00Z")],
            "starforge-backlog",
        ),
        # a custom kind may keep replicas under another name; its scale can write nothing else
        ([entry("hpa", None, "scale", {"f:size": {}})], "hpa"),
        # the controller owns status.replicas, which is not ours to read
        ([{"manager": "kcm", "subresource": "status", "fieldsV1": {"f:status": {}}}], None),
    ],
)
def test_writer(entries: list[Json], manager: str | None) -> None:
    writer = last_writer({"metadata": {"managedFields": entries}})
    assert (writer.manager if writer else None) == manager


def test_selectors_are_written_as_the_api_server_reads_them() -> None:
    selector = {
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["x", "y"]},
            {"key": "env", "operator": "NotIn", "values": ["dev"]},
            {"key": "on", "operator": "Exists"},
            {"key": "off", "operator": "DoesNotExist"},
        ],
    }
    assert selector_text(selector) == "a=1,b=2,tier in (x,y),env notin (dev),on,!off"


class Api:
    """Answers from a map of paths, and counts."""

    def __init__(self, objects: dict[str, Json], pods: list[Json] | None = None) -> None:
        self.objects = objects
        self.pods = pods
        self.asked: list[str] = []

    async def get(self, resource: Resource, namespace: str, name: str, *, sub: str = "") -> Json:
        return await self.request(
            resource.asked("get", namespace, name, sub), "GET", resource.path(namespace, name, sub)
        )

    async def list_objects(self, resource: Resource, namespace: str, *, label_selector: str) -> Any:
        self.asked.append(f"list {label_selector}")
        if self.pods is None:
            raise fault_from_status(resource.asked("list", namespace), 403, b"{}")
        return self.pods

    async def request(self, asked: Asked, _method: str, path: str) -> Json:
        self.asked.append(path)
        if path not in self.objects:
            raise fault_from_status(asked, 404, b"{}")
        return self.objects[path]


NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOYMENT = "/apis/apps/v1/namespaces/ns/deployments/etl-worker"


def deployment(**spec: Any) -> Json:
    containers = [{"name": "worker", "env": [{"name": "PG_POOL_MAX", "value": "4"}]}]
    return {
        "metadata": {"uid": "u", "generation": 1, "resourceVersion": "7"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "etl"}},
            "template": {"spec": {"containers": containers}},
            **spec,
        },
        "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2},
    }


def reader(api: Api) -> WorkloadReader:
    client: Any = api
    return WorkloadReader(client, KeyValueStore(client, lambda: NOW), lambda: NOW)


async def test_a_deployment_costs_one_get_and_one_list() -> None:
    api = Api({DEPLOYMENT: deployment()}, [])
    workload, per_replica = await reader(api).read("ns", Target(name="etl-worker"))
    assert isinstance(workload, Known)
    assert isinstance(per_replica, Known)
    assert (workload.value.replicas, workload.value.scale_version) == (2, "7")
    assert per_replica.value.connections == 4
    assert api.asked == [DEPLOYMENT, "list app=etl"]


async def test_pods_that_cannot_be_listed_do_not_hide_the_pool() -> None:
    workload, per_replica = await reader(Api({DEPLOYMENT: deployment()})).read(
        "ns", Target(name="etl-worker")
    )
    assert isinstance(workload, Unknown)
    assert workload.why is Why.NO_PERMISSION
    assert "list pods" in workload.message
    assert isinstance(per_replica, Known)


async def test_a_missing_target_says_so_for_both_readings() -> None:
    for reading in await reader(Api({})).read("ns", Target(name="etl-worker")):
        assert isinstance(reading, Unknown)
        assert reading.why is Why.TARGET_NOT_FOUND
        assert "Deployment etl-worker does not exist in namespace ns" in reading.message


WIDGETS = "/apis/example.com/v1"
WIDGET = f"{WIDGETS}/namespaces/ns/widgets/w"
KINDS = {"resources": [{"name": "widgets", "kind": "Widget"}]}
SCALABLE = {"resources": [*KINDS["resources"], {"name": "widgets/scale", "kind": "Scale"}]}
SCALE = {"metadata": {"resourceVersion": "9"}, "spec": {"replicas": 3}}


@pytest.mark.parametrize(
    ("objects", "why", "says"),
    [
        ({}, Why.TARGET_NOT_FOUND, "no kind Widget in example.com/v1"),
        ({WIDGETS: KINDS}, Why.TARGET_NOT_SCALABLE, "has no scale subresource"),
        ({WIDGETS: SCALABLE}, Why.TARGET_NOT_FOUND, "Widget w does not exist"),
        (
            {WIDGETS: SCALABLE, WIDGET: {"metadata": {"uid": "u"}}, f"{WIDGET}/scale": SCALE},
            Why.BAD_SHAPE,
            "labelSelectorPath",
        ),
    ],
)
async def test_other_kinds_that_cannot_be_used(
    objects: dict[str, Json], why: Why, says: str
) -> None:
    target = Target(api_version="example.com/v1", kind="Widget", name="w")
    workload, _ = await reader(Api(objects, [])).read("ns", target)
    assert isinstance(workload, Unknown)
    assert workload.why is why
    assert says in workload.message


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"spec": {"strategy": "RollingUpdate", "template": "small"}},
        {"spec": {"template": {"deployment": {}, "spec": "none"}, "strategy": ["a"]}},
        {"spec": {"template": {"spec": {"containers": {}}}}, "status": {"conditions": {"a": 1}}},
        {"status": {"conditions": ["Ready", None], "observedGeneration": "7c9"}},
    ],
)
async def test_another_kind_is_read_through_its_scale_and_a_pod_shows_its_environment(
    parts: Json,
) -> None:
    """Whatever it means by the words of a Deployment."""
    scale = {**SCALE, "status": {"selector": "app=w"}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "env": [{"name": "PG_POOL_MAX", "value": "6"}]}]},
    }
    api = Api(
        {
            WIDGETS: SCALABLE,
            WIDGET: {"metadata": {"uid": "u"}, **parts},
            f"{WIDGET}/scale": scale,
        },
        [pod],
    )
    target = Target(api_version="example.com/v1", kind="Widget", name="w")
    workload, per_replica = await reader(api).read("ns", target)
    assert isinstance(workload, Known)
    assert (workload.value.replicas, workload.value.scale_version) == (3, "9")
    assert isinstance(per_replica, Known)
    assert per_replica.value.connections == 6
