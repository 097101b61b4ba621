"""The base of the image where no registry is: Debian 13 with its Python 3.13, by debootstrap."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path

from local.debian.packages import unpacked
from local.debian.sandbox import run_inside
from local.errors import LocalError
from local.locks import exclusive
from local.paths import cache_dir
from local.progress import say

SUITE = "trixie"
INCLUDED = ("python3", "python3-venv", "python-is-python3", "ca-certificates")
MIRROR_VARIABLE = "DEBIAN_MIRROR"
"""Where the packages come from; without it debootstrap's own default."""

# What no Python program reads: 269 MB become 112.
UNNEEDED = (
    *("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/info"),
    *("usr/share/locale", "var/log"),
)
MADE_WITHIN = 900.0


def base_rootfs() -> Path:
    """A folder, made once per user in about 40 s. Nobody may write to it."""
    target = cache_dir() / f"rootfs-{SUITE}-{platform.machine()}"
    if target.exists():
        return target
    with exclusive(
        target.with_suffix(".lock"), lambda: say("another process makes the base; waiting for it")
    ):
        if not target.exists():
            say(f"making a base of Debian {SUITE} with debootstrap (once per user, about 40 s)")
            _make(target)
    return target


def _make(target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rootfs-", dir=cache_dir()) as scratch:
        root = Path(scratch) / "root"
        command: list[str | Path] = [
            *("debootstrap", "--variant=minbase", f"--include={','.join(INCLUDED)}"),
            *(SUITE, root),
        ]
        if mirror := os.environ.get(MIRROR_VARIABLE):
            command.append(mirror)
        try:
            run_inside(unpacked(), command, within=MADE_WITHIN)
        except LocalError as error:
            fix = f"Check that a Debian mirror can be reached; {MIRROR_VARIABLE} names another."
            raise LocalError(f"{error}\n{fix}") from None
        for name in UNNEEDED:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir(parents=True)
        for cached in root.glob("usr/lib/python3*/**/__pycache__"):
            shutil.rmtree(cached, ignore_errors=True)
        root.chmod(0o755)
        root.replace(target)
