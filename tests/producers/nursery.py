"""Operators that pause and resume all their short life, until SIGKILL ends it (P6)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pytest

# Imports take a second, a life here is milliseconds: one nursery forks all operators.
SCRIPT: Final = textwrap.dedent(
    """
    import asyncio, importlib, os, sys

    module, _, name = sys.argv[1].partition(":")
    live = getattr(importlib.import_module(module), name)

    def say(line):  # one system call per line, or a kill cuts it in two
        os.write(1, f"{line}\\n".encode())

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(live(line.strip(), say, *sys.argv[2:]))
            os._exit(0)
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("dead")
    """
)


@dataclass(frozen=True)
class Nursery:
    """The process that forks them."""

    process: asyncio.subprocess.Process

    async def live_and_be_killed(self, name: str, seconds: float) -> str:
        """One life, so long after its first pause was announced; the last token that it announced,
        as a status would hold it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n".encode())
        pid, token, dying = 0, "", False
        async for line in self.process.stdout:
            match line.decode().split():
                case ["pid", number]:
                    pid = int(number)
                case ["dead"]:
                    assert dying, f"{name} died by itself"
                    return token
                case [announced]:
                    token = announced
                case other:
                    pytest.fail(f"the nursery said {other}")
            if pid and token and not dying:
                dying = True
                asyncio.get_running_loop().call_later(seconds, os.kill, pid, signal.SIGKILL)
        pytest.fail("the nursery died")


@asynccontextmanager
async def nursery(live: str, *given: str) -> AsyncIterator[Nursery]:
    """`live` is `module:function` of a coroutine like those in `lives.py`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, live, *given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        await process.wait()
