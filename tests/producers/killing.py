"""Operators that live for milliseconds: forked by one nursery, killed by SIGKILL at random."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

# Imports take a second, a life here is milliseconds: one nursery forks all operators. `live` comes
# from the test; what it says last is what a status would hold.
_NURSERY = """
import asyncio, os, sys

def say(line):  # one system call per line, or a kill cuts it in two
    os.write(1, f"{line}\\n".encode())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(live(line.strip(), *sys.argv[1:]))
        os._exit(0)
    say(f"pid {child}")
    os.waitpid(child, 0)
    say("dead")
"""


@dataclass(frozen=True)
class Nursery:
    """Where they come from."""

    process: asyncio.subprocess.Process

    async def live_and_be_killed(self, name: str, seconds: float) -> str:
        """One life; the last word that it announced, as a status would hold it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n".encode())
        token = "none"
        async for line in self.process.stdout:
            match line.decode().split():
                case ["pid", pid]:
                    loop = asyncio.get_running_loop()
                    loop.call_later(seconds, os.kill, int(pid), signal.SIGKILL)
                case ["dead"]:
                    return token
                case [announced]:
                    token = announced
                case other:
                    pytest.fail(f"the nursery said {other}")
        pytest.fail("the nursery died")


@asynccontextmanager
async def nursery(program: str, *arguments: str) -> AsyncIterator[Nursery]:
    """`program` defines `async def live(name, *arguments)` and says its tokens with `say`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(program) + _NURSERY,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        await process.wait()
