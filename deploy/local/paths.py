"""Where things live: what is built once per user, and what one run leaves behind."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

from local.processes import kill_leftovers

PACKAGE = Path(__file__).resolve().parent
REPOSITORY = PACKAGE.parent.parent
REQUIREMENTS = REPOSITORY / "requirements"

RUNS_KEPT = 5
"""Folders of finished runs that stay, so that logs can still be read the next morning."""


def cache_dir() -> Path:
    """Per user, not per checkout: the control plane takes minutes to build."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = Path(base) / "starforge-backlog"
    path.mkdir(parents=True, exist_ok=True)
    return path


def new_run_dir(name: str, parent: Path | None = None) -> Path:
    """A folder for this process' run, named so that a reader sees whose it is."""
    runs = parent or REPOSITORY / ".run"
    runs.mkdir(parents=True, exist_ok=True)
    _prune(runs, name)
    for number in itertools.count(1):
        path = runs / (f"{name}-{os.getpid()}" + (f"-{number}" if number > 1 else ""))
        try:
            path.mkdir()
        except FileExistsError:
            continue  # of an earlier run of this process, or of another thread at this moment
        return path
    raise AssertionError("unreachable")


def _prune(runs: Path, name: str) -> None:
    finished = [p for p in runs.glob(f"{name}-*") if p.is_dir() and not _owner_alive(p, name)]
    finished.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for path in finished:  # a run that was killed could not clean up after itself
        kill_leftovers(str(path))
        for data in ("etcd", "postgres", "data"):
            shutil.rmtree(path / data, ignore_errors=True)
    for path in finished[RUNS_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _owner_alive(path: Path, name: str) -> bool:
    pid = path.name.removeprefix(f"{name}-").split("-")[0]
    if not pid.isdigit():
        return True  # not one of ours: leave it alone
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
