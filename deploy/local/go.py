"""The Go toolchain: the machine's own where it is new enough, else from a wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from local.errors import LocalError
from local.progress import say
from local.wheels import wheel_environment


def find_go(oldest: tuple[int, ...]) -> Path:
    wanted = ".".join(str(part) for part in oldest)
    on_path = shutil.which("go")
    if on_path:
        version = _version(Path(on_path))
        if version and version >= oldest:
            return Path(on_path)
        say(f"{on_path} is older than Go {wanted}; using the one from the wheel")
    environment = wheel_environment("go")
    for candidate in sorted(environment.glob("bin/go")) + sorted(environment.glob("**/bin/go")):
        if _version(candidate):
            return candidate
    raise LocalError(
        f"the Go wheel in {environment} has no working `go` for this machine. "
        f"Install Go {wanted} or newer and put it on PATH."
    )


def _version(go: Path) -> tuple[int, ...] | None:
    try:
        done = subprocess.run(
            [str(go), "env", "GOVERSION"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"go(\d+(?:\.\d+)+)", done.stdout.strip())
    return tuple(int(part) for part in found[1].split(".")) if found else None
