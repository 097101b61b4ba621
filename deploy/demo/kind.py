"""A cluster made by kind, with both images built and loaded. Needs Docker."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from local.errors import LocalError
from local.paths import REPOSITORY
from local.progress import say

NAME = "starforge-demo"
CONFIG = REPOSITORY / "deploy" / "kind" / "kind.yaml"
OPERATOR_DOCKERFILE = REPOSITORY / "deploy" / "image" / "Dockerfile"
DEMO_DOCKERFILE = REPOSITORY / "deploy" / "demo" / "Dockerfile"


def commands(demo_image: str, operator_image: str, kubeconfig: Path) -> list[list[str]]:
    """All that is run, in order."""
    return [
        ["docker", "build", "-f", str(OPERATOR_DOCKERFILE), "-t", operator_image, str(REPOSITORY)],
        ["docker", "build", "-f", str(DEMO_DOCKERFILE), "-t", demo_image, str(REPOSITORY)],
        [
            *("kind", "create", "cluster", "--name", NAME, "--config", str(CONFIG)),
            *("--kubeconfig", str(kubeconfig), "--wait", "120s"),
        ],
        ["kind", "load", "docker-image", operator_image, demo_image, "--name", NAME],
    ]


@contextlib.contextmanager
def cluster(demo_image: str, operator_image: str) -> Iterator[None]:
    """The cluster while the block runs, with KUBECONFIG set to it; deleted afterwards."""
    must_have_programs()
    with tempfile.TemporaryDirectory(prefix="starforge-kind-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        try:
            for command in commands(demo_image, operator_image, kubeconfig):
                say(" ".join(command[:4]) + " …")
                run(command)
            with _variable("KUBECONFIG", str(kubeconfig)):
                yield
        finally:
            subprocess.run(["kind", "delete", "cluster", "--name", NAME], check=False)


def must_have_programs() -> None:
    """Say which program is missing before anything is started."""
    for program, what in (("docker", "builds the images"), ("kind", "makes the cluster")):
        if shutil.which(program) is None:
            raise LocalError(
                f"`{program}` is not on PATH; it {what} for CLUSTER=kind. Install it, or use "
                "CLUSTER=local, which needs neither."
            )
    run(["docker", "version"], "Docker does not answer. Start it, or use CLUSTER=local.")


def run(command: Sequence[str], fix: str = "") -> None:
    """Run it; on failure its last words and what to do."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip()[-1500:]
        raise LocalError(f"`{' '.join(command)}` exited with {done.returncode}: {words}\n{fix}")


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before: Mapping[str, str] = dict(os.environ)
    os.environ[name] = value
    try:
        yield
    finally:
        if name in before:
            os.environ[name] = before[name]
        else:
            os.environ.pop(name)
