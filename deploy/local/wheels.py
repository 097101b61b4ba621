"""Programs that come as Python wheels (Go, PostgreSQL), for machines that lack them.

Installed on demand, from hashed requirements, into a virtual environment of their own in the
cache: the operator's environment stays what `requirements/dev.txt` says.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from local.errors import LocalError
from local.locks import exclusive
from local.paths import REQUIREMENTS, cache_dir
from local.progress import say


def wheel_environment(name: str) -> Path:
    """The virtual environment with `requirements/<name>.txt`, made if it is not there yet."""
    requirements = REQUIREMENTS / f"{name}.txt"
    content = requirements.read_bytes() + sysconfig.get_platform().encode() + sys.version.encode()
    target = cache_dir() / f"wheel-{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    complete = target / ".complete"
    if complete.exists():
        return target
    lock = target.with_suffix(".lock")
    with exclusive(lock, lambda: say(f"another process is installing {name}; waiting for it")):
        if complete.exists():
            return target
        say(f"installing {name} from a wheel (once per user) into {target}")
        shutil.rmtree(target, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(target)], name)
        pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, "--require-hashes", "-r", str(requirements)], name)
        complete.touch()
    return target


def _run(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(
            f"cannot install {name} for this machine:\n{done.stderr[-2000:]}\n"
            f"Check the network, or install {name} yourself so that it is found on PATH."
        )
