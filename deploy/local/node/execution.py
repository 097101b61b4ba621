"""Programs of containers, awaited without a thread each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.processes import Child, spawn


async def exit_code(child: Child) -> int:
    """As a shell gives it: 128 + N for a death by signal N."""
    if hasattr(os, "pidfd_open"):
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        handle = os.pidfd_open(child.pid)
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
    else:
        while not child.exited():  # noqa: ASYNC110 - this system has no event for it
            await asyncio.sleep(0.1)
    code = child.process.wait()
    return code if code >= 0 else 128 - code


async def run_briefly(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, within: float
) -> int | None:
    """The exit code of a short command (a probe, a hook), or None when it took too long."""
    child = spawn(argv[0], argv, log=Path(os.devnull), env=env, cwd=cwd)
    try:
        async with asyncio.timeout(within):
            return await exit_code(child)
    except TimeoutError:
        return None
    finally:
        child.signal_group(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            child.process.wait(5)
