"""The cluster with a real node, and the operator in it as a pod of its own image."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from tests.e2e.api import Api
from tests.e2e.audit import AuditLog
from tests.e2e.place import ACCOUNT, CHART, NAMESPACE, RELEASE, Place

from local.cluster import LocalCluster, PostgresOptions
from local.commands import CommandError
from local.image.__main__ import NAME
from local.kubelet import Kubelet

# Refuses a pod that is not restricted, whatever the chart says of itself.
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
# Seconds from the installation to Ready. 4 s on a calm machine; CI's have two cores for everything.
READY_WITHIN: Final = 300.0
MAX_CONNECTIONS: Final = 60


@dataclass(frozen=True)
class RealPlace(Place):
    """Its log is what the kubelet keeps, and there is no process to find on this machine."""

    ready_after: float = 0.0

    def log_mark(self) -> int:
        return 0

    def log_text(self, mark: int = 0) -> str:
        name = self.pod()["metadata"]["name"]
        text = self.cluster.kubectl("logs", "-n", NAMESPACE, name)
        return text[mark:]

    def log(self, mark: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_text(mark).splitlines() if line]

    def pid(self) -> int:
        raise NotImplementedError("a container's processes are in a namespace of their own")

    def run(self, code: str) -> str:
        """Python code in the operator's container."""
        name = self.pod()["metadata"]["name"]
        return self.cluster.kubectl("exec", "-n", NAMESPACE, name, "--", "python", "-c", code)


def install(cluster: LocalCluster, *arguments: str | Path) -> None:
    """With the chart's defaults: the tag is the chart's version, as `make image` names it."""
    cluster.helm(*arguments, CHART, "-n", NAMESPACE, "--set", f"image.repository={image()[0]}")


def image() -> tuple[str, str]:
    """Repository and tag."""
    repository, _, tag = NAME.partition(":")
    assert tag == yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))["appVersion"]
    return repository, tag


@contextlib.contextmanager
def installed(run_dir: Path, archive: Path) -> Iterator[RealPlace]:
    """A cluster with a real node, a PostgreSQL of this machine, and the operator."""
    log, flags = AuditLog.configure(run_dir, ACCOUNT)
    cluster = LocalCluster(
        "image",
        node=Kubelet(images=(archive,)),
        postgres=PostgresOptions(max_connections=MAX_CONNECTIONS),
        run_dir=run_dir,
        apiserver_flags=flags,
        existing=False,
    )
    with cluster:
        assert cluster.control_plane is not None
        with contextlib.closing(Api.admin(cluster.control_plane)) as api:
            namespace = {"metadata": {"name": NAMESPACE, "labels": RESTRICTED}}
            api.create("/api/v1/namespaces", namespace)
            began = time.monotonic()
            install(cluster, "install", RELEASE)
            try:
                wait_until_ready(cluster)
            except CommandError as error:
                error.add_note(described(cluster))
                raise
            ready_after = time.monotonic() - began
            yield RealPlace(cluster, api, log, run_dir, ready_after=ready_after)


def wait_until_ready(cluster: LocalCluster) -> None:
    """The Deployment's pods are all of its newest form, and Ready."""
    cluster.kubectl(
        *("rollout", "status", f"deployment/{RELEASE}", "-n", NAMESPACE),
        f"--timeout={READY_WITHIN:g}s",
        timeout=READY_WITHIN + 10,
    )


def described(cluster: LocalCluster) -> str:
    """What a person would read."""
    found = [cluster.kubectl("describe", "pods", "-n", NAMESPACE)]
    with contextlib.suppress(CommandError):
        found.append(cluster.kubectl("logs", f"deployment/{RELEASE}", "-n", NAMESPACE))
    return "\n".join(found)
