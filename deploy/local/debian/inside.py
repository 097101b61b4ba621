"""Runs inside fresh namespaces, before a program or as their first process.

    inside.py SCRATCH PACKAGES COMMAND...    the packages over /usr, private /run and /var, then run
    inside.py SCRATCH PACKAGES --first       the same, for a node; stays until it is killed

It imports nothing of ours: it runs under `python -I -S`. When the first process of a PID namespace
ends, the kernel ends all others in it, and the mounts and links of its namespaces go with the last
of them. That is what leaves nothing behind after a SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

READY = "ready"
PRIVATE = "private"
"""Below the scratch folder; in memory."""

# Of the whole machine, not of a namespace; the kubelet writes them. It gets copies.
MACHINE_WIDE = (
    *("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"),
    *("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"),
)


def main() -> None:
    scratch, packages, *command = sys.argv[1:]
    lay_over(Path(scratch), Path(packages))
    if command != ["--first"]:
        os.execvp(command[0], command)  # noqa: S606 - no shell, on purpose
    prepare_node(Path(scratch))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of the namespace are ours to reap
    (Path(scratch) / READY).touch()
    while True:
        signal.pause()


def lay_over(scratch: Path, packages: Path) -> None:
    """Only this namespace sees it: what a program writes to /run and /var stays here."""
    private = scratch / PRIVATE
    private.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "tmpfs", private)
    for name in ("var", "work"):
        (private / name).mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={packages}/usr:/usr", "/usr")
    layers = f"lowerdir=/var,upperdir={private}/var,workdir={private}/work"
    mount("-t", "overlay", "overlay", "-o", layers, "/var")
    mount("-t", "tmpfs", "tmpfs", "-o", "mode=755", "/run")


def prepare_node(scratch: Path) -> None:
    mount("--make-rshared", "/")  # volumes of pods are mounted later and must be seen inside
    for number, name in enumerate(MACHINE_WIDE):
        original = Path("/proc/sys") / name
        if original.exists():
            copy = scratch / PRIVATE / f"sysctl-{number}"
            copy.write_text(original.read_text())
            mount("--bind", copy, original)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this network namespace alone


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
