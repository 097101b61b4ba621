"""The control group of a node, below which the kubelet puts its pods (version 1: one tree each)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from local.debian.means import CGROUPS, CONTROLLERS
from local.errors import LocalError

NAMED = "systemd"
INHERITED = ("cpuset.cpus", "cpuset.mems")
REMOVED_WITHIN = 60.0


def make_group(name: str) -> None:
    """In every tree: the kubelet expects its root to be there."""
    for tree in (*CONTROLLERS, NAMED):
        if (CGROUPS / tree).is_dir():
            (CGROUPS / tree / name).mkdir(exist_ok=True)
    for setting in INHERITED:  # they start empty, and nothing could run
        (CGROUPS / "cpuset" / name / setting).write_text((CGROUPS / "cpuset" / setting).read_text())


def remove_group(name: str) -> None:
    """Kill what is in it and remove it from every tree, from the bottom up."""
    deadline = time.monotonic() + REMOVED_WITHIN
    while roots := [tree / name for tree in CGROUPS.glob("*") if (tree / name).is_dir()]:
        for root in roots:
            _empty(root)
        if time.monotonic() > deadline:
            raise LocalError(f"{roots[0]} cannot be removed: processes in it do not end.")
        time.sleep(0.05)


def _empty(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):  # gone meanwhile, or not empty yet: tried again
            for pid in (Path(folder) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            Path(folder).rmdir()
