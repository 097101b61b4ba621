"""A cluster for as long as a `with` block lasts, or until Ctrl-C: `python -m local.cluster up`.

    with LocalCluster(postgres=PostgresOptions()) as cluster:
        cluster.kubectl("get", "nodes")

With `CLUSTER=existing` the cluster in `KUBECONFIG` is used through the same interface; nothing is
started there and nothing is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from local import build, processes
from local.commands import Command
from local.controlplane import ControlPlane, Reach
from local.crds import apply_crds
from local.errors import LocalError
from local.kubelet import Kubelet
from local.kubelet.networks import claimed
from local.kubelet.node import KubeletNode
from local.node.images import DEFAULT_IMAGES, LocalImage, dump_images
from local.paths import PACKAGE, new_run_dir
from local.postgres import PostgresServer, Setting
from local.progress import say
from local.waiting import eventually

EXISTING = "existing"
Found = TypeVar("Found")


@dataclass(frozen=True)
class NodeOptions:
    images: Mapping[str, LocalImage] = field(default_factory=lambda: DEFAULT_IMAGES)
    """Image name → program. Usually `{**DEFAULT_IMAGES, "mine": python_image("-m", "mine")}`."""
    restart_backoff: float = 10.0
    """Seconds before the second restart of a crashing container, as the kubelet's default."""


@dataclass(frozen=True)
class PostgresOptions:
    max_connections: int = 100
    settings: Mapping[str, Setting] = field(default_factory=dict)


class LocalCluster:
    """Everything is started on entry and stopped in reverse order on exit, whatever happened."""

    def __init__(
        self,
        name: str = "cluster",
        *,
        node: NodeOptions | Kubelet | None = NodeOptions(),
        postgres: PostgresOptions | None = None,
        run_dir: Path | None = None,
        apiserver_flags: Sequence[str] = (),
        controller_flags: Sequence[str] = (),
        existing: bool | None = None,
    ) -> None:
        self.existing = os.environ.get("CLUSTER") == EXISTING if existing is None else existing
        self.run_dir = run_dir or new_run_dir(name)
        self.control_plane: ControlPlane | None = None
        self.kubeconfig = self.run_dir / "kubeconfig"
        self.kubectl = Command(Path("kubectl"), {})
        """`kubectl(*arguments, stdin=None, timeout=330) -> str`, as cluster admin."""
        self.helm = Command(Path("helm"), {})
        self._node_options = node
        self._postgres_options = postgres
        self._postgres: PostgresServer | None = None
        self._real_node: KubeletNode | None = None
        self._apiserver_flags = apiserver_flags
        self._controller_flags = controller_flags
        self._undo = contextlib.ExitStack()

    @property
    def run(self) -> str:
        """Marks the processes of this run, in their environment."""
        return str(self.run_dir)

    @property
    def postgres(self) -> PostgresServer:
        if self._postgres is None:
            raise LocalError(
                "this cluster has no PostgreSQL. Give it `postgres=PostgresOptions()`."
            )
        return self._postgres

    @property
    def real_node(self) -> KubeletNode:
        """The one of `node=Kubelet(…)`."""
        if self._real_node is None:
            raise LocalError("this cluster has no real node. Give it `node=Kubelet()`.")
        return self._real_node

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._undo.close()
        if not self.existing:
            processes.kill_leftovers(self.run)

    def apply(self, *documents: Mapping[str, Any] | str, namespace: str = "default") -> None:
        """Manifests as mappings or as YAML text."""
        texts = [d if isinstance(d, str) else json.dumps(d) for d in documents]
        self.kubectl("apply", "-n", namespace, "-f", "-", stdin="\n---\n".join(texts))

    def apply_crds(self, *files: Path) -> list[str]:
        return apply_crds(self.kubectl, files)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def pid_of(self, pod: str, namespace: str, container: str | None = None) -> int:
        """The process of a running container, for tests that kill it or hold it up."""
        statuses = self.get("pod", pod, "-n", namespace)["status"].get("containerStatuses") or ()
        for status in statuses:
            running = "running" in status["state"]
            if running and container in (None, status["name"]):
                return int(status["containerID"].removeprefix("local://"))
        raise LocalError(f"pod {namespace}/{pod} runs no such container here. Wait until it does.")

    def wait(self, *arguments: str, within: float = 180) -> None:
        """`kubectl wait …`: `cluster.wait("deployment/x", "--for=condition=Available")`."""
        self.kubectl("wait", f"--timeout={within:g}s", *arguments, timeout=within + 10)

    def eventually(
        self, poll: Callable[[], Found | None], *, within: float = 120, what: str = "condition"
    ) -> Found:
        return eventually(poll, within=within, what=what)

    def _start(self) -> None:
        if self.existing:
            self._use_existing()
        else:
            self._start_own()
        if self._postgres_options is not None:
            self._postgres = PostgresServer.start(
                self.run_dir,
                max_connections=self._postgres_options.max_connections,
                settings=self._postgres_options.settings,
                run=self.run,
                **self._for_pods(),
            )
            self._undo.callback(self._postgres.close)

    def _start_own(self) -> None:
        programs = build.ensure(("kubectl", "helm"))
        options = self._node_options
        if isinstance(options, Kubelet):
            self._prepare_real_node(options)
        self.control_plane = ControlPlane.start(
            self.run_dir,
            run=self.run,
            apiserver_flags=self._apiserver_flags,
            controller_flags=self._controller_flags,
            reach=self._reach(),
        )
        self._undo.callback(self.control_plane.stop)
        self.kubeconfig = self.control_plane.kubeconfig
        self._use_programs(programs)
        if isinstance(options, NodeOptions):
            self._start_node(options)
        if self._real_node is not None:
            self._real_node.join(self.control_plane)
            self.eventually(self._node_registered, what="the node is ready")

    def _prepare_real_node(self, options: Kubelet) -> None:
        networks = self._undo.enter_context(claimed())
        self._real_node = KubeletNode(self.run_dir, self.run, networks, options)
        self._undo.callback(self._real_node.stop)
        self._real_node.prepare()

    def _reach(self) -> Reach:
        if self._real_node is None:
            return Reach()
        networks = self._real_node.networks
        return Reach(networks.host, networks.services, networks.api_service, real_node=True)

    def _for_pods(self) -> dict[str, Any]:
        """Where a real node's pods find a server of this machine."""
        if self._real_node is None:
            return {}
        networks = self._real_node.networks
        # The host itself comes from its own end of the link when it uses that address.
        return {"reached_at": networks.host, "clients": (networks.pods, f"{networks.host}/32")}

    def _start_node(self, options: NodeOptions) -> None:
        """A process of its own: a busy test or demo must not make pods unready."""
        images = self.run_dir / "images.json"
        dump_images(options.images, images)
        child = processes.spawn(
            "node",
            [
                *(sys.executable, "-m", "local.node", "--images", images),
                *("--kubeconfig", self.kubeconfig, "--run-dir", self.run_dir, "--run", self.run),
                *("--restart-backoff", str(options.restart_backoff)),
            ],
            log=self.run_dir / "logs" / "node.log",
            env={
                **os.environ,
                "PYTHONPATH": str(PACKAGE.parent),
                processes.RUN_VARIABLE: self.run,
            },
            # It ends its pods' processes before it ends itself.
            death_signal=signal.SIGTERM,
        )
        self._undo.callback(_stop_node, child)
        processes.wait_until(
            self._node_registered, timeout=120, what="starting the node", alive=[child], every=0.1
        )

    def _node_registered(self) -> bool:
        ready = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
        return "True" in self.kubectl("get", "nodes", "-o", f"jsonpath={ready}")

    def _use_existing(self) -> None:
        configured = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        self.kubeconfig = Path(configured)
        if not self.kubeconfig.is_file():
            raise LocalError(
                f"CLUSTER={EXISTING}, but there is no kubeconfig at {configured}. Set KUBECONFIG "
                "to one file, or unset CLUSTER to start a cluster on this machine."
            )
        on_path = {n: Path(p) for n in ("kubectl", "helm") if (p := shutil.which(n))}
        missing = [name for name in ("kubectl", "helm") if name not in on_path]
        self._use_programs({**on_path, **build.ensure(missing)})
        self.kubectl("version", timeout=30)

    def _use_programs(self, programs: Mapping[str, Path]) -> None:
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            # kubectl remembers by port what a server can do, and ports come back.
            "KUBECACHEDIR": str(self.run_dir / "kubectl"),
            **{f"HELM_{kind}_HOME": str(self.run_dir / "helm") for kind in _HELM_FOLDERS},
        }
        self.kubectl = Command(programs["kubectl"], environment)
        self.helm = Command(programs["helm"], environment)


