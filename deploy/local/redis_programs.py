"""A Redis server to run: the machine's own, else the one in a wheel. And a Valkey."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError
from local.progress import say
from local.wheels import wheel_environment

OLDEST = (6, 2)


@dataclass(frozen=True)
class RedisProgram:
    path: Path
    version: tuple[int, int]
    tls: bool
    """Distributions build it with TLS; the wheels do not."""


def find_redis() -> RedisProgram:
    on_path = shutil.which("redis-server")
    if on_path and (found := _inspect(Path(on_path))):
        return found
    return _from_wheel("redis")


def find_redis_62() -> RedisProgram:
    """The oldest that is supported: scripts that use a newer command are found out by it."""
    return _from_wheel("redis62")


def find_valkey() -> RedisProgram:
    """What many clouds run by now under Redis' name."""
    return _from_wheel("valkey", "_binaries/*/valkey-server")


def _from_wheel(name: str, program: str = "bin/redis-server") -> RedisProgram:
    environment = wheel_environment(name)
    for candidate in sorted(environment.glob(f"lib/python*/site-packages/*/{program}")):
        # pip does not keep the permission to run what is not a script of the package.
        candidate.chmod(candidate.stat().st_mode | 0o111)
        if found := _inspect(candidate):
            return found
    raise LocalError(
        f"neither this machine nor the wheel in {environment} has a {Path(program).name} ≥ "
        f"{OLDEST[0]}.{OLDEST[1]} that runs here. Install one and put it on PATH."
    )


def _inspect(path: Path) -> RedisProgram | None:
    if not os.access(path, os.X_OK):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", _run(path, "--version"))
    if found is None:
        say(f"{path} does not run here; searching for another Redis")
        return None
    version = (int(found[1]), int(found[2]))
    if version < OLDEST:
        say(f"{path} is older than Redis {OLDEST[0]}.{OLDEST[1]}; searching for another")
        return None
    # Without certificates it never gets as far as listening, and what it complains about differs.
    refusal = _run(path, "--port", "0", "--tls-port", "1", "--save", "")
    return RedisProgram(path, version, tls="Failed to configure TLS" in refusal)


def _run(path: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [str(path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
