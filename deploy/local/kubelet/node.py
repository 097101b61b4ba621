"""Starts the real node and ends it; after a SIGKILL of its parent the kernel ends it alone.

Everything runs below one process that has network, mount and PID namespaces of its own and dies
with its parent. With it go all processes, mounts and links. What remains are empty control groups
and a folder of data: `networks.claimed` and `paths.new_run_dir` of the next run remove them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from local import build
from local.controlplane import ControlPlane
from local.debian.inside import PRIVATE, READY
from local.debian.means import node_lacking
from local.debian.packages import unpacked
from local.debian.sandbox import command_inside
from local.errors import LocalError
from local.image.archive import write_archive
from local.kubelet import configuration
from local.kubelet.cgroups import make_group, remove_group
from local.kubelet.networks import Networks
from local.kubelet.options import Kubelet
from local.locks import exclusive
from local.paths import cache_dir
from local.processes import RUN_VARIABLE, Child, descendants, spawn, wait_until
from local.progress import say
from local.tools import NODE_PROGRAMS

NAMESPACES = ("unshare", "-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc")
SET_UP_WITHIN = 120.0
IMPORTED_WITHIN = 600.0


class KubeletNode:
    """`prepare` before the control plane, which listens on its network; `join` after."""

    def __init__(self, run_dir: Path, run: str, networks: Networks, options: Kubelet) -> None:
        self.networks = networks
        self._options = options
        self._run = run
        self._logs = run_dir / "logs"
        self._folder = run_dir / "node"
        self._data = run_dir / "data" / "node"
        self._packages = Path()
        self._first: Child | None = None
        self._pid = 0
        self._children: list[Child] = []

    def prepare(self) -> None:
        """Namespaces, link, containerd and the images."""
        if lacking := node_lacking():
            raise LocalError(f"a real kubelet cannot run on this machine: {lacking}.")
        self._packages = unpacked()
        for folder in (self._folder, self._data, self._data / "scratch"):
            folder.mkdir(parents=True, exist_ok=True)
        scratch = self._data / "scratch"
        command = [*NAMESPACES, *command_inside(scratch, self._packages, "--first")]
        self._first = self._spawn("node", command)
        wait_until(
            (scratch / READY).exists,
            timeout=SET_UP_WITHIN,
            what="preparing the node's namespaces",
            alive=[self._first],
        )
        (self._pid, *_) = descendants(self._first.pid)
        self.networks.connect(self._pid)
        make_group(self.networks.name)
        # In memory, below the mount that ends with the node: thousands of files that nobody has to
        # remove, and an import that waits for no disk.
        images = scratch / PRIVATE
        settings = configuration.containerd(self._folder, images, self.networks)
        runtime = self._inside("containerd", "containerd", "--config", settings)
        wait_until(
            lambda: self._call("ctr", "version").returncode == 0,
            timeout=SET_UP_WITHIN,
            what="starting containerd",
            alive=[runtime],
        )
        for archive in (pause_image(self._packages), *self._options.images):
            self.import_image(archive)

    def join(self, plane: ControlPlane) -> None:
        """Register with the API server. Ready when the Node object says so."""
        programs = build.ensure(NODE_PROGRAMS)
        networks, authority = self.networks, plane.authority
        kubelet = configuration.login(
            self._folder, authority, plane.url, f"system:node:{networks.name}", "system:nodes"
        )
        proxy = configuration.login(self._folder, authority, plane.url, "system:kube-proxy")
        self._inside(
            *("kubelet", programs["kubelet"]),
            f"--config={configuration.kubelet(self._folder, authority, networks)}",
            *(f"--kubeconfig={kubelet}", f"--hostname-override={networks.name}"),
            *(f"--node-ip={networks.node}", f"--root-dir={self._data / 'kubelet'}"),
            f"--cert-dir={self._folder / 'certificates'}",
        )
        self._inside(
            *("kube-proxy", programs["kube-proxy"]),
            f"--config={configuration.kube_proxy(self._folder, proxy, networks)}",
        )

    def import_image(self, archive: Path) -> None:
        """Make the images of an archive known to the node."""
        done = self._call("ctr", "-n", "k8s.io", "images", "import", archive)
        if done.returncode != 0:
            raise LocalError(f"containerd cannot import {archive}: {done.stderr.strip()}")

    def stop(self) -> None:
        """Kill it all, and leave nothing."""
        if self._first is not None:
            below = descendants(self._first.pid)
            for child in (self._first, *self._children):
                child.kill()
            wait_until(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in below),
                timeout=SET_UP_WITHIN,
                what="ending the node's processes",
            )
        self.networks.disconnect()
        remove_group(self.networks.name)
        shutil.rmtree(self._data, ignore_errors=True)

    def _spawn(self, name: str, command: Sequence[str | Path]) -> Child:
        return spawn(
            name,
            command,
            log=self._logs / f"{name}.log",
            env={**os.environ, RUN_VARIABLE: self._run},
            cwd=Path("/"),
        )

    def _inside(self, name: str, program: str | Path, *arguments: str | Path) -> Child:
        child = self._spawn(name, [*self._enter(), program, *arguments])
        self._children.append(child)
        return child

    def _call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter(), *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
            timeout=IMPORTED_WITHIN,
        )

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._pid), "-n", "-m", "-p"]


def pause_image(packages: Path) -> Path:
    """The image of every pod's first container: one static program that waits and reaps."""
    file = packages.with_suffix(".pause.tar")
    if not file.exists():
        waiting = "another process packs the pause image; waiting for it"
        with exclusive(cache_dir() / "pause.lock", lambda: say(waiting)):
            tree = packages.with_suffix(".pause")
            tree.mkdir(exist_ok=True)
            shutil.copy(packages / "usr/bin/catatonit", tree / "catatonit")
            write_archive(file, configuration.PAUSE, tree, entrypoint=("/catatonit", "-P"))
    return file
