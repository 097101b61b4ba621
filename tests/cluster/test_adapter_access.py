"""Rights, secrets and Events on a real API server, under a ServiceAccount without rights."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cluster.support import TARGET, apply, connected, policy, workload

from local.cluster import LocalCluster
from starforge_backlog.api.policy import SecretKeyRef, Target
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.cluster.client import EVENTS, POLICIES, ClusterClient
from starforge_backlog.cluster.errors import ClusterFault, FaultKind
from starforge_backlog.cluster.scale import ReplicaWriter
from starforge_backlog.cluster.secrets import KeyValueStore, SecretReader
from starforge_backlog.cluster.status import StatusWriter, WriteOutcome
from starforge_backlog.cluster.workload import WorkloadReader
from starforge_backlog.report.events import EventPoster, EventType, Posting, Regarding
from starforge_backlog.snapshot import Known, Unknown, Why

pytestmark = pytest.mark.cluster
PLANTED = "hunter2-planted"
REF = SecretKeyRef(name="starforge-db", key="DATABASE_URL")


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[ClusterClient]:
    async with connected(cluster.kubeconfig) as (found, _):
        yield found


@pytest.fixture
def account(cluster: LocalCluster, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of a ServiceAccount without any right, its token in a file."""
    cluster.kubectl("create", "serviceaccount", "-n", namespace, "poor")
    token = cluster.kubectl("create", "token", "-n", namespace, "poor")
    (tmp_path / "token").write_text(token)
    config: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    user = {"tokenFile": str(tmp_path / "token")}
    config["users"] = [{"name": entry["name"], "user": user} for entry in config["users"]]
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return kubeconfig


def secret(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "starforge-db"},
        "stringData": {"DATABASE_URL": url, "OTHER": PLANTED},
    }


def grant(cluster: LocalCluster, namespace: str, *rules: dict[str, list[str]]) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "poor"},
        "rules": list(rules),
    }
    apply(cluster, namespace, role)
    names = (f"--serviceaccount={namespace}:poor", "--role=poor", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "poor", *names)


@pytest.mark.usefixtures("crd")
async def test_without_rights_each_fault_names_the_right_and_the_fix(
    cluster: LocalCluster, namespace: str, account: Path
) -> None:
    apply(cluster, namespace, policy(), workload(), secret("postgres://h/d"))
    async with connected(account) as (client, _):
        reader = WorkloadReader(client, KeyValueStore(client))
        found, _ = await reader.read(namespace, TARGET)
        assert_forbidden(found, "may not get deployments.apps", "rbac.deployments.scale=true")
        target = Target(kind="ReplicaSet", name="x")
        found, _ = await reader.read(namespace, target)
        assert_forbidden(found, "add replicasets.apps to the chart value rbac.extraScaleTargets")
        written = await ReplicaWriter(client).write(namespace, TARGET, replicas=1, version="1")
        assert_forbidden(written, "may not patch deployments/scale.apps")
        read = await SecretReader(KeyValueStore(client)).read(namespace, REF)
        assert_forbidden(read, 'may not get secrets "starforge-db"')
        with pytest.raises(ClusterFault) as caught:
            await client.get(POLICIES, namespace, "etl")
        assert caught.value.kind is FaultKind.FORBIDDEN
        writer = StatusWriter(client)
        writer.current({"metadata": {"uid": "u", "resourceVersion": "1"}})
        status = await writer.write(namespace, "etl", "u", QueueBacklogPolicyStatus(summary="x"))
        assert status.outcome is WriteOutcome.REFUSED
        assert "may not patch queuebacklogpolicies/status" in status.message
        outcomes: list[Posting] = []
        poster = EventPoster(client, instance="pod", count=outcomes.append)
        await poster.post(
            Regarding(namespace, "etl", "u"), EventType.NORMAL, reason="R", action="A", note="n"
        )
        assert outcomes == [Posting.FAILED]


def assert_forbidden(found: object, *says: str) -> None:
    assert isinstance(found, Unknown), found
    assert found.why is Why.NO_PERMISSION
    for text in says:
        assert text in found.message


async def test_pods_that_may_not_be_listed_leave_the_pool_known(
    cluster: LocalCluster, namespace: str, account: Path
) -> None:
    apply(cluster, namespace, workload())
    grant(
        cluster,
        namespace,
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    )
    async with connected(account) as (client, _):
        found, per_replica = await WorkloadReader(client, KeyValueStore(client)).read(
            namespace, TARGET
        )
    assert_forbidden(found, "may not list pods")
    assert isinstance(per_replica, Known), per_replica


