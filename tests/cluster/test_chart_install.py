"""The chart installed on a real API server: accepted, upgradeable, and with these rights only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.chart_render import CHART, NARROWED, ROOT, Values
from tests.cluster.crd_examples import MINIMAL
from tests.e2e.api import Api

from local.cluster import LocalCluster
from local.commands import CommandError

pytestmark = pytest.mark.cluster

CRD = "crd/queuebacklogpolicies.backlog.starforge.dev"
# The pod stays Pending: what runs in it is not this test's matter, nor what an uninstall would run.
NOWHERE = {"nodeSelector": {"test": "nowhere"}, "uninstall": {"release": False}}
# Other tests of the run have applied the CRD already, so Helm needs the flag that takes it over.
TAKE = ("--take-ownership", "--force-conflicts")


def installed(
    cluster: LocalCluster, release: str, namespace: str, values: Values, *flags: str
) -> Iterator[str]:
    """Install until the test is over; yields the namespace."""
    cluster.helm(
        *("install", release, str(CHART), "-n", namespace, "-f", "-", *flags),
        stdin=yaml.safe_dump({**values, **NOWHERE}),
    )
    yield namespace
    cluster.helm("uninstall", release, "-n", namespace)


@pytest.fixture(scope="module")
def cluster_wide(cluster: LocalCluster, api: Api) -> Iterator[str]:
    """Installed with the default values, once for all tests that read it."""
    api.create_namespace("installed")
    yield from installed(cluster, "wide", "installed", {}, *TAKE)


@pytest.fixture
def narrowed(cluster: LocalCluster, namespace: str) -> Iterator[str]:
    """Installed for the namespaces team-a and team-b, with as few rights as possible."""
    for team in ("team-a", "team-b"):
        cluster.kubectl("create", "namespace", team)
    yield from installed(cluster, "narrow", namespace, NARROWED)
    cluster.kubectl("delete", "namespace", "team-a", "team-b", "--wait=false")


Access = tuple[str, str, str, str, str]  # verb, group, resource, namespace, name


def allowed(cluster: LocalCluster, account: str, asked: list[Access]) -> list[bool]:
    """What the API server's authorizer says, all in one request of kubectl."""
    reviews = []
    for verb, group, resource, namespace, name in asked:
        kind, _, sub = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": kind, "subresource": sub}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": f"system:serviceaccount:{account}",
                    "resourceAttributes": {**attributes, "namespace": namespace, "name": name},
                },
            }
        )
    answers = cluster.kubectl(
        *("create", "-f", "-", "-o", "json"), stdin=yaml.safe_dump_all(reviews)
    )
    decoder, position, found = json.JSONDecoder(), 0, []
    while position < len(answers.rstrip()):
        answer, position = decoder.raw_decode(answers, position)
        found += [item["status"]["allowed"] for item in answer.get("items", [answer])]
        position += len(answers[position:]) - len(answers[position:].lstrip())
    return found


def test_the_server_accepts_every_object(cluster: LocalCluster, namespace: str) -> None:
    cluster.helm("install", "dry", CHART, "-n", namespace, "--dry-run=server", *TAKE)


