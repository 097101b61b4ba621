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
    from starforge_backlog.clock import utc_now
    from starforge_backlog.snapshot import Unknown

    module, _, name = sys.argv[1].partition(":")
    born = getattr(importlib.import_module(module), name)

    def say(line):  # one system call per line, or a kill cuts it in two
        os.write(1, f"{line}\\n".encode())

    async def live(name):
        async with born(*sys.argv[2:]) as producer:
            for n in range(10000):
                token = f"{name}/{n}"
                say(token)
                held = await producer.pause(owner="ns/etl", token=token, at=utc_now())
                if not isinstance(held, Unknown):
                    await producer.resume(
                        token=token, version=held.version, previous=held.previous
                    )

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(live(line.strip()))
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
        """One life; the last token that it announced, as a status would hold it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n".encode())
        pid, token, dying = 0, "", False
        async for line in self.process.stdout:
            match line.decode().split():
                case ["pid", number]:
                    pid = int(number)
                case ["dead"]:
                    break
                case [announced]:
                    token = announced
                case other:
                    pytest.fail(f"the nursery said {other}")
            if pid and token and not dying:  # the clock starts with the first pause
                dying = True
                asyncio.get_running_loop().call_later(seconds, os.kill, pid, signal.SIGKILL)
        return token


@asynccontextmanager
async def nursery(born: str, *given: str) -> AsyncIterator[Nursery]:
    """`born` is `module:function` of an async context manager that makes the producer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, born, *given),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield Nursery(process)
    finally:
        process.kill()
        await process.wait()
