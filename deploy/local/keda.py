"""A real KEDA beside the control plane: its operator, its metrics adapter, its admission webhooks.

Plain processes under KEDA's own ServiceAccount and Roles, which are read from the Go module. They
are built by `make keda` and never by a test: that takes longer than everything else together.

    front = FrontProxy.make(run_dir)
    with LocalCluster(run_dir=run_dir, apiserver_flags=front.apiserver_flags()) as cluster:
        with keda(cluster):
            ...

The adapter's `--port` listens on all addresses and nothing narrows it: run it in a network
namespace of its own (`python -m local.netns …`) where others must not see it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import yaml

from local import build
from local.certificates import Authority, KeyPair
from local.cluster import LocalCluster
from local.errors import LocalError
from local.go import find_go
from local.kubeconfig import write_kubeconfig
from local.ports import free_ports
from local.processes import RUN_VARIABLE, Child, spawn, wait_until
from local.progress import say
from local.tools import KEDA

NAMESPACE: Final = "keda"
ACCOUNT: Final = "keda-operator"
METRICS_API: Final = "v1beta1.external.metrics.k8s.io"
WEBHOOKS: Final = "keda-admission"
SCALED_OBJECT_PATH: Final = "/validate-keda-sh-v1alpha1-scaledobject"
FOLDER: Final = "keda"  # of a run: certificates, kubeconfig, and ...
WEBHOOK_PORT: Final = "webhook-port"  # ... where the admission webhook listens
_MODULE: Final = "github.com/kedacore/keda/v2"
# The certificate is verified for these names, whatever address is dialled.
_HOSTS: Final = (
    "localhost",
    "127.0.0.1",
    "keda-metrics-apiserver.keda.svc",
    "keda-operator.keda.svc",
    "keda-admission-webhooks.keda.svc",
)
# Three times what it takes on a busy machine.
READY_WITHIN: Final = 60.0
# Finalizers of KEDA's are taken off by KEDA: it must not stop before they are gone.
OBJECTS_GONE_WITHIN: Final = 30.0


def built() -> dict[str, Path] | None:
    """Where KEDA's programs are; None: `make keda` was not run here."""
    return build.built(KEDA.packages, KEDA)


@dataclass(frozen=True)
class FrontProxy:
    """Whom the API server shows itself as to the adapter (the aggregation layer). An authority of
    its own: the one that signs clients would make every client a proxy."""

    authority: Authority
    pair: KeyPair

    @classmethod
    def make(cls, run_dir: Path) -> Self:
        """Before the API server starts."""
        authority = Authority(run_dir / "front-proxy")
        return cls(authority, authority.issue("front-proxy-client"))

    def apiserver_flags(self) -> tuple[str, ...]:
        """For `LocalCluster(apiserver_flags=…)`."""
        return (
            f"--requestheader-client-ca-file={self.authority.certificate_file}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={self.pair.certificate}",
            f"--proxy-client-key-file={self.pair.key}",
        )


@contextlib.contextmanager
def keda(cluster: LocalCluster) -> Iterator[None]:
    """Ready when the block begins: the external metrics API is `Available`. On the way out the
    ScaledObjects go first, or their finalizers and the APIService would hold every namespace.

    Raises LocalError where KEDA is not built.
    """
    programs = built()
    if programs is None:
        raise LocalError("KEDA is not built for this user. Run `make keda` (15 to 40 minutes).")
    with contextlib.ExitStack() as stack:
        _start(cluster, programs, stack)
        yield
        _retire(cluster)


def admit(cluster: LocalCluster, namespace: str) -> None:
    """Have KEDA's admission webhook asked for each write of a ScaledObject of a namespace. `Fail`,
    where KEDA ships `Ignore`: one that does not answer must be noticed here."""
    authority = cluster.run_dir / FOLDER / "ca.crt"
    port = (cluster.run_dir / FOLDER / WEBHOOK_PORT).read_text()
    hook: dict[str, Any] = {
        "name": "vscaledobject.kb.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "url": f"https://localhost:{port}{SCALED_OBJECT_PATH}",
            "caBundle": _base64(authority.read_bytes()),
        },
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [
            {
                "apiGroups": ["keda.sh"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["scaledobjects"],
            }
        ],
    }
    cluster.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": WEBHOOKS},
            "webhooks": [hook],
        }
    )


def _retire(cluster: LocalCluster) -> None:
    """Take away what would outlive the processes and hold others up."""
    kubectl = cluster.kubectl
    kubectl("delete", "validatingwebhookconfiguration", WEBHOOKS, "--ignore-not-found")
    kubectl(
        *("delete", "scaledobjects.keda.sh", "-A", "--all"), f"--timeout={OBJECTS_GONE_WITHIN:g}s"
    )
    kubectl("delete", "apiservice", METRICS_API, "--ignore-not-found")


