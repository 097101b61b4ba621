"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler on free loopback ports.

The real programs with real authorization; what is switched off is what a loopback cluster has no
use for. The data is thrown away at the end, so nothing is flushed to disk and stopping is a kill
(a graceful stop takes over ten seconds).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local import build
from local.certificates import Authority, KeyPair, signing_key
from local.kubeconfig import client_certificate, write_kubeconfig
from local.ports import AddressTakenError, free_ports, was_taken
from local.processes import RUN_VARIABLE, Child, spawn, wait_until

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

CONTROLLERS = (
    "serviceaccount-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "cronjob-controller",
    "ttl-after-finished-controller",
    "disruption-controller",
    "horizontal-pod-autoscaler-controller",
    "clusterrole-aggregation-controller",
    "root-ca-certificate-publisher-controller",
)
"""No endpoints: pods live on loopback addresses, which endpoints refuse. No node lifecycle: it
would taint the one node whenever this machine stalls for a moment."""

NODE_CONTROLLERS = ("endpoints-controller", "endpointslice-controller")
"""In addition where a real node gives pods addresses of their own."""

START_ATTEMPTS = 3
READY_WITHIN = 240.0
"""Five seconds alone; a hundred were not enough where twenty processes wanted two cores."""


@dataclass(frozen=True)
class Reach:
    """From where the API server is reached."""

    address: str = "127.0.0.1"
    services: str = "10.96.0.0/16"
    api_service: str = "10.96.0.1"
    """The first address of `services`: the API server's own Service."""
    real_node: bool = False
    """A kubelet registers with a certificate of its own, and Services have endpoints."""


@dataclass(frozen=True)
class ControlPlane:
    url: str
    kubeconfig: Path
    """For `system:masters`: what tests and people use, never what a pod gets."""
    authority: Authority
    programs: dict[str, Path]
    children: tuple[Child, ...]
    run_dir: Path

    @classmethod
    def start(
        cls,
        run_dir: Path,
        *,
        run: str | None = None,
        controllers: Sequence[str] = CONTROLLERS,
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
        reach: Reach = Reach(),
    ) -> ControlPlane:
        """Ready when this returns: the API answers, controllers and scheduler have begun."""
        programs = build.ensure(PROGRAMS)
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                return _start(
                    programs,
                    run_dir,
                    run=run or str(run_dir),
                    controllers=(*controllers, *(NODE_CONTROLLERS if reach.real_node else ())),
                    extra=apiserver_flags,
                    controller_flags=controller_flags,
                    reach=reach,
                )
            except AddressTakenError:
                if attempt == START_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def stop(self) -> None:
        for child in reversed(self.children):
            child.kill()
        shutil.rmtree(self.run_dir / "etcd", ignore_errors=True)


def _start(
    programs: dict[str, Path],
    run_dir: Path,
    *,
    run: str,
    controllers: Sequence[str],
    extra: Sequence[str],
    controller_flags: Sequence[str],
    reach: Reach,
) -> ControlPlane:
    shutil.rmtree(run_dir / "etcd", ignore_errors=True)
    logs = run_dir / "logs"
    for name in PROGRAMS:
        (logs / f"{name}.log").unlink(missing_ok=True)
    authority = Authority(run_dir / "certificates")
    names = ("localhost", "kubernetes.default.svc", reach.api_service)
    serving = authority.issue("kube-apiserver", hosts=("127.0.0.1", reach.address, *names))
    admin = authority.issue("admin", groups=("system:masters",))
    etcd_port, peer_port, port = free_ports(3)
    kubeconfig = run_dir / "kubeconfig"
    url = f"https://{reach.address}:{port}"
    write_kubeconfig(
        kubeconfig,
        server=url,
        authority=authority.certificate_file.read_bytes(),
        user=client_certificate(admin),
    )
    environment = {**os.environ, RUN_VARIABLE: run}
    children: list[Child] = []

    def launch(name: str, flags: Sequence[str]) -> Child:
        child = spawn(name, [programs[name], *flags], log=logs / f"{name}.log", env=environment)
        children.append(child)
        return child

    with _killed_on_failure(children):
        launch("etcd", _etcd_flags(run_dir / "etcd", authority, serving, etcd_port, peer_port))
        tokens = signing_key(authority.folder, "service-account")
        flags = [
            *_apiserver_flags(authority, serving=serving, client=admin, tokens=tokens),
            *_reach_flags(reach),
        ]
        where = (f"--etcd-servers=https://127.0.0.1:{etcd_port}", f"--secure-port={port}")
        launch("kube-apiserver", [*where, *flags, *extra])
        wait_until(
            _answers_ok(f"{url}/readyz", authority, admin),
            timeout=READY_WITHIN,
            what="starting the API server",
            alive=children,
        )
        # Not before: a controller manager that finds no API server waits for ten seconds.
        managed = [*_controller_manager_flags(kubeconfig, controllers), *controller_flags]
        launch("kube-controller-manager", managed)
        launch("kube-scheduler", _scheduler_flags(run_dir, kubeconfig))
        # It makes this account; a pod that comes earlier would be refused.
        account = f"{url}/api/v1/namespaces/default/serviceaccounts/default"
        wait_until(
            _answers_ok(account, authority, admin),
            timeout=READY_WITHIN,
            what="starting the controller manager",
            alive=children,
        )
        return ControlPlane(url, kubeconfig, authority, programs, tuple(children), run_dir)


