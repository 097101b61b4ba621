"""PostgreSQL refuses to run as root. As root, it runs as somebody who can reach its files."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from local.errors import LocalError
from local.paths import new_run_dir
from local.postgres_programs import PostgresPrograms

COPIED_PROGRAMS = "postgres-programs"
CANDIDATES = ("postgres", "nobody")


def other_user() -> str | None:
    """Nobody else than us, unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise LocalError(
        "PostgreSQL refuses to run as root, and this machine has neither a `postgres` nor a "
        "`nobody` user. Add one, or run as another user than root."
    )


def data_folder(wanted: Path, user: str | None) -> Path:
    """Where the data goes: below the run folder, unless `user` cannot get there."""
    if user is None:
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
        return wanted
    if not reachable(wanted.parent, user):
        wanted = new_run_dir("starforge-postgres", Path(tempfile.gettempdir())) / "postgres"
        wanted.parent.chmod(0o711)
    wanted.mkdir(exist_ok=True, mode=0o700)
    shutil.chown(wanted, user)
    return wanted


def programs_for(found: PostgresPrograms, user: str | None, near: Path) -> PostgresPrograms:
    """A wheel in root's own cache is closed to others: they get a copy beside the data."""
    if user is None or reachable(found.bin / "postgres", user):
        return found
    packages = found.bin.parents[2]
    if packages.name != "site-packages":
        raise LocalError(
            f"{found.bin} is not readable for the user `{user}`. Open it, or remove it."
        )
    copy = near / COPIED_PROGRAMS
    package = found.bin.parents[1].name
    for folder in packages.glob(f"{package}*"):  # with its shared libraries, found by `../`
        if folder.is_dir():
            shutil.copytree(folder, copy / folder.name, symlinks=True, dirs_exist_ok=True)
    copy.chmod(0o755)
    return PostgresPrograms(copy / package / "pginstall" / "bin", found.version)


def reachable(path: Path, user: str) -> bool:
    """Whether every folder on the way lets `user` through (group membership aside)."""
    uid = pwd.getpwnam(user).pw_uid
    for step in (path, *path.parents):
        status = step.stat()
        needed = stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH
        if not status.st_mode & needed:
            return False
    return True
