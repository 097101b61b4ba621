"""Operators that pause and resume all their short life, until SIGKILL ends it (P6)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import textwrap
import time
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

# Tokens that a life announces, at most, before it is killed.
LONGEST_LIFE: Final = 3


@dataclass
class Nursery:
    """The process that forks them."""

    process: asyncio.subprocess.Process
    # Seconds from one token to the next, as last seen: how long a pause and its resume take here
    # and now. A kill after so many fixed milliseconds met no pause at all on a slow machine.
    turn: float | None = None

    async def live_and_be_killed(self, name: str, chance: random.Random) -> str:
        """One life, ended at any point of one of its first pauses or resumes; the last token that
        it announced, as a status would hold it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n".encode())
        loop = asyncio.get_running_loop()
        # A first life shows how long a turn is; in others it may be the first that is cut short.
        last = chance.randint(2 if self.turn is None else 1, LONGEST_LIFE)
        pid, token, announced, at = 0, "", 0, 0.0
        killing: asyncio.Future[None] | None = None
        async for line in self.process.stdout:
            match line.decode().split():
                case ["pid", number]:
                    pid = int(number)
                case ["dead"]:
                    assert killing is not None, f"{name} died by itself"
                    await killing
                    return token
                case [token]:
                    announced += 1
                    if 1 < announced <= last:
                        self.turn = loop.time() - at
                    at = loop.time()
                case other:
                    pytest.fail(f"the nursery said {other}")
            if pid and announced >= last and killing is None:
                assert self.turn is not None
                point = chance.uniform(0, 1.2) * self.turn  # a bit into the next turn, too
                killing = loop.run_in_executor(None, _kill_after, point, pid)
        pytest.fail("the nursery died")


def _kill_after(seconds: float, pid: int) -> None:
    """In a thread: an event loop checks its timers when something wakes it, which is the next
    announcement, so that all of them would die before their next write."""
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)


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