def _stop_node(child: processes.Child) -> None:
    if not child.exited():
        child.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(NODE_STOPS_WITHIN)
    child.kill()


NODE_STOPS_WITHIN = 10.0
_HELM_FOLDERS = ("CACHE", "CONFIG", "DATA")


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m local.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a cluster and keep it until Ctrl-C")
    up.add_argument("--name", default="cluster", help="names the run folder (%(default)s)")
    up.add_argument("--no-node", action="store_true", help="no node: pods stay Pending")
    up.add_argument("--postgres", action="store_true", help="start a PostgreSQL as well")
    chosen = parser.parse_args(None if arguments is None else list(arguments))
    try:
        return _up(chosen)
    except LocalError as error:
        say(str(error))
        return 1


def _up(chosen: argparse.Namespace) -> int:
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _interrupt(asked_to_stop))
    started = time.monotonic()
    postgres = PostgresOptions() if chosen.postgres else None
    node = None if chosen.no_node else NodeOptions()
    try:
        with LocalCluster(chosen.name, node=node, postgres=postgres) as cluster:
            say(f"ready after {time.monotonic() - started:.1f} s; Ctrl-C stops it")
            lines = [f"export KUBECONFIG={cluster.kubeconfig}"]
            if postgres:
                lines.append(f"export DATABASE_URL={cluster.postgres.url()}")
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
            while not asked_to_stop.is_set():
                asked_to_stop.wait(0.5)
    except KeyboardInterrupt:
        pass
    say("stopped")
    return 0


def _interrupt(asked_to_stop: threading.Event) -> None:
    """The first one stops, even in the middle of starting; later ones do not disturb it."""
    if not asked_to_stop.is_set():
        asked_to_stop.set()
        raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
