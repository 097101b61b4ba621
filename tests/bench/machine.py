"""What a number was measured on: machine, versions, and how busy the machine was meanwhile."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from local.postgres_programs import find_postgres
from local.tools import KUBERNETES

PACKAGES: Final = ("kopf", "kubernetes", "psycopg", "pydantic", "aiohttp")
_TICKS: Final = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def facts() -> dict[str, str]:
    """Hardware and versions, in the order in which a reader wants them."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": str(find_postgres().version),
        "Kubernetes": KUBERNETES,
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _cpu_model() -> str:
    return _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _memory() -> str:
    kilobytes = (_line_of("/proc/meminfo", "MemTotal") or "").split()
    return f"{int(kilobytes[0]) / 2**20:.0f} GiB" if kilobytes else "unknown"


def _line_of(file: str, key: str) -> str | None:
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((ln.partition(":")[2].strip() for ln in lines if ln.startswith(key)), None)


def _cpu_seconds() -> tuple[float, float]:
    """Busy and all time of the machine's cores so far. Zeros where /proc is missing."""
    try:
        first = Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:9]
    except OSError:
        return 0.0, 0.0
    user, nice, system, idle, waiting, irq, softirq, stolen = (int(part) for part in first)
    busy = user + nice + system + irq + softirq + stolen
    return busy / _TICKS, (busy + idle + waiting) / _TICKS


@dataclass
class Busy:
    """How busy the machine is from here on, by us and by everybody else."""

    _began: tuple[float, float] = field(default_factory=_cpu_seconds)

    def text(self) -> str:
        """`1.7 of 2 cores busy, load average 4.2`."""
        busy, total = (now - then for now, then in zip(_cpu_seconds(), self._began, strict=True))
        cores = os.cpu_count() or 1
        share = busy / total * cores if total else 0.0
        return f"{share:.1f} of {cores} cores busy, load average {os.getloadavg()[0]:.1f}"


def cpu_seconds_of(pid: int) -> float:
    """User and system time of a process so far."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def waited_seconds_of(pid: int) -> float:
    """Time so far in which a process' first thread could have run, but no core was free for it."""
    return int(Path(f"/proc/{pid}/schedstat").read_text("utf-8").split()[1]) / 1e9


def started_at(pid: int) -> float:
    """Unix time at which a process was made, exact to a tick (10 ms)."""
    # `btime` of /proc/stat is rounded to a second; the clock that counts from the boot is exact.
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + int(_stat(pid)[19]) / _TICKS


def resident_bytes(pid: int) -> int:
    """RSS of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str]:
    """Fields after the command's name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
