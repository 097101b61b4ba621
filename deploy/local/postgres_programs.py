"""A PostgreSQL server to run: the machine's newest, else the one in a wheel."""

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

OLDEST = 15


@dataclass(frozen=True)
class PostgresPrograms:
    bin: Path
    version: int

    @property
    def initdb(self) -> Path:
        return self.bin / "initdb"

    @property
    def postgres(self) -> Path:
        return self.bin / "postgres"


def find_postgres() -> PostgresPrograms:
    """The same major version wins by place: PATH before the distribution's folders."""
    usable = [found for folder in _machine_folders() if (found := _inspect(folder))]
    if usable:
        return max(usable, key=lambda found: found.version)
    environment = wheel_environment("postgres")
    for folder in sorted(environment.glob("lib/python*/site-packages/*/pginstall/bin")):
        found = _inspect(folder)
        if found:
            return found
    raise LocalError(
        f"neither this machine nor the wheel in {environment} has a PostgreSQL ≥ {OLDEST} that "
        "runs here. Install one and put its `initdb` and `postgres` on PATH."
    )


def _machine_folders() -> list[Path]:
    folders = [Path(found).resolve().parent for name in _NAMES if (found := shutil.which(name))]
    for pattern in ("usr/lib/postgresql/*/bin", "opt/homebrew/opt/postgresql@*/bin"):
        folders += sorted(Path("/").glob(pattern), reverse=True)
    return list(dict.fromkeys(folders))


_NAMES = ("postgres", "initdb")


def _inspect(folder: Path) -> PostgresPrograms | None:
    """Both programs from one folder: distributions put wrappers for one of them on PATH."""
    versions: set[int] = set()
    for name in _NAMES:
        if not os.access(folder / name, os.X_OK):
            return None
        done = subprocess.run(
            [str(folder / name), "--version"], capture_output=True, text=True, check=False, cwd="/"
        )
        found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
        if done.returncode != 0 or found is None:
            say(f"{folder / name} does not run here; searching for another PostgreSQL")
            return None
        versions.add(int(found[1]))
    version = versions.pop()
    return PostgresPrograms(folder, version) if not versions and version >= OLDEST else None