async def test_a_bad_token_says_so_and_a_rotated_one_is_picked_up_at_once(
    cluster: LocalCluster, namespace: str, account: Path
) -> None:
    apply(cluster, namespace, workload())
    grant(
        cluster,
        namespace,
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["secrets", "pods"], "verbs": ["get", "list"]},
    )
    token = account.parent / "token"
    good = token.read_text()
    token.write_text("not.a.token")
    async with connected(account) as (client, _):
        reader = WorkloadReader(client, KeyValueStore(client))
        found, _ = await reader.read(namespace, TARGET)
        assert_forbidden(found, "does not know the operator's credentials")
        token.write_text(good)
        found, _ = await reader.read(namespace, TARGET)
        assert isinstance(found, Known), found
        info = await client.credentials.connection_info()
        assert info.as_http_headers() == {"Authorization": f"Bearer {good.strip()}"}


async def test_a_secret_that_is_missing_then_there_then_rotated(
    cluster: LocalCluster, namespace: str, client: ClusterClient
) -> None:
    reader = SecretReader(KeyValueStore(client))
    missing = await reader.read(namespace, REF)
    assert isinstance(missing, Unknown)
    assert missing.why is Why.SECRET_NOT_FOUND
    apply(cluster, namespace, secret("postgres://etl:one@h/d"))
    reader.forget(namespace, "starforge-db")
    first = await reader.read(namespace, REF)
    assert isinstance(first, Known)
    assert first.value == "postgres://etl:one@h/d"
    apply(cluster, namespace, secret("postgres://etl:two@h/d"))
    kept = await reader.read(namespace, REF)
    assert isinstance(kept, Known)
    assert kept.value == "postgres://etl:one@h/d"
    reader.forget(namespace, "starforge-db")
    rotated = await reader.read(namespace, REF)
    assert isinstance(rotated, Known)
    assert rotated.value == "postgres://etl:two@h/d"
    no_key = await reader.read(namespace, SecretKeyRef(name="starforge-db", key="URL"))
    assert isinstance(no_key, Unknown)
    assert "it has the keys DATABASE_URL, OTHER" in no_key.message
    assert PLANTED not in no_key.message


@pytest.mark.usefixtures("crd")
async def test_all_policies_in_pages(
    cluster: LocalCluster,
    namespace: str,
    client: ClusterClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"etl-{n}" for n in range(5)]
    apply(cluster, namespace, *({**policy(), "metadata": {"name": name}} for name in names))
    monkeypatch.setattr("starforge_backlog.cluster.client.OBJECTS_PER_PAGE", 2)
    found = [body["metadata"]["name"] async for body in client.pages(POLICIES, namespace)]
    assert found == names
    everywhere = [body["metadata"]["namespace"] async for body in client.pages(POLICIES, None)]
    assert everywhere.count(namespace) == len(names)


async def test_the_role_shows_through_the_secret_that_the_pods_use(
    cluster: LocalCluster, namespace: str, client: ClusterClient
) -> None:
    apply(cluster, namespace, secret("postgres://etl:one@h/d"), workload())
    _, per_replica = await WorkloadReader(client, KeyValueStore(client)).read(namespace, TARGET)
    assert isinstance(per_replica, Known)
    assert per_replica.value.role == "etl"


@pytest.mark.usefixtures("crd")
async def test_events_show_where_people_read_them(
    cluster: LocalCluster, namespace: str, client: ClusterClient
) -> None:
    apply(cluster, namespace, policy())
    uid = (await client.get(POLICIES, namespace, "etl"))["metadata"]["uid"]
    outcomes: list[Posting] = []
    poster = EventPoster(client, instance="starforge-backlog-0", count=outcomes.append)
    about = Regarding(namespace, "etl", uid)
    for note in ("waiting 5,200 > 5,000 for 10m", "≥" * 2000):
        posted = await poster.post(
            about, EventType.WARNING, reason="BreakerOpened", action="Pause", note=note
        )
        assert posted is Posting.POSTED
    described = cluster.kubectl("describe", "-n", namespace, "qbp/etl")
    assert "BreakerOpened" in described
    assert "waiting 5,200 > 5,000 for 10m" in described
    found = await client.list_objects(EVENTS, namespace, label_selector="")
    assert {event["reportingInstance"] for event in found} == {"starforge-backlog-0"}
    assert outcomes == [Posting.POSTED, Posting.POSTED]


async def test_an_api_server_that_is_away_costs_a_pass_and_no_more(tmp_path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    started = time.monotonic()
    async with connected(tmp_path / "config") as (client, _):
        found, _ = await WorkloadReader(client, KeyValueStore(client)).read("ns", TARGET)
    assert isinstance(found, Unknown)
    assert found.why is Why.UNREACHABLE
    assert time.monotonic() - started < 30
