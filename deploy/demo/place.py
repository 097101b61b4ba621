"""Where the demo runs: a cluster on this machine, one that is there already, or a new kind one."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from demo import kind, remote
from demo.manifests import NAMESPACE, manifest, namespace, secret
from demo.scenario import MAX_CONNECTIONS, Stack
from local.cluster import LocalCluster, NodeOptions, PostgresOptions
from local.commands import Command
from local.errors import LocalError
from local.node.images import DEFAULT_IMAGES, SYSTEM_PATH, LocalImage, python_image
from local.nodejs import find_node, node_packages
from local.paths import REPOSITORY
from local.prometheus import PrometheusServer
from local.redis import RedisServer

IMAGE, OPERATOR_IMAGE = "starforge-demo:local", "starforge-backlog:local"
NODE_IMAGE = "starforge-demo-node:local"
"""Tags of their own: a pulled `latest` must not be shown instead of this checkout."""


SCRAPE_SECONDS = 1.0
"""So short because the whole story is; 15 to 60 s is usual."""

_ONLY_HERE = (
    "this scenario needs Redis, Node.js and Prometheus, which are started on this machine alone:"
    " run it with CLUSTER=local"
)


SCRIPTS = Path(__file__).parent / "node"
"""The guarded system in Node.js: the ingestion API, the worker, the backfill."""


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

    def start_redis(self) -> str:
        """A Redis server for this run; its URL, the same for pods and for this process."""

    def start_prometheus(self, targets: Sequence[str]) -> str:
        """A Prometheus that scrapes these addresses; its URL."""


class Here:
    """Everything on this machine; pods are processes on loopback addresses."""

    def __init__(self, cluster: LocalCluster, undo: contextlib.ExitStack) -> None:
        self._cluster = cluster
        self._undo = undo
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

    def start_redis(self) -> str:
        """A process like the others."""
        server = RedisServer.start(self.run_dir, run=self._cluster.run)
        self._undo.callback(server.close)
        return server.url()

    def start_prometheus(self, targets: Sequence[str]) -> str:
        """A process like the others."""
        server = PrometheusServer.start(
            self.run_dir,
            targets={"starforge": targets},
            interval=SCRAPE_SECONDS,
            run=self._cluster.run,
        )
        self._undo.callback(server.close)
        return server.url


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

    def start_redis(self) -> str:
        """See `_ONLY_HERE`."""
        raise LocalError(_ONLY_HERE)

    def start_prometheus(self, targets: Sequence[str]) -> str:
        """See `_ONLY_HERE`."""
        raise LocalError(_ONLY_HERE)


def _node_image(folder: Path) -> LocalImage:
    """This machine's Node.js in a folder of scripts, with its packages installed."""
    node_packages(folder)
    return LocalImage(
        entrypoint=(str(find_node().path),), env={"PATH": SYSTEM_PATH}, workdir=str(folder)
    )


@contextlib.contextmanager
def open_place(how: str, stack: Stack) -> Iterator[Place]:
    """Start or find it; on exit everything that was made is taken away again."""
    if how != "local" and stack is not Stack.TABLE:
        raise LocalError(_ONLY_HERE)
    if how == "local":
        # An image is a program of this machine here; its tag does not matter.
        images = {
            **DEFAULT_IMAGES,
            "starforge-demo": python_image(path=(REPOSITORY / "deploy",)),
        }
        if stack is Stack.BULLMQ:
            images["starforge-demo-node"] = _node_image(SCRIPTS)
        postgres = PostgresOptions(max_connections=MAX_CONNECTIONS)
        with (
            LocalCluster(
                "demo", node=NodeOptions(images=images), postgres=postgres, existing=False
            ) as cluster,
            contextlib.ExitStack() as undo,
        ):
            yield Here(cluster, undo)
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
