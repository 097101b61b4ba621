"""Faults of the API server as sentences, and where the configuration comes from."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from starforge_backlog.cluster.credentials import Credentials, NoCluster, Source
from starforge_backlog.cluster.errors import (
    CHART_TARGETS,
    CHART_VALUES,
    Asked,
    FaultKind,
    fault_from_exception,
    fault_from_status,
)
from starforge_backlog.snapshot import Why

CHART = Path(__file__).parents[2] / "charts" / "starforge-backlog"
PODS = Asked("list", "pods", "", "starforge")
SCALE = Asked("patch", "deployments/scale", "apps", "starforge", "etl-worker")
WIDGET = Asked("get", "widgets/scale", "example.com", "starforge", "w")


@pytest.mark.parametrize(
    ("asked", "status", "kind", "why", "says"),
    [
        (PODS, 403, FaultKind.FORBIDDEN, Why.NO_PERMISSION, "may not list pods in namespace"),
        (PODS, 403, FaultKind.FORBIDDEN, Why.NO_PERMISSION, "rbac.create=true"),
        (SCALE, 403, FaultKind.FORBIDDEN, Why.NO_PERMISSION, "rbac.deployments.scale=true"),
        (SCALE, 403, FaultKind.FORBIDDEN, Why.NO_PERMISSION, "may not patch deployments/scale"),
        (
            WIDGET,
            403,
            FaultKind.FORBIDDEN,
            Why.NO_PERMISSION,
            "add widgets.example.com to the chart value rbac.extraScaleTargets",
        ),
        (
            Asked("patch", "configmaps", "", "starforge", "api"),
            403,
            FaultKind.FORBIDDEN,
            Why.NO_PERMISSION,
            "rbac.producers.configMaps.pause=true (where it lists names, add this one to rbac.prod",
        ),
        (
            Asked("patch", "deployments", "apps", "starforge", "crawler"),
            403,
            FaultKind.FORBIDDEN,
            Why.NO_PERMISSION,
            "rbac.producers.deployments.pause=true",
        ),
        (
            Asked("get", "cronjobs", "batch", "starforge", "import"),
            403,
            FaultKind.FORBIDDEN,
            Why.NO_PERMISSION,
            "rbac.producers.cronJobs.pause=true",
        ),
        (
            Asked("list", "scaledobjects", "keda.sh", "starforge"),
            403,
            FaultKind.FORBIDDEN,
            Why.NO_PERMISSION,
            "rbac.autoscalers.scaledObjects.detect=true",
        ),
        (
            Asked("patch", "horizontalpodautoscalers", "autoscaling", "starforge", "etl"),
            403,
            FaultKind.FORBIDDEN,
            Why.NO_PERMISSION,
            "rbac.autoscalers.horizontalPodAutoscalers.guard=true",
        ),
        (PODS, 401, FaultKind.UNAUTHORIZED, Why.NO_PERMISSION, "token is mounted"),
        (SCALE, 404, FaultKind.NOT_FOUND, Why.ERROR, 'deployments/scale.apps "etl-worker"'),
        (SCALE, 409, FaultKind.CONFLICT, Why.ERROR, "changed by another client"),
        (PODS, 429, FaultKind.THROTTLED, Why.UNREACHABLE, "429"),
        (SCALE, 422, FaultKind.INVALID, Why.ERROR, "said this"),
        (PODS, 500, FaultKind.SERVER, Why.ERROR, "500"),
        (PODS, 503, FaultKind.UNREACHABLE, Why.UNREACHABLE, "503"),
        (PODS, 504, FaultKind.TIMEOUT, Why.TIMEOUT, "504"),
    ],
)
def test_answers(asked: Asked, status: int, kind: FaultKind, why: Why, says: str) -> None:
    fault = fault_from_status(asked, status, b'{"kind": "Status", "message": "said this"}')
    assert (fault.kind, fault.why) == (kind, why)
    assert says in fault.message


@pytest.mark.parametrize("status", [400, 403, 409, 422, 429])
def test_what_an_admission_webhook_refuses_is_no_lack_of_a_right(status: int) -> None:
    """It answers with whatever status its author liked."""
    said = b'{"message": "admission webhook \\"guard.example\\" denied the request: frozen"}'
    fault = fault_from_status(SCALE, status, said)
    assert (fault.kind, fault.why) == (FaultKind.DENIED, Why.ADMISSION_REFUSED)
    assert "denied the request: frozen" in fault.message
    assert "rbac." not in fault.message


def test_values_that_messages_name_are_in_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for text in (*CHART_VALUES.values(), CHART_TARGETS):
        for path in re.findall(r"rbac[.\w]+", text):
            found: Any = values
            for part in path.split("."):
                assert part in found, path
                found = found[part]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[]", b"<html>" + b"x" * 10_000])
def test_answers_that_are_no_json(body: bytes) -> None:
    assert len(fault_from_status(PODS, 500, body).message) < 450


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (TimeoutError(), FaultKind.TIMEOUT, Why.TIMEOUT),
        (aiohttp.ServerTimeoutError(), FaultKind.TIMEOUT, Why.TIMEOUT),
        (aiohttp.ServerDisconnectedError(), FaultKind.UNREACHABLE, Why.UNREACHABLE),
        (ConnectionResetError("reset"), FaultKind.UNREACHABLE, Why.UNREACHABLE),
    ],
)
def test_no_answer(error: Exception, kind: FaultKind, why: Why) -> None:
    fault = fault_from_exception(PODS, error)
    assert (fault.kind, fault.why) == (kind, why)
    assert "pods in namespace starforge" in fault.message


IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {tokenFile: %s}}]
"""


