"""The resource as people meet it: through kubectl."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from tests.cluster.crd_examples import MINIMAL, edited, minimal, parsed
from tests.cluster.crd_policies import Policies

from local.cluster import LocalCluster
from local.commands import CommandError
from starforge_backlog.api.policy import QueueBacklogPolicySpec

pytestmark = pytest.mark.cluster

# The policy's shape as users were first shown it, to the letter.
SHAPE = """
apiVersion: backlog.starforge.dev/v1alpha1
kind: QueueBacklogPolicy
metadata: {name: shape}
spec:
  mode: Enforce
  interval: 15s
  target:
    {name: etl-worker, minReplicas: 1, maxReplicas: 20, connectionsPerReplica: {env: PG_POOL_MAX}}
  database:
    url: {secretKeyRef: {name: starforge-db, key: DATABASE_URL}}
    headroom: 20
  queues:
    - name: jobs
      postgres: {table: queue_jobs}
      objectives: {waiting: 500, oldestAge: 30m, failedPercent: 1, for: 5m}
  scaling: {stepUp: 2, observeFor: 90s, stepDown: 1, scaleDownAfter: 10m}
  producers:
    - name: ingestion
      featureFlag: {table: feature_flags, name: ingest_control, path: [ingest_paused]}
  breakers:
    - name: ingestion
      pause: [ingestion]
      trip:                       # any of them; each has exactly one signal
        - {waiting: 5000, for: 10m}
        - {oldestAge: 30m, for: 5m}
        - {failedPercent: 5, for: 5m, minSamples: 20}
        - {databaseUtilizationPercent: 90, for: 2m}
      recover: {belowPercent: 50, for: 2m, probeFor: 5m}   # percent of the trip value