def test_rights_in_all_namespaces(cluster: LocalCluster, cluster_wide: str) -> None:
    account = f"{cluster_wide}:wide-starforge-backlog"
    may: list[Access] = [
        ("list", "backlog.starforge.dev", "queuebacklogpolicies", "", ""),
        ("watch", "backlog.starforge.dev", "queuebacklogpolicies", "", ""),
        ("patch", "backlog.starforge.dev", "queuebacklogpolicies/status", "x", "etl"),
        ("get", "", "secrets", "x", "starforge-db"),
        ("list", "", "pods", "x", ""),
        ("get", "apps", "deployments", "x", "etl-worker"),
        ("patch", "apps", "deployments/scale", "x", "etl-worker"),
        ("patch", "apps", "statefulsets/scale", "x", "etl-worker"),
        ("create", "events.k8s.io", "events", "x", ""),
    ]
    may_not: list[Access] = [
        ("watch", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
        ("list", "", "secrets", "x", ""),
        ("watch", "", "secrets", "x", ""),
        ("patch", "", "secrets", "x", "starforge-db"),
        ("patch", "apps", "deployments", "x", "etl-worker"),
        ("delete", "", "pods", "x", "etl-worker-0"),
        ("create", "", "pods", "x", ""),
        ("create", "backlog.starforge.dev", "queuebacklogpolicies", "x", ""),
        ("delete", "backlog.starforge.dev", "queuebacklogpolicies", "x", "etl"),
        ("create", "rbac.authorization.k8s.io", "clusterrolebindings", "", ""),
        ("patch", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
        ("list", "", "namespaces", "", ""),
    ]
    answers = allowed(cluster, account, may + may_not)
    assert answers == [True] * len(may) + [False] * len(may_not)


def test_people_with_the_clusters_own_roles(cluster: LocalCluster, cluster_wide: str) -> None:
    """`view` reads policies, `edit` holds and changes them too; impersonated, as kubectl does."""
    namespace, policy = cluster_wide, ("qbp", "etl", "-n", cluster_wide)
    cluster.apply(MINIMAL, namespace=namespace)
    for role in ("view", "edit"):
        binding = ("create", "rolebinding", role, "-n", namespace)
        cluster.kubectl(*binding, f"--clusterrole={role}", f"--user={role}er")

    def ask() -> str | None:
        try:
            return cluster.kubectl("auth", "can-i", "patch", "qbp", "-n", namespace, "--as=editer")
        except CommandError:
            return None  # `no` is an exit code

    cluster.eventually(ask, what="the aggregated roles")
    assert "etl" in cluster.kubectl("get", *policy, "--as=viewer")
    hold = ("annotate", *policy, "backlog.starforge.dev/hold=maintenance")
    with pytest.raises(CommandError, match="viewer"):
        cluster.kubectl(*hold, "--as=viewer")
    cluster.kubectl(*hold, "--as=editer")
    status = ("patch", *policy, "--subresource=status", "--type=merge", "-p", '{"status":{}}')
    with pytest.raises(CommandError, match="queuebacklogpolicies/status"):
        cluster.kubectl(*status, "--as=editer")
    cluster.kubectl("delete", *policy, "--as=editer")


def test_rights_in_listed_namespaces(cluster: LocalCluster, narrowed: str) -> None:
    account = f"{narrowed}:narrow-starforge-backlog"
    may: list[Access] = [
        ("watch", "backlog.starforge.dev", "queuebacklogpolicies", "team-a", ""),
        ("get", "", "secrets", "team-b", "starforge-db"),
        ("patch", "apps", "deployments/scale", "team-a", "etl-worker"),
        ("list", "", "pods", "team-b", ""),
    ]
    may_not: list[Access] = [
        ("watch", "backlog.starforge.dev", "queuebacklogpolicies", "", ""),
        ("get", "", "secrets", "team-a", "another"),
        ("get", "", "secrets", "default", "starforge-db"),
        ("get", "", "configmaps", "team-a", "pool"),
        ("patch", "apps", "deployments/scale", "team-a", "web"),
        ("patch", "apps", "statefulsets/scale", "team-a", "etl-worker"),
        ("list", "", "pods", narrowed, ""),
        ("watch", "apiextensions.k8s.io", "customresourcedefinitions", "", ""),
    ]
    answers = allowed(cluster, account, may + may_not)
    assert answers == [True] * len(may) + [False] * len(may_not)


def test_the_pod_gets_a_token_and_the_account_gives_none_away(
    cluster: LocalCluster, cluster_wide: str
) -> None:
    account = cluster.get("serviceaccount", "wide-starforge-backlog", "-n", cluster_wide)
    assert account["automountServiceAccountToken"] is False

    def pod() -> dict[str, Any] | None:
        found = cluster.get("pods", "-n", cluster_wide)["items"]
        return found[0] if found else None

    found = cluster.eventually(pod, what="the operator's pod")
    mounts = [mount["mountPath"] for mount in found["spec"]["containers"][0]["volumeMounts"]]
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in mounts


def test_an_upgrade_brings_the_new_schema_and_an_uninstall_keeps_it(
    cluster: LocalCluster, namespace: str, tmp_path: Path
) -> None:
    def described() -> str:
        (version,) = cluster.get(CRD)["spec"]["versions"]
        return str(version["schema"]["openAPIV3Schema"]["description"])

    newer = tmp_path / "chart"
    shutil.copytree(CHART, newer)
    file = newer / "files" / "crds" / "queuebacklogpolicies.yaml"
    file.write_text(file.read_text("utf-8").replace("guards a job queue", "guards jobs"), "utf-8")
    values = yaml.safe_dump(NOWHERE)
    upgrade = ("upgrade", "--install", "up", "-n", namespace, "-f", "-", *TAKE)

    cluster.helm(*upgrade, CHART, stdin=values)
    assert "guards a job queue" in described()
    cluster.helm(*upgrade, newer, stdin=values)
    assert "guards jobs" in described()
    cluster.helm("uninstall", "up", "-n", namespace)
    assert "guards jobs" in described()
    cluster.apply_crds(ROOT / "crds")  # for the tests that follow
