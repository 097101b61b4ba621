"""Build the operator's image: `python -m local.image [--name NAME] [--base BASE] [--builder …]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from local.errors import LocalError
from local.image.build import Builder, build, choose
from local.paths import REPOSITORY
from local.progress import say

NAME = "starforge-backlog:0.1.0"
ARCHIVE = REPOSITORY / ".cache" / "image.tar"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.image", description=__doc__)
    parser.add_argument("--name", default=NAME)
    parser.add_argument("--base", help="image of Python 3.11 or newer; default: the Dockerfile's")
    parser.add_argument(
        "--builder", type=Builder, choices=list(Builder), help="default: what works"
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE)
    given = parser.parse_args()
    started = time.monotonic()
    try:
        builder = given.builder or choose()
        say(f"building {given.name} with {builder}")
        build(
            given.name, base=given.base or None, builder=builder, archive=given.archive.absolute()
        )
    except LocalError as error:
        say(str(error))
        return 1
    size = given.archive.stat().st_size / 1e6
    say(f"{given.archive} ({size:.0f} MB) after {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
