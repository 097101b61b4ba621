"""What a container image means here: a program on this machine, with its environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from local.paths import REPOSITORY

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class LocalImage:
    """`args` of a container are appended to the entry point, `command` replaces it."""

    entrypoint: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = str(REPOSITORY)


def python_image(*arguments: str, path: tuple[Path, ...] = ()) -> LocalImage:
    """The Python of this environment, so that an image has what `requirements/` has."""
    executables = f"{Path(sys.executable).parent}{os.pathsep}{SYSTEM_PATH}"
    sources = os.pathsep.join(str(folder) for folder in path)
    return LocalImage(
        entrypoint=(sys.executable, *arguments),
        env={
            "PATH": executables,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"PYTHONPATH": sources} if sources else {}),
        },
    )


DEFAULT_IMAGES: Mapping[str, LocalImage] = {
    "starforge-backlog": python_image("-m", "starforge_backlog", path=(REPOSITORY / "operator",)),
    "local/python": python_image(),
    "local/sh": LocalImage(entrypoint=("/bin/sh",), env={"PATH": SYSTEM_PATH}),
}


def find_image(reference: str, images: Mapping[str, LocalImage]) -> LocalImage | None:
    """By name: registry, tag and digest do not matter, the longest name that fits wins."""
    repository = reference.partition("@")[0]
    head, slash, last = repository.rpartition("/")
    repository = f"{head}{slash}{last.partition(':')[0]}"
    fitting = [name for name in images if f"/{repository}".endswith(f"/{name}")]
    return images[max(fitting, key=len)] if fitting else None


def dump_images(images: Mapping[str, LocalImage], path: Path) -> None:
    path.write_text(json.dumps({name: asdict(image) for name, image in images.items()}, indent=2))


def load_images(path: Path) -> Mapping[str, LocalImage]:
    return {
        name: LocalImage(tuple(raw["entrypoint"]), raw["env"], raw["workdir"])
        for name, raw in json.loads(path.read_text()).items()
    }
