"""Build and install every program of this package once per user: `python -m local.build`.

The result is keyed by everything that goes into it, so a changed `go.sum` is a new folder and an
old checkout finds its own again. Nothing is built that `KUBEBUILDER_ASSETS` already has.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from local.errors import LocalError
from local.go import find_go
from local.locks import exclusive
from local.nodejs import PACKAGES, find_node, node_packages
from local.paths import REPOSITORY, cache_dir
from local.pgbouncer import NoPgBouncerError, find_pgbouncer
from local.progress import bar, say
from local.redis_programs import find_redis, find_redis_62, find_valkey
from local.tools import CONTROL_PLANE, KEDA, NODE_PROGRAMS, PROMETHEUS, ToolSet

ASSETS = "KUBEBUILDER_ASSETS"


def ensure(names: Iterable[str], tools: ToolSet = CONTROL_PLANE) -> dict[str, Path]:
    """Where each program is, built first if it is nowhere."""
    wanted = list(names)
    found = _present(wanted, tools)
    if len(found) == len(wanted):
        return found
    folder = cache_folder(tools)
    lock = folder.with_name(folder.name + ".lock")
    with exclusive(lock, lambda: say(f"another process is building {tools.name}; waiting for it")):
        missing = [name for name in wanted if name not in _present(wanted, tools)]
        if missing:
            _build(missing, tools, folder)
    found = _present(wanted, tools)
    lost = [name for name in wanted if name not in found]
    if lost:
        raise LocalError(
            f"{', '.join(lost)} was built but is not in {folder}. "
            "Remove that folder and start again."
        )
    return found


def built(names: Iterable[str], tools: ToolSet) -> dict[str, Path] | None:
    """Where each program is; None when one is not there. Builds nothing."""
    wanted = list(names)
    found = _present(wanted, tools)
    return found if len(found) == len(wanted) else None


def cache_folder(tools: ToolSet) -> Path:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((tools.module / name).read_bytes())
    for flag in (*tools.flags, *_tags(tools)):
        digest.update(flag.encode() + b"\0")
    digest.update(f"{_goos()}/{_goarch()}".encode())
    return cache_dir() / f"{tools.name}-{digest.hexdigest()[:16]}"


def _present(names: Iterable[str], tools: ToolSet) -> dict[str, Path]:
    folders = [cache_folder(tools)]
    assets = os.environ.get(ASSETS)
    if assets:
        if not Path(assets).is_dir():
            raise LocalError(
                f"{ASSETS}={assets} is not a folder. Unset it, or point it at the folder that "
                "holds kube-apiserver, etcd and kubectl."
            )
        folders.insert(0, Path(assets))
    found: dict[str, Path] = {}
    for name in names:
        for folder in folders:
            if os.access(folder / name, os.X_OK):
                found[name] = folder / name
                break
    return found


def _build(names: list[str], tools: ToolSet, folder: Path) -> None:
    go = find_go(_language(tools.module / "go.mod"))
    started = time.monotonic()
    say(f"building {', '.join(names)} with {go} — only the first time: {tools.first_time}")
    packages = [tools.packages[name] for name in names]
    total = _count_packages(go, packages, tools)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=folder) as scratch:
        _compile(go, packages, tools, Path(scratch), total)
        for name in names:
            # The rename is what makes a program appear, whole or not at all.
            (Path(scratch) / _go_name(tools.packages[name])).replace(folder / name)
    say(f"built into {folder} in {time.monotonic() - started:.0f} s")


def _count_packages(go: Path, packages: list[str], tools: ToolSet) -> int:
    """Also downloads what is missing, which on a slow line is most of the wait."""
    say("reading the module's packages (and downloading them, if they are not there yet)")
    done = subprocess.run(
        [str(go), "list", "-deps", "-mod=readonly", *_tags(tools), *packages],
        cwd=tools.module,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(
            f"Go cannot load the sources of {tools.name}:\n{done.stderr[-2000:]}\n"
            "Check that the Go module proxy can be reached (GOPROXY), or set "
            f"{ASSETS} to a folder with ready-made binaries."
        )
    return len(done.stdout.splitlines())


def _compile(go: Path, packages: list[str], tools: ToolSet, out: Path, total: int) -> None:
    flags = ("-v", "-mod=readonly", *tools.flags, *_tags(tools))
    command = [str(go), "build", *flags, "-o", f"{out}/", *packages]
    said: deque[str] = deque(maxlen=40)
    done = 0
    with (
        bar(tools.name, total) as progress,
        subprocess.Popen(
            command,
            cwd=tools.module,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if _is_package(line):
                    done = min(done + 1, total)
                    progress.update(done, line.strip())
                else:
                    # Go carries on with other packages for a while: their names would push the
                    # fault out of what is kept.
                    said.append(line)
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        if code == 0:
            progress.update(total, "linked")
    if code != 0:
        raise LocalError(
            f"building {tools.name} failed (go exited with {code}):\n{''.join(said)}\n"
            "If the disk or memory is full, make room (4 GB each) and run `python -m local.build` "
            "again; it carries on where it stopped."
        )


def _tags(tools: ToolSet) -> tuple[str, ...]:
    return (f"-tags={','.join(tools.tags)}",) if tools.tags else ()


def _language(module: Path) -> tuple[int, ...]:
    """The oldest Go that a module takes."""
    found = re.search(r"^go ([\d.]+)$", module.read_text(), re.MULTILINE)
    assert found is not None, f"{module} has no `go` line"
    return tuple(int(part) for part in found[1].split("."))


def _is_package(line: str) -> bool:
    return not line.startswith(("#", "go: ")) and re.fullmatch(r"\S+\n?", line) is not None


def _environment() -> Mapping[str, str]:
    """The user's module proxy and caches, and nothing else that would change the result."""
    changed = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    return {**os.environ, **changed, "GOOS": _goos(), "GOARCH": _goarch()}


def _go_name(package: str) -> str:
    """`go build -o folder/` names a program by its package, without a version suffix."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


def _goos() -> str:
    return platform.system().lower()


def _goarch() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def everything() -> dict[str, Path]:
    """All programs and packages that a test or the demo may start, in the order of their waits."""
    found = ensure(name for name in CONTROL_PLANE.packages if name not in NODE_PROGRAMS)
    found |= ensure(PROMETHEUS.packages, PROMETHEUS)
    found["redis-server"] = find_redis().path
    try:
        found["redis-server 6.2"] = find_redis_62().path
    except LocalError as error:
        say(f"the tests on the oldest Redis will be skipped: {error}")
    found["valkey-server"] = find_valkey().path
    try:
        found["pgbouncer"] = find_pgbouncer().path
    except NoPgBouncerError as error:
        say(f"the tests of pools will be skipped: {error}")
    found["node"] = find_node().path
    for folder in PACKAGES:
        found[f"npm {folder.relative_to(REPOSITORY)}"] = node_packages(folder).resolve()
    return found


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    try:
        # KEDA takes longer than all the others together, and few want it.
        found = ensure(KEDA.packages, KEDA) if arguments == [KEDA.name] else everything()
    except LocalError as error:
        say(str(error))
        return 1
    for name, path in found.items():
        sys.stdout.write(f"{name:26}{path}\n")
    say(f"ready after {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
