"""The chart as Helm renders it: valid Kubernetes, as little as is needed, and no nonsense taken."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.chart_render import (
    CHART,
    DEFAULT,
    EVERYTHING,
    NARROWED,
    ROOT,
    Object,
    Values,
    hooks,
    objects,
    one,
    text,
)

from local import build
from local.cluster import LocalCluster
from local.commands import CommandError
from starforge_backlog.settings import PREFIX, Settings

pytestmark = pytest.mark.cluster

ALL = pytest.mark.parametrize(
    "values", [DEFAULT, NARROWED, EVERYTHING], ids=["default", "narrowed", "everything"]
)

# What the operator may do with the default values. A verb more is a decision, not an accident.
RIGHTS = {
    ("backlog.starforge.dev", "queuebacklogpolicies", "get list watch patch"),
    ("backlog.starforge.dev", "queuebacklogpolicies/status", "patch"),
    ("", "secrets", "get"),
    ("", "configmaps", "get"),
    ("", "pods", "list"),
    ("apps", "deployments", "get"),
    ("apps", "replicasets", "get"),
    ("apps", "deployments/scale", "patch"),
    ("apps", "statefulsets", "get"),
    ("apps", "statefulsets/scale", "patch"),
    ("autoscaling", "horizontalpodautoscalers", "list"),
    ("keda.sh", "scaledobjects", "list"),
    ("events.k8s.io", "events", "create"),
}


def rights(role: Object) -> set[tuple[str, str, str]]:
    """(group, resource, verbs) of a role."""
    return {
        (group, resource, " ".join(rule["verbs"]))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def names(role: Object, resource: str, verb: str = "") -> list[str] | None:
    """The objects that a right is narrowed to; None: all. By all its verbs, or the last of them."""
    (rule,) = (
        r
        for r in role["rules"]
        if r["resources"] == [resource] and verb in ("", r["verbs"][-1], " ".join(r["verbs"]))
    )
    found: list[str] | None = rule.get("resourceNames")
    return found


def test_lint(cluster: LocalCluster) -> None:
    cluster.helm("lint", "--strict", CHART)


@ALL
def test_all_objects_are_valid_kubernetes(
    cluster: LocalCluster, tmp_path: Path, values: Values
) -> None:
    kubeconform = build.ensure(("kubeconform",))["kubeconform"]
    rendered = text(cluster, values)
    rendered_objects = objects(rendered) + hooks(rendered)
    kinds = {found["kind"] for found in rendered_objects} - NOT_BUILT_IN
    write_schemas(cluster, tmp_path, kinds)
    checked = subprocess.run(
        [
            *(kubeconform, "-strict", "-output", "json", "-verbose"),
            *("-schema-location", f"{tmp_path}/{{{{.ResourceKind}}}}.json"),
            *("-skip", ",".join(sorted(NOT_BUILT_IN)), "-"),
        ],
        input=rendered,
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(checked.stdout)["resources"]
    assert checked.returncode == 0, found
    assert {f["kind"] for f in found if f["status"] == "statusValid"} == kinds


NOT_BUILT_IN = {"CustomResourceDefinition", "ServiceMonitor"}


def write_schemas(cluster: LocalCluster, folder: Path, kinds: set[str]) -> None:
    """One strict JSON schema per kind, from what this API server says of itself."""
    definitions: dict[str, Any] = json.loads(cluster.kubectl("get", "--raw", "/openapi/v2"))[
        "definitions"
    ]
    for definition in definitions.values():
        if "properties" in definition:
            definition["additionalProperties"] = False
        if definition.pop("format", None) == "int-or-string":
            definition["type"] = ["integer", "string"]
    # In OpenAPI quantities and int-or-strings are strings; in YAML they are often numbers.
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] = ["string", "number"]
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] = ["string", "integer"]
    by_kind = {
        gvk["kind"]: name
        for name, definition in definitions.items()
        for gvk in definition.get("x-kubernetes-group-version-kind", ())
        if name.startswith("io.k8s.api.") and ".v1." in name
    }
    for kind in kinds:
        schema = {"$ref": f"#/definitions/{by_kind[kind]}", "definitions": definitions}
        (folder / f"{kind.lower()}.json").write_text(json.dumps(schema), encoding="utf-8")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"replicas": 2}, "replicas"),
        ({"logFormat": "xml"}, "logFormat"),
        ({"logLevel": "TRACE"}, "logLevel"),
        ({"listenPort": 80}, "listenPort"),
        ({"listenPort": "8080"}, "listenPort"),
        ({"watchNamespaces": "starforge"}, "watchNamespaces"),
        ({"watchNamespaces": ["*"]}, "watchNamespaces"),
        ({"watchNamespaces": ["a", "a"]}, "watchNamespaces"),
        ({"image": {"tag": "not a tag"}}, "image/tag"),
        ({"image": {"digest": "sha256:1"}}, "image/digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "image/pullPolicy"),
        ({"rbac": {"secretNames": ["Not A Name"]}}, "rbac/secretNames"),
        ({"rbac": {"secretName": ["typo"]}}, "secretName"),
        ({"rbac": {"deployments": {"scale": "yes"}}}, "rbac/deployments/scale"),
        ({"rbac": {"extraScaleTargets": [{"resource": "rollouts"}]}}, "apiGroup"),
        ({"rbac": {"extraScaleTargets": [{"apiGroup": "a", "resource": "Rollout"}]}}, "resource"),
        ({"rbac": {"producers": {"configMaps": {"pause": "yes"}}}}, "configMaps/pause"),
        ({"rbac": {"producers": {"cronJobs": {"scale": True}}}}, "scale"),
        ({"rbac": {"producers": {"daemonSets": {"pause": True}}}}, "daemonSets"),
        ({"rbac": {"autoscalers": {"scaledObjects": {"guard": 1}}}}, "scaledObjects/guard"),
        ({"serviceMonitor": {"enabled": True, "interval": "soon"}}, "interval"),
        ({"extraEnv": [{"value": "x"}]}, "name"),
        ({"crds": {"install": "always"}}, "crds/install"),
        ({"uninstall": {"timeoutSeconds": 0}}, "uninstall/timeoutSeconds"),
        ({"uninstall": {"hook": True}}, "hook"),
    ],
    ids=str,
)
def test_nonsense_values_are_refused_by_name(
    cluster: LocalCluster, wrong: Values, named: str
) -> None:
    with pytest.raises(CommandError) as refused:
        text(cluster, wrong)
    assert named in refused.value.stderr


def test_the_values_and_their_schema_name_the_same_things() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    definitions = schema.pop("$defs")

    def compare(given: Mapping[str, Any], described: Mapping[str, Any], path: str) -> None:
        if "$ref" in described:
            described = definitions[described["$ref"].rpartition("/")[2]]
        if "properties" not in described:
            return  # anything goes, for example resources
        assert set(given) == set(described["properties"]) - {"global"}, path
        for name, value in given.items():
            if isinstance(value, dict):
                compare(value, described["properties"][name], f"{path}.{name}")

    compare(values, schema, "values")


def test_the_operator_understands_every_setting_it_is_given(cluster: LocalCluster) -> None:
    for values in (DEFAULT, NARROWED, EVERYTHING):
        pod = one(objects(text(cluster, values)), "Deployment")["spec"]["template"]["spec"]
        environment = {e["name"]: e.get("value", "10.0.0.1") for e in pod["containers"][0]["env"]}
        environment["STARFORGE_LISTEN_HOST"] = "10.0.0.1"  # Kubernetes resolves $(POD_IP)
        settings = Settings.from_environ(environment)
        assert settings.namespaces == tuple(values.get("watchNamespaces", ()))
        assert settings.listen_port == pod["containers"][0]["ports"][0]["containerPort"]
        given = {name for name in environment if name.startswith(PREFIX)}
        assert given == {PREFIX + field.upper() for field in Settings.model_fields}


def test_all_namespaces_by_default(cluster: LocalCluster) -> None:
    found = objects(text(cluster, DEFAULT))
    assert rights(one(found, "ClusterRole")) == RIGHTS
    assert one(found, "ClusterRoleBinding")["subjects"] == [
        {"kind": "ServiceAccount", "name": "sf-starforge-backlog", "namespace": "operators"}
    ]
    assert not [o for o in found if o["kind"] in ("Role", "RoleBinding")]


def test_listed_namespaces_need_nothing_of_the_cluster(cluster: LocalCluster) -> None:
    found = objects(text(cluster, NARROWED))
    assert not [o for o in found if o["kind"].startswith(("Cluster", "CustomResource"))]
    roles = [o for o in found if o["kind"] == "Role"]
    assert [r["metadata"]["namespace"] for r in roles] == ["team-a", "team-b"]
    for role in roles:
        assert rights(role) < RIGHTS
        assert names(role, "secrets") == ["starforge-db"]
        assert names(role, "deployments") == names(role, "deployments/scale") == ["etl-worker"]
        resources = {resource for _, resource, _ in rights(role)}
        assert not resources & {
            *("configmaps", "statefulsets", "customresourcedefinitions"),
            *("horizontalpodautoscalers", "scaledobjects", "cronjobs"),
        }


def test_other_kinds_can_be_scaled(cluster: LocalCluster) -> None:
    role = one(objects(text(cluster, EVERYTHING)), "Role")
    assert ("argoproj.io", "rollouts", "get") in rights(role)
    assert ("argoproj.io", "rollouts/scale", "get patch") in rights(role)
    assert names(role, "rollouts/scale") == ["etl-rollout"]
    assert names(role, "replicationcontrollers") is None
    assert names(role, "configmaps", "get") == ["pool"]


def test_producers_and_guards_are_granted_by_name_and_off_by_default(cluster: LocalCluster) -> None:
    written = {
        ("", "configmaps", "get patch"): ["ingest-api"],
        ("apps", "deployments", "get patch"): ["crawler"],
        ("apps", "statefulsets", "get patch"): None,
        ("batch", "cronjobs", "get patch"): ["nightly-import"],
        ("autoscaling", "horizontalpodautoscalers", "get watch patch"): ["etl-worker"],
        ("keda.sh", "scaledobjects", "get watch patch"): None,
    }
    role = one(objects(text(cluster, EVERYTHING)), "Role")
    assert written.keys() <= rights(role)
    for (_, resource, verbs), named in written.items():
        assert names(role, resource, verbs) == named
    assert names(role, "horizontalpodautoscalers", "list") is None, "a name cannot narrow a list"
    assert ("keda.sh", "scaledobjects", "list") not in rights(role)
    assert not written.keys() & rights(one(objects(text(cluster, DEFAULT)), "ClusterRole"))


def test_other_names_of_keda_s_autoscalers_alone_do_not_narrow(cluster: LocalCluster) -> None:
    def granted(**given: Any) -> list[str] | None:
        guarded = {"guard": True, "hpaNames": ["own"], **given}
        values = {"rbac": {"autoscalers": {"scaledObjects": guarded}}}
        role = one(objects(text(cluster, values)), "ClusterRole")
        (rule,) = (
            rule
            for rule in role["rules"]
            if "horizontalpodautoscalers" in rule["resources"] and "patch" in rule["verbs"]
        )
        found: list[str] | None = rule.get("resourceNames")
        return found

    assert granted() is None, "each ScaledObject, so each of KEDA's autoscalers"
    assert granted(names=["etl"]) == ["keda-hpa-etl", "own"]


@ALL
def test_the_pod_is_locked_down(cluster: LocalCluster, values: Values) -> None:
    deployment = one(objects(text(cluster, values)), "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {
        probe: container[probe]["httpGet"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    } == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    # On a node that is short of CPU a start takes longer than the liveness probe allows.
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


@ALL
def test_an_uninstall_stops_the_operator_and_releases(
    cluster: LocalCluster, values: Values
) -> None:
    rendered = text(cluster, values)
    found, before = objects(rendered), hooks(rendered)
    assert {o["metadata"]["annotations"]["helm.sh/hook"] for o in before} == {"pre-delete"}
    operator, job = one(found, "Deployment"), one(before, "Job")
    order = {o["kind"]: int(o["metadata"]["annotations"]["helm.sh/hook-weight"]) for o in before}
    assert max(order["Role"], order["RoleBinding"]) < order["Job"]
    policies = {
        o["kind"]: o["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for o in before
    }
    assert "hook-failed" not in policies["Job"], "its log names what is left"
    assert all("before-hook-creation" in policy for policy in policies.values())

    seconds = values.get("uninstall", {"timeoutSeconds": 120})["timeoutSeconds"]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] > seconds
    pod, model = job["spec"]["template"]["spec"], operator["spec"]["template"]["spec"]
    (container,), (operators,) = pod["containers"], model["containers"]
    assert container["command"] == [
        *("python", "-m", "starforge_backlog", "release", "--all"),
        f"--stop=operators/{operator['metadata']['name']}",
        f"--timeout={seconds}",
    ]
    # The same account, image, locks and way to a node.
    for name in (
        *("serviceAccountName", "automountServiceAccountToken", "securityContext", "volumes"),
        *("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"),
    ):
        assert pod.get(name) == model.get(name), name
    for name in ("image", "imagePullPolicy", "securityContext", "volumeMounts", "resources"):
        assert container[name] == operators[name], name
    assert {e["name"] for e in container["env"]} <= {e["name"] for e in operators["env"]}

    role = one(before, "Role")
    assert rights(role) == {
        ("apps", "deployments", "get"),
        ("apps", "deployments/scale", "patch"),
        ("", "pods", "list"),
    }
    assert names(role, "deployments/scale") == [operator["metadata"]["name"]]
    assert one(before, "RoleBinding")["subjects"][0]["name"] == model["serviceAccountName"]
    # Neither the Service nor the wait for the operator's end may take it for the operator.
    selector = operator["spec"]["selector"]["matchLabels"].items()
    assert not selector <= job["spec"]["template"]["metadata"]["labels"].items()


def test_an_uninstall_without_a_release(cluster: LocalCluster) -> None:
    assert hooks(text(cluster, {"uninstall": {"release": False}})) == []


@ALL
def test_service_and_monitor_find_the_pod(cluster: LocalCluster, values: Values) -> None:
    found = objects(text(cluster, values))
    deployment, service = one(found, "Deployment")["spec"], one(found, "Service")
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    monitors = [o for o in found if o["kind"] == "ServiceMonitor"]
    for monitor in monitors:
        wanted = monitor["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= service["metadata"]["labels"].items()
    assert len(monitors) == (1 if values is EVERYTHING else 0)


def test_the_image_by_tag_or_digest(cluster: LocalCluster) -> None:
    def image(values: Values) -> str:
        pod = one(objects(text(cluster, values)), "Deployment")["spec"]["template"]["spec"]
        return str(pod["containers"][0]["image"])

    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert image(DEFAULT) == f"starforge-backlog:{version}"
    assert image({"image": {"tag": "dev"}}) == "starforge-backlog:dev"
    assert image(EVERYTHING) == f"mirror/starforge-backlog@sha256:{'a' * 64}"


def test_the_chart_and_the_operator_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_the_crd_is_the_committed_one_and_is_kept(cluster: LocalCluster) -> None:
    crd = one(objects(text(cluster, DEFAULT)), "CustomResourceDefinition")
    committed = yaml.safe_load((ROOT / "crds" / "queuebacklogpolicies.yaml").read_text("utf-8"))
    assert crd["spec"] == committed["spec"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    dropped = one(objects(text(cluster, EVERYTHING)), "CustomResourceDefinition")
    assert "annotations" not in dropped["metadata"]