"""

STATUS = {
    "state": "Enforce",
    "replicaCounts": "8 (8 ready)",
    "waiting": "12k",
    "oldest": "41m",
    "cause": "ProducerStorm",
    "pausedNames": "ingestion",
    "summary": "paused ingestion, 12k waiting, draining",
    "scaling": {"budgetReplicas": 16},
    "conditions": [
        {
            "type": "BacklogHealthy",
            "status": "False",
            "reason": "Waiting",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ],
}


@pytest.fixture(scope="module")
def policies(cluster: LocalCluster, crd: None) -> Iterator[Policies]:
    """A namespace of a real API server with the CRD as it is committed."""
    yield from Policies.opened(cluster, NAMESPACE)


NAMESPACE = "crd-kubectl"


@pytest.fixture
def applied(policies: Policies, cluster: LocalCluster) -> Iterator[str]:
    """The minimal policy, applied by kubectl; its name."""
    cluster.apply(MINIMAL, namespace=NAMESPACE)
    yield "etl"
    policies.delete("etl")


def explained(cluster: LocalCluster, field: str) -> str:
    """What `kubectl explain` says, on one line."""

    def ask() -> str | None:
        try:
            return cluster.kubectl("explain", f"qbp.{field}")
        except CommandError as error:
            # It reads the API server's OpenAPI, which follows a new CRD a moment later.
            if "couldn't find resource" not in error.stderr:
                raise
            return None

    return " ".join(cluster.eventually(ask, what="the CRD in the server's OpenAPI").split())


@pytest.mark.usefixtures("policies")
def test_explain_reads_like_documentation(cluster: LocalCluster) -> None:
    assert (
        "FIELD: stepUp <integer> DESCRIPTION: Replicas that one up-step adds at most. The runbook"
        " says 1–2, then observe" in explained(cluster, "spec.scaling.stepUp")
    )
    assert "Default: 2. From 1 to 10." in explained(cluster, "spec.scaling.stepUp")
    assert "Default: 1m30s. From 2s to 1h." in explained(cluster, "spec.scaling.observeFor")
    assert "Default: [ingest_paused]." in explained(cluster, "spec.producers.featureFlag.path")
    assert "ENUM: Enforce Observe" in explained(cluster, "spec.mode")


def test_the_columns_answer_on_call(
    cluster: LocalCluster, policies: Policies, applied: str
) -> None:
    dead = datetime.now(UTC) - timedelta(minutes=25)  # the operator
    last_pass = dead.isoformat(timespec="seconds").replace("+00:00", "Z")
    policies.set_status(applied, {**STATUS, "lastPassTime": last_pass}, keep=True)
    head, row = cluster.kubectl("get", "qbp", "-n", NAMESPACE).splitlines()
    assert " ".join(head.split()) == (
        "NAME STATE REPLICAS BUDGET WAITING OLDEST CAUSE HEALTHY PAUSED LAST PASS AGE"
    )
    assert " ".join(row.split()[:-1]) == (
        "etl Enforce 8 (8 ready) 16 12k 41m ProducerStorm False ingestion 25m"
    )
    head, row = cluster.kubectl("get", "starforge", "-n", NAMESPACE, "-o", "wide").splitlines()
    assert head.split()[-1] == "SUMMARY"
    assert row.endswith("paused ingestion, 12k waiting, draining")


@pytest.mark.usefixtures("applied")
def test_defaults_are_shown(cluster: LocalCluster) -> None:
    spec = cluster.get("qbp", "etl", "-n", NAMESPACE)["spec"]
    assert spec["interval"] == "15s"
    assert spec["scaling"]["stepUp"] == 2
    assert spec["target"]["connectionsPerReplica"] == {"processes": 1, "extra": 0}
    assert spec["queues"][0]["objectives"] == {"waiting": 500, "failedPercent": 1, "for": "5m"}


@pytest.mark.parametrize("text", [MINIMAL, SHAPE])
def test_the_servers_defaults_are_the_models(policies: Policies, text: str) -> None:
    served = QueueBacklogPolicySpec.model_validate(policies.create(parsed(text))["spec"])
    assert served == QueueBacklogPolicySpec.model_validate(parsed(text)["spec"])


@pytest.mark.usefixtures("policies")
def test_a_typo_is_refused_by_name(cluster: LocalCluster) -> None:
    typo = edited(minimal(), {"spec.scaling": {"stepup": 1}, "spec.queues.0.objective": {}})
    with pytest.raises(CommandError) as refused:
        cluster.apply(yaml.safe_dump(typo), namespace=NAMESPACE)
    assert 'unknown field "spec.scaling.stepup"' in refused.value.stderr
    assert 'unknown field "spec.queues[0].objective"' in refused.value.stderr


@pytest.mark.usefixtures("policies")
def test_without_validation_a_typo_is_pruned_and_does_not_become_a_value(
    cluster: LocalCluster,
) -> None:
    typo = edited(minimal(), {"metadata.name": "typo", "spec.scaling": {"stepup": 7}})
    created = cluster.kubectl(
        "create", "-n", NAMESPACE, "--validate=ignore", "--dry-run=server", "-o", "yaml", "-f", "-",
        stdin=yaml.safe_dump(typo),
    )  # fmt: skip
    scaling = yaml.safe_load(created)["spec"]["scaling"]
    assert "stepup" not in scaling
    assert scaling["stepUp"] == 2


def test_a_spec_cannot_write_the_status_nor_a_status_the_spec(
    cluster: LocalCluster, policies: Policies, applied: str
) -> None:
    stored = policies.set_status(applied, STATUS, keep=True)
    updated = policies.update(edited(stored, {"status.summary": "forged"}), keep=True)
    assert updated["status"]["summary"] == STATUS["summary"]
    patch = '{"spec": {"mode": "Observe"}, "status": {"summary": "seen"}}'
    cluster.kubectl(
        *("patch", "qbp", applied, "-n", NAMESPACE, "--subresource=status"),
        *("--type=merge", "-p", patch),
    )
    patched = cluster.get("qbp", applied, "-n", NAMESPACE)
    assert (patched["spec"]["mode"], patched["status"]["summary"]) == ("Enforce", "seen")
