"""Names and addresses of one node: a slot, held by a lock that ends with the process.

All addresses are from 198.18.0.0/15, which is set aside for tests of devices and routed by nobody
(RFC 2544). The host reaches pods and Services over one link; its firewall and forwarding stay as
they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from local.errors import LocalError
from local.kubelet.cgroups import remove_group
from local.paths import cache_dir

SPACE = ipaddress.IPv4Network("198.18.0.0/15")
SLOTS = 8


@dataclass(frozen=True)
class Networks:
    """What is different for each node of this machine."""

    slot: int

    @property
    def name(self) -> str:
        """Of the Node and of its control group."""
        return f"starforge-node-{self.slot}"

    @property
    def link(self) -> str:
        """The host's end; 15 characters at most."""
        return f"starforge{self.slot}"

    @property
    def host(self) -> str:
        """Where pods find the servers of this machine."""
        return str(self._block(0)[1])

    @property
    def node(self) -> str:
        return str(self._block(0)[2])

    @property
    def pods(self) -> str:
        return str(self._block(1))

    @property
    def services(self) -> str:
        return str(self._block(2))

    @property
    def api_service(self) -> str:
        """The first address of the Services, which Kubernetes gives to its API server."""
        return str(self._block(2)[1])

    def _block(self, number: int) -> ipaddress.IPv4Network:
        blocks = list(SPACE.subnets(new_prefix=24))
        return blocks[self.slot * 4 + number]

    def connect(self, pid: int) -> None:
        """Lay the link into the network namespace of a process. It goes when the process does."""
        inside = ("nsenter", "-t", str(pid), "-n")
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("addr", "add", f"{self.host}/24", "dev", self.link)
        _ip("link", "set", self.link, "up")
        _ip("link", "set", "lo", "up", inside=inside)
        _ip("addr", "add", f"{self.node}/24", "dev", "eth0", inside=inside)
        _ip("link", "set", "eth0", "up", inside=inside)
        for network in (self.pods, self.services):
            _ip("route", "add", network, "via", self.node)

    def disconnect(self) -> None:
        """Nothing happens when the link is gone already, as it is with its namespace."""
        with contextlib.suppress(LocalError):
            _ip("link", "del", self.link)


@contextlib.contextmanager
def claimed() -> Iterator[Networks]:
    """A free slot, cleaned of what a killed run left in it."""
    folder = cache_dir() / "nodes"
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        mine: Networks | None = None
        for slot in range(SLOTS):
            handle = (folder / f"slot-{slot}.lock").open("a")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                continue
            networks = Networks(slot)
            networks.disconnect()
            remove_group(networks.name)
            if mine is None:
                mine = networks
                stack.enter_context(handle)
            else:
                handle.close()
        if mine is None:
            raise LocalError(f"{SLOTS} nodes run on this machine already. End one of them.")
        yield mine


def _ip(*arguments: str, inside: tuple[str, ...] = ()) -> None:
    done = subprocess.run([*inside, "ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
