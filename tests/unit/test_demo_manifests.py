"""Manifests, tunnels and commands of the places that need a cluster or Docker to run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from demo import database, kind, remote
from demo.install import KEYS
from demo.manifests import manifest
from demo.scenario import HEADROOM, MAX_CONNECTIONS, PER_REPLICA, SCENARIOS, SURGE
from local.errors import LocalError
from starforge_backlog.api.policy import QueueBacklogPolicySpec

WORKLOADS = manifest("workloads", IMAGE="image", WEB_CONNECTIONS=40, JOB_MS=400)


def test_the_policy_is_one() -> None:
    policy = yaml.safe_load(manifest("policy", TRIP_WAITING=2000))
    spec = QueueBacklogPolicySpec.model_validate(policy["spec"])
    assert spec.database is not None
    assert spec.database.url is not None
    assert spec.database.headroom == HEADROOM
    assert spec.database.url.secret_key_ref.key in KEYS


def test_scenarios_say_what_the_manifests_say() -> None:
    deployments = {d["metadata"]["name"]: d["spec"] for d in yaml.safe_load_all(WORKLOADS)}
    worker = deployments["etl-worker"]
    (container,) = worker["template"]["spec"]["containers"]
    environment = {e["name"]: e.get("value") for e in container["env"]}
    assert environment["PG_POOL_MAX"] == str(PER_REPLICA)
    assert worker["strategy"]["rollingUpdate"]["maxSurge"] == SURGE


def test_every_secret_key_that_a_pod_wants_is_made() -> None:
    texts = (
        WORKLOADS,
        manifest("storm", IMAGE="image", API_IP="127.0.0.1", SCHEDULE="9s@1"),
        manifest("stranger", IMAGE="image", STRANGER_CONNECTIONS=60),
    )
    wanted = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for text in texts
        for document in yaml.safe_load_all(text)
        for container in document["spec"].get("template", document)["spec"]["containers"]
        for variable in container["env"]
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    assert wanted <= set(KEYS)


def test_a_forgotten_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="JOB_MS"):
        manifest("workloads", IMAGE="image", WEB_CONNECTIONS=40)


def test_the_other_client_takes_60_percent() -> None:
    assert SCENARIOS["pressure"].stranger_connections == MAX_CONNECTIONS * 0.6


def test_each_role_gets_its_own_url() -> None:
    admin = "postgresql://postgres:secret@127.0.0.1:5432/postgres"
    url = database.url_for(admin, "etl", "p/w", host="10.0.0.7:5432")
    assert url == "postgresql://starforge_etl:p%2Fw@10.0.0.7:5432/postgres"


def test_every_role_has_a_password_in_the_statement() -> None:
    text = database.statement("roles")
    for who, role in database.ROLES.items():
        assert f"CREATE ROLE {role} LOGIN PASSWORD {{{who}}}" in text


def test_kind_builds_before_it_makes_the_cluster_and_loads_last() -> None:
    commands = kind.commands("demo:1", "operator:1", Path("/tmp/kubeconfig"))
    assert [c[:2] for c in commands] == [
        ["docker", "build"],
        ["docker", "build"],
        ["kind", "create"],
        ["kind", "load"],
    ]
    assert "/tmp/kubeconfig" in commands[2]
    assert {"demo:1", "operator:1"} <= set(commands[3])


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalError, match="`docker` is not on PATH"):
        kind.must_have_programs()


def test_the_tunnel_chooses_its_own_port(tmp_path: Path) -> None:
    command = remote.forward_command(Path("/bin/kubectl"), "postgres", 5432)
    assert command[1:] == ["port-forward", "-n", "starforge", "pod/postgres", ":5432"]
    log = tmp_path / "log"
    assert remote.forwarded_port(log) is None
    log.write_text("Forwarding from 127.0.0.1:40123 -> 5432\nForwarding from [::1]:40123\n")
    assert remote.forwarded_port(log) == 40123
