"""A cluster that is not on this machine: tunnels to pods, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from demo.manifests import NAMESPACE
from local.cluster import LocalCluster
from local.commands import Command
from local.errors import LocalError
from local.processes import Child, spawn, wait_until
from local.progress import say

CRD = "queuebacklogpolicies.backlog.starforge.dev"
RELEASE, RELEASE_NAMESPACE = "starforge-backlog", "starforge-backlog"
FORWARD_SECONDS = 20.0
DELETE_SECONDS = 90.0

_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")

# PostgreSQL's image has no pkill; /proc is always there.
_SIGNAL = (
    'for p in /proc/[0-9]*; do read name < "$p/comm" && '
    '[ "$name" = postgres ] && kill -{signal} "${{p#/proc/}}"; done; true'
)


class Forwards:
    """`kubectl port-forward`, one per pod and port."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._children: list[Child] = []

    def open(self, pod: str, port: int) -> int:
        """A free local port that leads to the pod's."""
        log = self._cluster.run_dir / "logs" / f"forward-{pod}.log"
        child = spawn(
            f"port-forward to {pod}",
            forward_command(self._cluster.kubectl.program, pod, port),
            log=log,
            env=self._cluster.kubectl.environment,
        )
        self._children.append(child)
        wait_until(
            lambda: forwarded_port(log) is not None,
            timeout=FORWARD_SECONDS,
            what=f"the tunnel to {pod}",
            alive=[child],
        )
        found = forwarded_port(log)
        assert found is not None
        return found

    def close(self) -> None:
        """End them all."""
        for child in self._children:
            child.kill()


def forward_command(kubectl: Path, pod: str, port: int) -> list[str]:
    """The command that opens a tunnel from a port of its own choice."""
    return [str(kubectl), "port-forward", "-n", NAMESPACE, f"pod/{pod}", f":{port}"]


def forwarded_port(log: Path) -> int | None:
    """The local port, once kubectl has said it."""
    with contextlib.suppress(OSError):
        match = _FORWARDED.search(log.read_text(errors="replace"))
        return int(match[1]) if match else None
    return None


@contextlib.contextmanager
def forwarding(cluster: LocalCluster) -> Iterator[Forwards]:
    """Tunnels that end with the block."""
    forwards = Forwards(cluster)
    try:
        yield forwards
    finally:
        forwards.close()


def signal_postgres(kubectl: Command, signal: str) -> None:
    """Send a signal to every PostgreSQL process in its pod."""
    script = _SIGNAL.format(signal=signal)
    kubectl("exec", "postgres", "-n", NAMESPACE, "--", "sh", "-c", script)


def must_be_unused(kubectl: Command) -> None:
    """A cluster in which another client uses these names is left alone."""
    for kind, name in (("namespace", NAMESPACE), ("crd", CRD)):
        if _exists(kubectl, kind, name):
            raise LocalError(
                f"this cluster has a {kind} {name} already, and the demo would delete it at its "
                f"end. Use another cluster, or remove it: kubectl delete {kind} {name}"
            )


def _exists(kubectl: Command, kind: str, name: str) -> bool:
    return bool(kubectl("get", kind, name, "--ignore-not-found", "-o", "name").strip())


def clean(kubectl: Command, helm: Command) -> None:
    """Policies first, while the operator still runs: it releases what it has paused."""
    limit = f"--timeout={DELETE_SECONDS:g}s"
    for command, arguments in (
        (kubectl, ("delete", "qbp", "--all", "-n", NAMESPACE, "--ignore-not-found", limit)),
        (helm, ("uninstall", RELEASE, "-n", RELEASE_NAMESPACE, "--ignore-not-found")),
        (kubectl, ("delete", "namespace", NAMESPACE, "--ignore-not-found", limit)),
        (kubectl, ("delete", "namespace", RELEASE_NAMESPACE, "--ignore-not-found", limit)),
        (kubectl, ("delete", "crd", CRD, "--ignore-not-found", limit)),
    ):
        try:
            command(*arguments, timeout=DELETE_SECONDS + 10)
        except LocalError as error:  # one that fails must not keep the others from being tried
            say(f"not cleaned up: {error}")
