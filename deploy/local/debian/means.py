"""Whether this machine can do what needs root and Debian; a sentence where it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from local.paths import REPOSITORY, cache_dir

CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
"""Version 1, a mount for each: what a node was tried on."""

HIDDEN = (Path("/run"), Path("/var"))
"""Programs get folders of their own over these, so nothing that they need may lie there."""


def packages_lacking() -> str | None:
    """Why programs of packages cannot run here, or None."""
    if not Path("/etc/debian_version").exists():
        return "this is not Debian, whose packages are needed"
    if os.geteuid() != 0:
        return "it needs root"
    missing = [name for name in ("apt-get", "dpkg-deb", "unshare") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} is missing"
    for needed in (cache_dir(), REPOSITORY):
        if any(needed.resolve().is_relative_to(hidden) for hidden in HIDDEN):
            return f"{needed} lies below {' or '.join(map(str, HIDDEN))}; move it elsewhere"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return None if _namespaces() else "mount namespaces are not allowed here"


def node_lacking() -> str | None:
    """Why a kubelet cannot run here, or None."""
    if lacking := packages_lacking():
        return lacking
    if shutil.which("ip") is None:
        return "ip (package iproute2) is missing"
    missing = [name for name in CONTROLLERS if not (CGROUPS / name / "cgroup.procs").exists()]
    if missing:
        return f"there are no control groups (version 1) for {', '.join(missing)}"
    if not os.access(CGROUPS / "memory", os.W_OK):
        return f"{CGROUPS} is read-only"
    return None


def _namespaces() -> bool:
    command = ["unshare", "-m", "-n", "-p", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
