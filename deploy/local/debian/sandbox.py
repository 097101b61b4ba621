"""A command with packages laid over /usr, in namespaces that end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.errors import LocalError
from local.paths import cache_dir

INSIDE = Path(__file__).with_name("inside.py")


def command_inside(scratch: Path, packages: Path, *command: str | Path) -> list[str]:
    """Run it directly or below `unshare`: it needs a mount namespace of its own."""
    return [sys.executable, "-I", "-S", *map(str, (INSIDE, scratch, packages, *command))]


def run_inside(
    packages: Path,
    command: Sequence[str | Path],
    *,
    within: float,
    cwd: Path = Path("/"),
    env: Mapping[str, str] | None = None,
) -> str:
    """Output of a command that has the machine's network, but none of its /run and /var.

    It has a PID namespace of its own: what it leaves running ends with it.
    """
    with tempfile.TemporaryDirectory(prefix="sandbox-", dir=cache_dir()) as scratch:
        unshare = ["unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc"]
        try:
            done = subprocess.run(
                [*unshare, *command_inside(Path(scratch), packages, *command)],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=within,
            )
        except subprocess.TimeoutExpired:
            raise LocalError(f"`{command[0]}` did not end within {within:g} s.") from None
    if done.returncode != 0:
        said = done.stdout.strip()[-3000:]
        raise LocalError(f"`{command[0]}` exited with {done.returncode}. It said:\n{said}")
    return done.stdout
