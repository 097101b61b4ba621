"""Build and download what a real node needs: `python -m local.kubelet`.

Exits with 3, and one sentence on its output, where this machine cannot have one.
"""

from __future__ import annotations

import sys

from local import build
from local.debian.means import node_lacking
from local.debian.packages import unpacked
from local.errors import LocalError
from local.image.build import Builder, choose, own_base
from local.kubelet.node import pause_image
from local.tools import NODE_PROGRAMS

LACKING = 3


def main() -> int:
    if lacking := node_lacking():
        sys.stdout.write(f"{lacking}\n")
        return LACKING
    try:
        # Packages and base come from a Debian mirror: a machine that reaches none lacks the means.
        pause_image(unpacked())
        if choose() is Builder.OWN:
            own_base()
    except LocalError as error:
        sys.stdout.write(f"{error}\n")
        return LACKING
    try:
        build.ensure(NODE_PROGRAMS)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
