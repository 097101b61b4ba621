"""A machine from outside of a node: what is there after one has ended was left."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.debian.inside import MACHINE_WIDE
from local.debian.means import CGROUPS

# Where daemons write as root, whatever their own folders are.
WRITTEN = ("/var/lib", "/var/log", "/run", "/etc", "/var/lib/cni", "/var/log/containers")


@dataclass(frozen=True)
class Machine:
    """Each field is a set of words that can be compared and shown."""

    links: frozenset[str]
    routes: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    groups: frozenset[str]
    sysctls: frozenset[str]
    filters: frozenset[str]
    folders: frozenset[str]

    @classmethod
    def now(cls) -> Machine:
        """Only what is a node's: other programs of the machine come and go."""
        return cls(
            links=_ours("ip", "-o", "link"),
            routes=_ours("ip", "route"),
            namespaces=frozenset(
                str(path) for path in Path("/run/netns").glob("*") if Path("/run/netns").is_dir()
            ),
            mounts=frozenset(
                line.split()[1]
                for line in Path("/proc/mounts").read_text().splitlines()
                if "/data/node/" in line or "containerd" in line or "kubelet" in line
            ),
            groups=frozenset(str(path) for path in CGROUPS.glob("*/starforge-node-*")),
            sysctls=frozenset(
                f"{name}={path.read_text().strip()}"
                for name in (*MACHINE_WIDE, "net/ipv4/ip_forward")
                if (path := Path("/proc/sys") / name).exists()
            ),
            filters=frozenset(Path("/proc/net/ip_tables_names").read_text().split())
            if Path("/proc/net/ip_tables_names").exists()
            else frozenset(),
            folders=frozenset(str(path) for folder in WRITTEN for path in Path(folder).glob("*")),
        )

    def left_since(self, before: Machine) -> dict[str, list[str]]:
        """What is there now and was not, by its kind."""
        return {
            kind: sorted(more)
            for kind in self.__dataclass_fields__
            if (more := getattr(self, kind) - getattr(before, kind))
        }


def processes(marker: str) -> list[str]:
    """Commands of living processes that carry a run's mark or work below its folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if marker in command or marker.encode() in environment:
            found.append(command)
    return found


def _ours(*command: str) -> frozenset[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return frozenset(
        line.strip() for line in done.stdout.splitlines() if "starforge" in line or "198.1" in line
    )