@contextlib.contextmanager
def _killed_on_failure(children: list[Child]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for child in reversed(children):
            child.kill()
        taken = next((c for c in children if was_taken(c.log)), None)
        if taken is not None and isinstance(error, Exception):
            raise AddressTakenError(
                f"{taken.name} found its port taken by another program, {START_ATTEMPTS} times "
                "over. Free some loopback ports and start again."
            ) from error
        raise


def _etcd_flags(
    data: Path, authority: Authority, pair: KeyPair, port: int, peer_port: int
) -> list[str]:
    """Client certificates, because everybody on this machine can reach a loopback port."""
    peer = f"http://127.0.0.1:{peer_port}"
    return [
        f"--data-dir={data}",
        f"--listen-client-urls=https://127.0.0.1:{port}",
        f"--advertise-client-urls=https://127.0.0.1:{port}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        f"--trusted-ca-file={authority.certificate_file}",
        "--client-cert-auth",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver_flags(
    authority: Authority, *, serving: KeyPair, client: KeyPair, tokens: KeyPair
) -> list[str]:
    return [
        f"--etcd-cafile={authority.certificate_file}",
        f"--etcd-certfile={client.certificate}",
        f"--etcd-keyfile={client.key}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.certificate_file}",
        f"--kubelet-client-certificate={client.certificate}",
        f"--kubelet-client-key={client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=RBAC",
        "--anonymous-auth=false",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        # It would keep the node tainted until a node lifecycle controller says it is ready.
        "--disable-admission-plugins=TaintNodesByCondition",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def _reach_flags(reach: Reach) -> list[str]:
    flags = [
        f"--bind-address={reach.address}",
        f"--advertise-address={reach.address}",
        f"--service-cluster-ip-range={reach.services}",
    ]
    if reach.real_node:
        # Given a second time, a mode is added. With RBAC alone a kubelet may not even register.
        return [
            *(*flags, "--endpoint-reconciler-type=lease"),
            *("--authorization-mode=Node", "--enable-admission-plugins=NodeRestriction"),
        ]
    # A loopback address is not a valid endpoint, so there is nothing to reconcile.
    return [*flags, "--endpoint-reconciler-type=none"]


def _controller_manager_flags(kubeconfig: Path, controllers: Sequence[str]) -> list[str]:
    """Without credentials per controller the default ServiceAccount is there 5 s earlier."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--controllers={','.join(controllers)}",
        f"--root-ca-file={kubeconfig.parent / 'certificates' / 'ca.crt'}",
        "--use-service-account-credentials=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
    ]


def _scheduler_flags(run_dir: Path, kubeconfig: Path) -> list[str]:
    settings = run_dir / "kube-scheduler.yaml"
    settings.write_text(
        "apiVersion: kubescheduler.config.k8s.io/v1\n"
        "kind: KubeSchedulerConfiguration\n"
        "leaderElection: {leaderElect: false}\n"
        f"clientConnection: {{kubeconfig: '{kubeconfig}', qps: 500, burst: 1000}}\n"
    )
    return [f"--config={settings}", "--secure-port=0"]


def _answers_ok(url: str, authority: Authority, client: KeyPair) -> Callable[[], bool]:
    context = ssl.create_default_context(cafile=str(authority.certificate_file))
    context.load_cert_chain(client.certificate, client.key)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(  # noqa: S310 - our own API server
                url, context=context, timeout=5
            ) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return answers
