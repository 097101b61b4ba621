"""An address for each pod, so that many can listen on the same port of this machine.

On Linux all of 127.0.0.0/8 is loopback. A node takes one 127.N.0.0/16 and holds it by listening
on 127.N.0.1, which also keeps a second node on this machine out. Elsewhere only 127.0.0.1 exists,
and pods have to keep their ports apart.
"""

from __future__ import annotations

import random
import socket
from dataclasses import dataclass, field

from local.errors import LocalError
from local.processes import LINUX

NODE_PORT = 29250
ONLY = "127.0.0.1"


@dataclass
class Addresses:
    node: str
    listener: socket.socket
    """Bound; whoever serves the node's own API listens on it."""
    _used: set[str] = field(default_factory=set)
    _next: int = 0

    @classmethod
    def claim(cls) -> Addresses:
        if not LINUX:
            listener = socket.socket()
            listener.bind((ONLY, 0))
            return cls(ONLY, listener)
        for second in random.sample(range(16, 250), 234):
            listener = socket.socket()
            try:
                listener.bind((f"127.{second}.0.1", NODE_PORT))
            except OSError:
                listener.close()
                continue
            return cls(f"127.{second}.0.1", listener)
        raise LocalError(
            f"no loopback network is free: port {NODE_PORT} is taken on every 127.N.0.1. "
            "Something listens on that port on all addresses; stop it."
        )

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def take(self) -> str:
        if self.node == ONLY:
            return ONLY
        prefix = self.node.rsplit(".", 2)[0]
        for _ in range(254 * 254):
            # Round and round, so that an address rests before the next pod gets it.
            self._next = self._next % (254 * 254) + 1
            third, fourth = divmod(self._next - 1, 254)
            address = f"{prefix}.{third + 1}.{fourth + 1}"
            if address not in self._used:
                self._used.add(address)
                return address
        raise LocalError("this node has no address left. Delete pods.")

    def give_back(self, address: str) -> None:
        self._used.discard(address)
