"""Free loopback ports.

Between choosing a port and using it somebody else may take it; whoever starts a server on one
must be ready to try again with another (`AddressTakenError`).
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from local.errors import LocalError

TAKEN = ("address already in use", "Address already in use")


class AddressTakenError(LocalError):
    """The port was free a moment ago. Start again with other ports."""


def free_ports(count: int) -> list[int]:
    """All are held until the last is chosen, so they differ from each other."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
        return ports


def was_taken(log: Path, begin: int = 0) -> bool:
    """Whether a server complained about its port, after the first `begin` bytes of its log."""
    with contextlib.suppress(OSError), log.open(errors="replace") as file:
        file.seek(begin)
        text = file.read()
        return any(sign in text for sign in TAKEN)
    return False