def account(folder: Path) -> Path:
    (folder / "token").write_text("first")
    (folder / "ca.crt").write_text("a certificate")
    return folder


def test_a_pod_uses_its_account_and_nothing_else(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("{}")
    environ = {**IN_POD, "KUBECONFIG": str(config)}
    assert Source.find(environ, account(tmp_path)).service_account == tmp_path
    # a pod without a token (automountServiceAccountToken: false) may bring a kubeconfig
    (tmp_path / "token").unlink()
    assert Source.find(environ, tmp_path).kubeconfig == str(config)


def test_nothing_to_connect_to_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="set KUBECONFIG"):
        Source.find({"KUBECONFIG": str(tmp_path / "missing")}, tmp_path)


def test_a_pod_without_a_token_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="automountServiceAccountToken: true"):
        Source.find({**IN_POD, "KUBECONFIG": str(tmp_path / "missing")}, tmp_path)


async def test_an_account_without_an_authority_names_its_folder(tmp_path: Path) -> None:
    (account(tmp_path) / "ca.crt").unlink()
    with pytest.raises(NoCluster, match=re.escape(f"cannot be used: {tmp_path}")):
        await Credentials.load(IN_POD, tmp_path)


async def test_an_api_server_of_an_ipv6_cluster(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00:10:96::1", "KUBERNETES_SERVICE_PORT": "443"}
    info = await (await Credentials.load(environ, account(tmp_path))).connection_info()
    assert info.server == "https://[fd00:10:96::1]:443"


async def test_a_broken_kubeconfig_is_no_traceback(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("current-context: nowhere\n")
    with pytest.raises(NoCluster, match="cannot be used"):
        await Credentials.load({"KUBECONFIG": str(config)}, tmp_path)


@pytest.mark.parametrize("in_pod", [True, False])
async def test_rotated_tokens_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_pod: bool
) -> None:
    environ = IN_POD
    if not in_pod:
        config = tmp_path / "config"
        config.write_text(KUBECONFIG % (tmp_path / "token"))
        environ = {"KUBECONFIG": str(config)}
    credentials = await Credentials.load(environ, account(tmp_path))
    (tmp_path / "token").write_text("second")

    async def header() -> str:
        settings = await credentials.configuration.auth_settings()
        return str(settings["BearerToken"]["value"])

    assert (await header()).lower() == "bearer first"
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (await header()).lower() == "bearer second"
    # a mount that is just being swapped keeps the token that we have
    (tmp_path / "token").unlink()
    monkeypatch.setattr(time, "monotonic", lambda: later + 61)
    assert (await header()).lower() == "bearer second"


async def test_kopf_gets_the_same_token(tmp_path: Path) -> None:
    credentials = await Credentials.load(IN_POD, account(tmp_path))
    (tmp_path / "token").write_text("second\n")
    info = await credentials.connection_info()
    assert info.server == "https://10.0.0.1:443"
    assert info.as_http_headers() == {"Authorization": "Bearer second"}
    assert info.ca_path == str(tmp_path / "ca.crt")


def test_a_namespace_that_is_being_deleted_is_no_lack_of_a_right() -> None:
    """As the API server words it, and as it reports it to programs."""
    body = {
        "message": 'events.events.k8s.io "x" is forbidden: unable to create new content in'
        " namespace starforge because it is being terminated",
        "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
    }
    asked = Asked("create", "events", "events.k8s.io", "starforge")
    fault = fault_from_status(asked, 403, json.dumps(body).encode())
    assert fault.kind is FaultKind.NAMESPACE_TERMINATING
    assert fault.message == (
        "namespace starforge is being deleted, so the API server takes no new events there"
    )
    for details in ({}, {"causes": None}, {"causes": ["x"]}, {"causes": [{"reason": "Other"}]}):
        said = json.dumps({"message": "no", "details": details}).encode()
        assert fault_from_status(asked, 403, said).kind is FaultKind.FORBIDDEN
