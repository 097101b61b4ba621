"""Where the demo runs: a cluster on this machine, one that is there already, or a new kind one."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from demo import kind, remote
from demo.manifests import NAMESPACE, manifest, namespace, secret
from demo.scenario import MAX_CONNECTIONS
from local.cluster import LocalCluster, NodeOptions, PostgresOptions
from local.commands import Command
from local.node.images import DEFAULT_IMAGES, python_image
from local.paths import REPOSITORY

IMAGE, OPERATOR_IMAGE = "starforge-demo:local", "starforge-backlog:local"
"""Tags of their own: a pulled `latest` must not be shown instead of this checkout."""


class Place(Protocol):
    """What the story needs from a cluster."""

    run_dir: Path
    kubeconfig: Path
    kubectl: Command
    helm: Command
    admin_url: str
    """PostgreSQL as this process reaches it, as a superuser."""
    pods_reach_postgres_at: str
    """Host and port of the same server as pods see it."""

    def pod_url(self, pod: str, port: int) -> str:
        """A pod's port as this process reaches it."""

    def freeze_postgres(self) -> None:
        """It stops answering, with all connections open."""

    def thaw_postgres(self) -> None:
        """It answers again."""


class Here:
    """Everything on this machine; pods are processes on loopback addresses."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.run_dir = cluster.run_dir
        self.kubeconfig = cluster.kubeconfig
        self.kubectl = cluster.kubectl
        self.helm = cluster.helm
        self.admin_url = cluster.postgres.url()
        self.pods_reach_postgres_at = f"127.0.0.1:{cluster.postgres.port}"

    def pod_url(self, pod: str, port: int) -> str:
        """Pods have addresses of this machine."""
        return f"http://{pod_ip(self.kubectl, pod)}:{port}"

    def freeze_postgres(self) -> None:
        """Signals to a server of our own."""
        self._cluster.postgres.freeze()

    def thaw_postgres(self) -> None:
        """Signals to a server of our own."""
        self._cluster.postgres.thaw()


class There:
    """A cluster elsewhere: PostgreSQL is a pod, and everything is reached through port-forwards."""

    def __init__(self, cluster: LocalCluster, forwards: remote.Forwards) -> None:
        self.run_dir = cluster.run_dir
        self.kubeconfig = cluster.kubeconfig
        self.kubectl = cluster.kubectl
        self.helm = cluster.helm
        self._forwards = forwards
        password = secrets.token_urlsafe(18)
        cluster.apply(namespace(), secret("postgres-admin", {"password": password}))
        cluster.apply(manifest("postgres", MAX_CONNECTIONS=MAX_CONNECTIONS))
        cluster.wait("pod/postgres", "-n", NAMESPACE, "--for=condition=Ready", within=180)
        port = forwards.open("postgres", 5432)
        self.admin_url = f"postgresql://postgres:{quote(password)}@127.0.0.1:{port}/postgres"
        self.pods_reach_postgres_at = f"{pod_ip(self.kubectl, 'postgres')}:5432"

    def pod_url(self, pod: str, port: int) -> str:
        """Through a tunnel."""
        return f"http://127.0.0.1:{self._forwards.open(pod, port)}"

    def freeze_postgres(self) -> None:
        """A signal to every process of the server, from inside its container."""
        remote.signal_postgres(self.kubectl, "STOP")

    def thaw_postgres(self) -> None:
        """A signal to every process of the server, from inside its container."""
        remote.signal_postgres(self.kubectl, "CONT")


@contextlib.contextmanager
def open_place(how: str) -> Iterator[Place]:
    """Start or find it; on exit everything that was made is taken away again."""
    if how == "local":
        # An image is a program of this machine here; its tag does not matter.
        images = {
            **DEFAULT_IMAGES,
            "starforge-demo": python_image(path=(REPOSITORY / "deploy",)),
        }
        postgres = PostgresOptions(max_connections=MAX_CONNECTIONS)
        with LocalCluster(
            "demo", node=NodeOptions(images=images), postgres=postgres, existing=False
        ) as cluster:
            yield Here(cluster)
        return
    with contextlib.ExitStack() as undo:
        if how == "kind":
            undo.enter_context(kind.cluster(IMAGE, OPERATOR_IMAGE))
        cluster = undo.enter_context(LocalCluster("demo", existing=True))
        remote.must_be_unused(cluster.kubectl)
        undo.callback(remote.clean, cluster.kubectl, cluster.helm)
        forwards = undo.enter_context(remote.forwarding(cluster))
        yield There(cluster, forwards)


def pod_ip(kubectl: Command, pod: str, within: float = 60) -> str:
    """The pod's address, once it has one."""
    deadline = time.monotonic() + within
    while True:
        jsonpath = "jsonpath={.status.podIP}"
        address = kubectl("get", "pod", pod, "-n", NAMESPACE, "-o", jsonpath)
        if address or time.monotonic() > deadline:
            return address
        time.sleep(0.2)
