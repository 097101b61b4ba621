"""Memory limits: what cgroups would enforce, by a check twice a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

EVERY = 0.5


class Limited(Protocol):
    @property
    def memory_limit(self) -> int | None: ...

    @property
    def process_group(self) -> int | None: ...

    def kill_for_memory(self) -> None: ...


async def enforce_limits(containers: Callable[[], Iterable[Limited]]) -> None:
    while True:
        limited = [(c, c.process_group, c.memory_limit) for c in containers()]
        if any(group and limit for _, group, limit in limited):
            used = resident_by_group()
            for container, group, limit in limited:
                if group and limit and used.get(group, 0) > limit:
                    container.kill_for_memory()
        await asyncio.sleep(EVERY)


def resident_by_group() -> dict[int, int]:
    """Bytes in memory per process group; one pass over all processes, however many containers."""
    page = os.sysconf("SC_PAGE_SIZE")
    used: dict[int, int] = defaultdict(int)
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            used[int(fields[2])] += int(fields[21]) * page
    return used
