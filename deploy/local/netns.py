"""Run a command in a network of its own: `python -m local.netns COMMAND…`.

Nothing outside can reach what listens there on all addresses, nothing inside can ask the outside,
and two runs cannot take each other's ports. Only root may make one without becoming another user,
which PostgreSQL minds; for everybody else the command runs in the machine's network, and says so.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import sys
from typing import Final

from local.progress import say

_INSIDE: Final = "--inside"
# linux/sockios.h and linux/if.h
_GET_FLAGS: Final = 0x8913
_SET_FLAGS: Final = 0x8914
_UP: Final = 0x1
_REQUEST: Final = "16sH14x"


def main(arguments: list[str]) -> None:
    """Does not return: this process becomes the command."""
    if arguments[0] == _INSIDE:
        _loopback_up()
        os.execvp(arguments[1], arguments[1:])  # noqa: S606 - the command that was asked for
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        say("not root, or no `unshare`: this runs in the network of the machine")
        os.execvp(arguments[0], arguments)  # noqa: S606 - as above
    again = [sys.executable, "-m", "local.netns", _INSIDE, *arguments]
    os.execv(unshare, [unshare, "--net", *again])  # noqa: S606 - as above


def _loopback_up() -> None:
    """A new network has the interface, and it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack(_REQUEST, b"lo", 0)
        _, flags = struct.unpack(_REQUEST, fcntl.ioctl(asking, _GET_FLAGS, request))
        fcntl.ioctl(asking, _SET_FLAGS, struct.pack(_REQUEST, b"lo", flags | _UP))


if __name__ == "__main__":
    main(sys.argv[1:])
