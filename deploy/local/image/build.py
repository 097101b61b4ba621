"""Three builders for one Dockerfile: docker, buildah, or buildah from a package with its own base.

The last one needs neither a daemon nor a registry: its base is made by debootstrap, and what the
machine needs to reach its package index is mounted for the build only, never part of the image.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path

from local.debian.means import packages_lacking
from local.debian.packages import unpacked
from local.debian.rootfs import base_rootfs
from local.debian.sandbox import run_inside
from local.errors import LocalError
from local.image.archive import write_archive
from local.locks import exclusive
from local.paths import REPOSITORY, cache_dir
from local.progress import say

DOCKERFILE = Path("deploy/image/Dockerfile")
OWN_BASE = "localhost/python:3.13"
BUILT_WITHIN = 1200.0
ANSWERS_WITHIN = 20.0
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "timeout")


class Builder(StrEnum):
    """What builds the image."""

    DOCKER = "docker"
    BUILDAH = "buildah"
    OWN = "own"


def choose() -> Builder:
    """The first that works here."""
    if _docker_answers():
        return Builder.DOCKER
    if shutil.which("buildah"):
        return Builder.BUILDAH
    if without := packages_lacking():
        raise LocalError(
            f"no image can be built here: no docker daemon answers, buildah is not on PATH, and "
            f"buildah from a package cannot be used: {without}. Install docker or buildah."
        )
    return Builder.OWN


def build(name: str, *, base: str | None, builder: Builder, archive: Path) -> None:
    """Write `archive` (docker-archive format) with the image under `name`."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    match builder:
        case Builder.DOCKER:
            _run(["docker", "build", "-f", DOCKERFILE, "-t", name, *_base(base), "."])
            _run(["docker", "save", "-o", archive, name])
        case Builder.BUILDAH:
            _run(["buildah", "bud", "-f", DOCKERFILE, "-t", f"localhost/{name}", *_base(base), "."])
            archive.unlink(missing_ok=True)
            _run(["buildah", "push", f"localhost/{name}", f"docker-archive:{archive}:{name}"])
        case Builder.OWN:
            if base is not None:
                raise LocalError("a base by name needs docker or buildah and a registry.")
            _build_own(name, archive)


def _base(base: str | None) -> list[str]:
    return ["--build-arg", f"BASE={base}"] if base else []


def own_base() -> Path:
    """The archive that the third builder starts from."""
    rootfs = base_rootfs()
    file = rootfs.with_suffix(".oci.tar")
    if not file.exists():
        waiting = "another process packs the base; waiting for it"
        with exclusive(file.with_suffix(".lock"), lambda: say(waiting)):
            if not file.exists():
                write_archive(file, OWN_BASE, rootfs)
    return file


def _build_own(name: str, archive: Path) -> None:
    """Its layers are kept per user: while requirements stay, a build takes seconds."""
    base, packages, store = own_base(), unpacked(), cache_dir() / "buildah"
    with (
        exclusive(store.with_suffix(".lock"), lambda: say("another build is running; waiting")),
        tempfile.TemporaryDirectory(prefix="build-", dir=cache_dir()) as folder,
    ):
        scratch = Path(folder)
        (scratch / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (scratch / "registries.conf").write_text("unqualified-search-registries = []\n")
        (scratch / "pip.conf").touch(mode=0o600)  # an index's URL may hold a password
        (scratch / "pip.conf").write_text(pip_settings())
        buildah: list[str | Path] = [
            *("buildah", "--root", store, "--runroot", "/run/buildah"),
            *("--storage-driver", "overlay", "--registries-conf", scratch / "registries.conf"),
        ]
        policy: tuple[str | Path, ...] = ("--signature-policy", scratch / "policy.json")
        environment = {"TMPDIR": str(scratch), "BUILDAH_ISOLATION": "chroot"}

        def run(step: list[str | Path]) -> None:
            run_inside(packages, step, within=BUILT_WITHIN, cwd=REPOSITORY, env=environment)

        pulled, mark = store / ".base", f"{base.stat().st_size} {base.stat().st_mtime_ns}"
        if not pulled.exists() or pulled.read_text() != mark:
            run([*buildah, "pull", *policy, f"oci-archive:{base}"])
            pulled.write_text(mark)
        mounted = [f"{scratch / 'pip.conf'}:/etc/pip.conf:ro"]
        if AUTHORITIES.exists():
            mounted.append(f"{AUTHORITIES}:{AUTHORITIES}:ro")
        run(
            [
                *(*buildah, "bud", *policy, "--isolation", "chroot", "--pull-never", "--layers"),
                *(part for volume in mounted for part in ("--volume", volume)),
                *("--build-arg", f"BASE={OWN_BASE}", "-f", DOCKERFILE),
                *("-t", f"localhost/{name}", "."),
            ]
        )
        new = archive.with_suffix(".new")
        new.unlink(missing_ok=True)
        run([*buildah, "push", *policy, f"localhost/{name}", f"docker-archive:{new}:{name}"])
        new.replace(archive)


def pip_settings() -> str:
    """How pip finds packages on this machine, whether by file or by environment."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        timeout=ANSWERS_WITHIN,
    )
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        if setting in PIP_SETTINGS:
            found[setting] = value.strip("'\"").replace("\\n", " ")
    if AUTHORITIES.exists():
        found["cert"] = str(AUTHORITIES)
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{json .Server.Version}}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWERS_WITHIN,
        )
        return done.returncode == 0 and bool(json.loads(done.stdout or "null"))
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return False


def _run(command: list[str | Path]) -> None:
    done = subprocess.run([str(part) for part in command], cwd=REPOSITORY, check=False)
    if done.returncode != 0:
        raise LocalError(f"`{' '.join(map(str, command))}` exited with {done.returncode}.")
