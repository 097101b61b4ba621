"""The cluster with the operator in it: installed by Helm, under the chart's own rights."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.api import CORE, Api
from tests.e2e.audit import AuditLog
from tests.e2e.growing import GrowingFile

from local.cluster import LocalCluster, NodeOptions, PostgresOptions
from local.node import DEFAULT_IMAGES
from local.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "starforge-backlog"
RELEASE: Final = "starforge-backlog"
NAMESPACE: Final = "operators"
ACCOUNT: Final = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
PREFIX: Final = "starforge_backlog_"

# Connections of the shared server: one of the operator for each world of a test, and a budget.
MAX_CONNECTIONS: Final = 200
# Seconds; thirty times this is the longest wait of an operator that is killed again and again.
RESTART_BACKOFF: Final = 0.02
# Seconds for a process to come (back) on a busy machine; it takes two on an idle one.
STARTS_WITHIN: Final = 300.0

# Of the chart: rights that are off by default, and tests do.
GUARD: Final = {"guard": True}
AUTOSCALERS: Final = {"horizontalPodAutoscalers": GUARD, "scaledObjects": GUARD}
VALUES: Final = {
    "logFormat": "json",
    "logLevel": "debug",
    "rbac": {"autoscalers": AUTOSCALERS},
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Place:
    """What all tests of the run share."""

    cluster: LocalCluster
    api: Api
    audit: AuditLog
    run_dir: Path
    logs: dict[Path, GrowingFile[dict[str, Any]]] = field(default_factory=dict, compare=False)
    """The operator's; another file where a test has installed it again."""

    # --- the operator's process ----------------------------------------------------------------

    def pod(self) -> dict[str, Any]:
        """The operator's pod; LookupError while there is none."""
        label = f"app.kubernetes.io/instance={RELEASE}"
        pods = self.api.items(f"{CORE}/namespaces/{NAMESPACE}/pods", labelSelector=label)
        return next(iter(pods), {}) or _missing("the operator's pod")

    def _container(self) -> dict[str, Any]:
        statuses = self.pod()["status"].get("containerStatuses") or ()
        return next(iter(statuses), {}) or _missing("its container")

    def restarts(self) -> int:
        return int(self._container()["restartCount"])

    def pid(self) -> int:
        """Of the process that runs now; LookupError while none does."""
        container = self._container()
        if "running" not in container["state"]:
            _missing("its process")
        return int(container["containerID"].removeprefix("local://"))

    def kill(self) -> None:
        """SIGKILL, and wait until another process serves."""
        before, pid = self.restarts(), self.pid()
        os.kill(pid, signal.SIGKILL)
        self.back(after=before)

    def back(self, *, after: int) -> None:
        """Wait until a later run of the process than that many restarts serves."""
        eventually(
            lambda: self.restarts() > after and self.probe("readyz")[0] == 200,
            within=STARTS_WITHIN,
            what="the operator is back",
            every=0.05,
        )

    # --- what it says --------------------------------------------------------------------------

    def address(self) -> str:
        return f"http://{self.pod()['status']['podIP']}:8080"

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of a path; (0, reason) when nothing listens."""
        try:
            with urlopen(f"{self.address()}/{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> Samples:
        """All samples of one scrape, without our prefix."""
        code, text = self.probe("metrics")
        if code != 200:
            _missing("metrics")
        return {
            (s.name.removeprefix(PREFIX), frozenset(s.labels.items())): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples with these labels among theirs; 0.0 without one."""
        wanted = labels.items()
        return sum(v for (n, have), v in self.metrics().items() if n == name and wanted <= have)

    @property
    def log_file(self) -> Path:
        files = (self.run_dir / "pods").glob(f"{NAMESPACE}_*_operator.log")
        # One, where no test has installed the operator again.
        return max(files, key=lambda file: file.stat().st_mtime)

    def log_mark(self) -> int:
        return self.log_file.stat().st_size

    def _log_lines(self) -> GrowingFile[dict[str, Any]]:
        file = self.log_file
        return self.logs.setdefault(file, GrowingFile(file, json.loads))

    def log_text(self, mark: int = 0) -> str:
        with self.log_file.open("rb") as file:
            file.seek(mark)
            return file.read().decode()

    def log(self, mark: int = 0) -> list[dict[str, Any]]:
        """The operator's lines; what is not JSON is no line of its own and fails the test."""
        return self._log_lines().since(mark)


def _missing(what: str) -> Any:
    raise LookupError(f"{what} is not there")


@contextlib.contextmanager
def installed(
    run_dir: Path, *, apiserver_flags: Sequence[str] = (), controller_flags: Sequence[str] = ()
) -> Iterator[Place]:
    """A cluster, a PostgreSQL and the operator, for a run of tests."""
    log, flags = AuditLog.configure(run_dir, ACCOUNT)
    cluster = LocalCluster(
        "e2e",
        node=NodeOptions(images=DEFAULT_IMAGES, restart_backoff=RESTART_BACKOFF),
        postgres=PostgresOptions(max_connections=MAX_CONNECTIONS),
        run_dir=run_dir,
        apiserver_flags=(*flags, *apiserver_flags),
        controller_flags=controller_flags,
        existing=False,
    )
    with cluster:
        assert cluster.control_plane is not None
        with contextlib.closing(Api.admin(cluster.control_plane)) as api:
            cluster.helm(
                *("install", RELEASE, CHART, "-n", NAMESPACE, "--create-namespace", "-f", "-"),
                stdin=yaml.safe_dump(VALUES),
            )
            place = Place(cluster, api, log, run_dir)
            place.back(after=-1)
            yield place
