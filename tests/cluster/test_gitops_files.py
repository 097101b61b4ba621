"""What is shipped for pipelines: name references in a real kustomize, Argo CD's health in a Lua."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.cluster.shown import ROOT

from local import build
from local.commands import Command
from local.redis import RedisServer
from reference.crd import schema

FILES: Final = ROOT / "deploy" / "gitops"
REFERENCES: Final = FILES / "kustomize" / "name-references.yaml"
HEALTH: Final = FILES / "argocd" / "health.lua"
# Every reference of a policy, before kustomize.
POLICY: Final = """
apiVersion: backlog.starforge.dev/v1alpha1
kind: QueueBacklogPolicy
metadata: {name: etl}
spec:
  target: {name: etl-worker, guard: {scaledObject: etl-worker}}
  database:
    url: {secretKeyRef: {name: starforge-db, key: url}}
  queues:
    - {name: a, bullmq: {name: q, url: {secretKeyRef: {name: starforge-db, key: redis}}}}
  producers:
    - {name: api, configMap: {name: ingest-api}}
    - {name: nightly, workload: {kind: CronJob, name: nightly}}
    - name: hook
      webhook: {url: "https://a", secret: {secretKeyRef: {name: starforge-db, key: k}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: etl-worker}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: etl-worker}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
"""
KUSTOMIZATION: Final = """
configurations: [name-references.yaml]
namePrefix: team-a-
resources: [policy.yaml]
secretGenerator:
  - {name: starforge-db, literals: [url=x, redis=y, k=z]}
configMapGenerator:
  - {name: ingest-api, literals: [ingest_paused=false]}
"""


@pytest.mark.cluster
def test_names_follow_a_prefix_and_the_hashes_of_generators(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "kustomization.yaml").write_text(KUSTOMIZATION)
    (tmp_path / REFERENCES.name).write_text(REFERENCES.read_text())
    kubectl = Command(build.ensure(("kubectl",))["kubectl"], {})
    built = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path))))
    names = {one["kind"]: one["metadata"]["name"] for one in built}
    (spec,) = (one["spec"] for one in built if one["kind"] == "QueueBacklogPolicy")
    assert re.fullmatch(r"team-a-starforge-db-\w{10}", names["Secret"])
    secrets = [found["name"] for found in _all(spec, "secretKeyRef")]
    assert secrets == [names["Secret"]] * 3
    assert spec["target"] == {
        "name": "team-a-etl-worker",
        "guard": {"scaledObject": "team-a-etl-worker"},
    }
    config_map, workload = spec["producers"][0]["configMap"], spec["producers"][1]["workload"]
    assert (config_map["name"], workload["name"]) == (names["ConfigMap"], "team-a-nightly")


def test_every_secret_of_a_policy_follows() -> None:
    """A field that comes later needs its line."""
    secrets = yaml.safe_load(REFERENCES.read_text())["nameReference"][0]
    listed = {spec["path"] for spec in secrets["fieldSpecs"]}
    assert listed == set(_paths(schema()["properties"]["spec"], "spec"))


def test_the_config_map_of_argocd_has_the_script() -> None:
    data = yaml.safe_load((FILES / "argocd" / "argocd-cm.yaml").read_text())["data"]
    (script,) = data.values()
    assert script.strip() == HEALTH.read_text().strip()


def condition(kind: str, status: str, reason: str, generation: int = 2) -> Mapping[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": f"of {reason}",
        "observedGeneration": generation,
    }


READY: Final = condition("Ready", "True", "AllReadable")


@pytest.mark.redis
@pytest.mark.parametrize(
    ("conditions", "health", "message"),
    [
        (None, "Progressing", "waiting"),
        ([], "Progressing", "waiting"),
        ([condition("Ready", "True", "AllReadable", 1)], "Progressing", "this generation"),
        ([condition("Ready", "False", "HostUnknown", 1)], "Progressing", "this generation"),
        ([condition("Ready", "False", "TargetTaken")], "Degraded", "TargetTaken: of TargetTaken"),
        ([READY], "Healthy", "steady"),
        ([READY, condition("BacklogHealthy", "False", "ProducerStorm")], "Healthy", "steady"),
        ([READY, condition("ProducersRunning", "False", "PausedByBreaker")], "Healthy", "steady"),
        ([READY, condition("ProducersRunning", "False", "ReleaseFailed")], "Degraded", "of Rel"),
        ([READY, condition("Scaling", "False", "Held")], "Suspended", "of Held"),
        ([READY, condition("Scaling", "False", "Suspended")], "Suspended", "of Suspended"),
        ([READY, condition("Scaling", "False", "BudgetExhausted")], "Healthy", "steady"),
    ],
)
def test_the_health_script_in_a_real_lua(
    redis_server: RedisServer,
    conditions: list[Mapping[str, Any]] | None,
    health: str,
    message: str,
) -> None:
    """Redis has Lua 5.1, as Argo CD has."""
    status = {} if conditions is None else {"summary": "steady", "conditions": conditions}
    policy = {"metadata": {"generation": 2}, **({"status": status} if status else {})}
    script = (
        "local obj = cjson.decode(ARGV[1])\n"
        f"local function health()\n{HEALTH.read_text()}\nend\n"
        "return cjson.encode(health())"
    )
    with redis_server.client() as client:
        said = json.loads(str(client.eval(script, 0, json.dumps(policy))))
    assert said["status"] == health
    assert message in said["message"]


def _all(found: object, name: str) -> Iterator[Any]:
    if isinstance(found, dict):
        for key, value in found.items():
            if key == name:
                yield value
            yield from _all(value, name)
    elif isinstance(found, list):
        for item in found:
            yield from _all(item, name)


def _paths(field: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, below in field.get("properties", {}).items():
        if name == "secretKeyRef":
            yield f"{path}/{name}/name"
        yield from _paths(below.get("items", below), f"{path}/{name}")
