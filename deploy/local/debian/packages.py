"""Debian packages by name, downloaded and unpacked side by side: nothing is installed or started.

`apt-get` keeps its lists in the cache too, so that not even those of the machine change.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local.errors import LocalError
from local.locks import exclusive
from local.paths import cache_dir
from local.progress import say

NODE = (
    # a node
    *("containerd", "runc", "containernetworking-plugins", "catatonit"),
    *("iptables", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11"),
    # an image and its base
    *("buildah", "golang-github-containers-common", "golang-github-containers-image"),
    *("libgpgme11", "libsubid4", "debootstrap"),
)
PGBOUNCER = ("pgbouncer", "libevent-2.1-7", "libc-ares2")
"""With the libraries that a machine without it lacks."""

MERGED = ("bin", "sbin", "lib", "lib64")
"""Folders of the root that are links into /usr on the machine: what is in them belongs there."""

DEBIAN_RELEASE = "/etc/debian_version"
IPTABLES = ("iptables", "iptables-save", "iptables-restore")
DOWNLOAD_WITHIN = 600.0


def available() -> bool:
    """Whether this machine is a Debian that can download packages."""
    programs = all(shutil.which(program) for program in ("apt-get", "dpkg-deb"))
    return programs and Path(DEBIAN_RELEASE).exists()


def unpacked(packages: Sequence[str] = NODE) -> Path:
    """A folder whose `usr/` and `etc/` hold what the packages bring."""
    key = hashlib.sha256("\0".join([*packages, _release(), platform.machine()]).encode())
    target = cache_dir() / f"debian-{key.hexdigest()[:16]}"
    if target.exists():
        return target
    waiting = "another process unpacks the packages; waiting for it"
    with exclusive(target.with_suffix(".lock"), lambda: say(waiting)):
        if not target.exists():
            say(f"downloading {', '.join(packages)} (once per user; nothing is installed)")
            with tempfile.TemporaryDirectory(prefix="unpacking-", dir=cache_dir()) as scratch:
                _unpack(_download(packages, Path(scratch)), Path(scratch) / "root")
                (Path(scratch) / "root").replace(target)
    return target


def _release() -> str:
    return Path(DEBIAN_RELEASE).read_text().strip().partition(".")[0]


def _download(packages: Sequence[str], folder: Path) -> list[Path]:
    state = cache_dir() / "apt"
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    apt = [
        *("apt-get", "-qq", "-o", f"Dir::State::lists={state / 'lists'}"),
        *("-o", f"Dir::Cache={state}", "-o", "APT::Sandbox::User=root"),
    ]
    _run([*apt, "update"], folder)
    _run([*apt, "download", *packages], folder)
    return sorted(folder.glob("*.deb"))


def _unpack(files: Sequence[Path], root: Path) -> None:
    (root / "usr").mkdir(parents=True)
    for file in files:
        _run(["dpkg-deb", "--extract", str(file), str(root)], root)
    for name in MERGED:
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
    if (root / "usr/sbin/xtables-nft-multi").exists():
        for name in IPTABLES:  # links that the package would make when it is installed
            for command in (name, name.replace("iptables", "ip6tables")):
                (root / "usr/sbin" / command).unlink(missing_ok=True)
                (root / "usr/sbin" / command).symlink_to("xtables-nft-multi")


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=DOWNLOAD_WITHIN,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    if done.returncode != 0:
        raise LocalError(
            f"`{' '.join(command)}` failed: {done.stderr.strip()[-1500:]}\n"
            "Check that the machine's Debian mirror can be reached (/etc/apt/sources.list.d)."
        )
