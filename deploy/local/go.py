"""The Go toolchain: the machine's own where it is new enough, else from a wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from local.errors import LocalError
from local.progress import say
from local.wheels import wheel_environment

OLDEST = (1, 26)


def find_go() -> Path:
    on_path = shutil.which("go")
    if on_path:
        version = _version(Path(on_path))
        if version and version >= OLDEST:
            return Path(on_path)
        say(f"{on_path} is older than Go {OLDEST[0]}.{OLDEST[1]}; using the one from the wheel")
    environment = wheel_environment("go")
    for candidate in sorted(environment.glob("bin/go")) + sorted(environment.glob("**/bin/go")):
        if _version(candidate):
            return candidate
    raise LocalError(
        f"the Go wheel in {environment} has no working `go` for this machine. "
        f"Install Go {OLDEST[0]}.{OLDEST[1]} or newer and put it on PATH."
    )


def _version(go: Path) -> tuple[int, int] | None:
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
    found = re.match(r"go(\d+)\.(\d+)", done.stdout.strip())
    return (int(found[1]), int(found[2])) if found else None
