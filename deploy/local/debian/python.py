"""Tests on the Python of the image: `python -m local.debian.python PYTEST_ARGUMENT...`.

The base's root file system with this checkout and the per-user cache at their own paths. The
machine's network and processes are seen, its programs are not: what tests start comes from the
cache (Go programs) or from wheels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from local.debian.means import packages_lacking
from local.debian.rootfs import base_rootfs
from local.errors import LocalError
from local.image.build import AUTHORITIES, pip_settings
from local.locks import exclusive
from local.paths import REPOSITORY, REQUIREMENTS, cache_dir
from local.progress import say

ENTER = Path(__file__).with_name("enter.sh")
LOCK = REQUIREMENTS / "dev.txt"
INSTALLED_WITHIN = 1200.0
LACKING = 3


def environment(rootfs: Path) -> Path:
    """A virtual environment of the lock file, by that Python; made once."""
    key = hashlib.sha256(LOCK.read_bytes() + str(rootfs).encode()).hexdigest()[:16]
    target = cache_dir() / f"python-{key}"
    complete = target / ".complete"
    waiting = "another process installs the packages; waiting for it"
    with exclusive(target.with_suffix(".lock"), lambda: say(waiting)):
        if not complete.exists():
            say(f"installing {LOCK.name} for the image's Python (once per user) into {target}")
            shutil.rmtree(target, ignore_errors=True)
            python = target / "bin" / "python"
            enter(rootfs, ["python3", "-m", "venv", target], quiet=True)
            install = ("-m", "pip", "install", "--quiet", "--require-hashes", "-r", LOCK)
            enter(rootfs, [python, *install], quiet=True)
            complete.touch()
    return target


def enter(rootfs: Path, command: Sequence[str | Path], *, quiet: bool = False) -> None:
    """Run a command in it, in this checkout. Raises LocalError when it fails."""
    with tempfile.TemporaryDirectory(prefix="chroot-", dir=cache_dir()) as scratch:
        settings = Path(scratch) / "pip.conf"
        settings.touch(mode=0o600)
        settings.write_text(pip_settings())
        unshare = ["unshare", "-m", "--propagation", "private", "sh", ENTER]
        authorities = AUTHORITIES if AUTHORITIES.exists() else ""
        done = subprocess.run(
            [str(part) for part in (*unshare, scratch, rootfs, cache_dir(), REPOSITORY, *command)],
            env={**os.environ, "PIP_CONFIG_FILE": str(settings), "AUTHORITIES": str(authorities)},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if quiet else None,
            check=False,
        )
    if done.returncode != 0:
        raise LocalError(f"`{' '.join(map(str, command[:4]))} …` exited with {done.returncode}.")


def main() -> int:
    if lacking := packages_lacking():
        sys.stdout.write(f"{lacking}\n")
        return LACKING
    try:
        # A machine that reaches no Debian mirror or no wheels for that Python lacks the means.
        rootfs = base_rootfs()
        python = environment(rootfs) / "bin" / "python"
    except LocalError as error:
        sys.stdout.write(f"{error}\n")
        return LACKING
    try:
        if arguments := sys.argv[1:]:
            enter(rootfs, [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments])
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