def _start(
    cluster: LocalCluster, programs: Mapping[str, Path], stack: contextlib.ExitStack
) -> None:
    config = _module_folder() / "config"
    cluster.apply_crds(config / "crd" / "bases")
    _grant(cluster, config)
    folder = cluster.run_dir / FOLDER
    authority = Authority(folder)
    pair = authority.issue("tls", hosts=_HOSTS)
    kubeconfig = _kubeconfig(cluster, folder)
    health, metrics, grpc, secure, adapter_metrics, webhook, *webhook_ports = free_ports(8)
    (folder / WEBHOOK_PORT).write_text(str(webhook))
    environment = {
        **os.environ,
        RUN_VARIABLE: cluster.run,
        "KUBECONFIG": str(kubeconfig),
        "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE,
        "WATCH_NAMESPACE": "",
    }
    children: list[Child] = []

    def launch(name: str, flags: Sequence[str]) -> Child:
        log = cluster.run_dir / "logs" / f"{name}.log"
        child = spawn(name, [programs[name], *flags], log=log, env=environment)
        stack.callback(child.kill)
        children.append(child)
        return child

    launch(
        "keda-operator",
        [
            "--leader-elect=false",
            "--enable-cert-rotation=false",
            f"--cert-dir={folder}",
            "--zap-encoder=console",
            f"--metrics-bind-address=127.0.0.1:{metrics}",
            f"--health-probe-bind-address=127.0.0.1:{health}",
            f"--metrics-service-bind-address=127.0.0.1:{grpc}",
        ],
    )
    launch(
        "keda-adapter",
        [
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--port={adapter_metrics}",
            f"--metrics-service-address=localhost:{grpc}",
            f"--cert-dir={folder}",
            f"--client-ca-file={authority.certificate_file}",
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            f"--lister-kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
        ],
    )
    launch(
        "keda-webhooks",
        [
            f"--cert-dir={folder}",
            f"--port={webhook}",
            f"--metrics-bind-address=127.0.0.1:{webhook_ports[0]}",
            f"--health-probe-bind-address=127.0.0.1:{webhook_ports[1]}",
        ],
    )
    _serve_metrics(cluster, authority, secure)
    wait_until(
        lambda: _available(cluster),
        timeout=READY_WITHIN,
        what="starting KEDA",
        alive=children,
        every=0.2,
    )


def _module_folder() -> Path:
    """The sources, for their YAML."""
    done = subprocess.run(
        [str(find_go((1, 26))), "mod", "download", "-json", _MODULE],
        cwd=KEDA.module,
        env={**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(f"Go does not find the sources of KEDA: {done.stderr[-500:]}")
    return Path(json.loads(done.stdout)["Dir"])


def _grant(cluster: LocalCluster, config: Path) -> None:
    """KEDA's ServiceAccount with the rights that it has anywhere."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for file in (
        *("service_account/service_account.yaml", "rbac/role.yaml", "rbac/role_binding.yaml"),
        *("metrics-server/role.yaml", "metrics-server/role_binding.yaml"),
    ):
        cluster.kubectl("apply", "-f", config / file)


def _kubeconfig(cluster: LocalCluster, folder: Path) -> Path:
    assert cluster.control_plane is not None
    token = cluster.kubectl(
        *("create", "token", ACCOUNT, "-n", NAMESPACE, "--duration=12h")
    ).strip()
    path = folder / "kubeconfig"
    write_kubeconfig(
        path,
        server=cluster.control_plane.url,
        authority=cluster.control_plane.authority.certificate_file.read_bytes(),
        user={"token": token},
    )
    return path


def _serve_metrics(cluster: LocalCluster, authority: Authority, port: int) -> None:
    """An ExternalName Service: this cluster has no endpoints, and those refuse loopback."""
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "keda-metrics-apiserver", "namespace": NAMESPACE},
        "spec": {
            "type": "ExternalName",
            "externalName": "localhost",
            "ports": [{"name": "https", "port": port}],
        },
    }
    api: dict[str, Any] = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": METRICS_API},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": _base64(authority.certificate_file.read_bytes()),
            "service": {"name": "keda-metrics-apiserver", "namespace": NAMESPACE, "port": port},
        },
    }
    cluster.apply(yaml.safe_dump(service), namespace=NAMESPACE)
    cluster.apply(yaml.safe_dump(api))


def _available(cluster: LocalCluster) -> bool:
    found = cluster.get("apiservice", METRICS_API)
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def main() -> int:
    """Whether KEDA is built, for those who can do without: 0 or 1, and a line."""
    if built() is not None:
        return 0
    say("KEDA is not built for this user (`make keda`): guardrail mode is not tried beside it")
    return 1


if __name__ == "__main__":
    sys.exit(main())
