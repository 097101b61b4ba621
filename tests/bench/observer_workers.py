"""Workers at full speed: claim, complete, enqueue. pgbench where it is, else a loop in Python."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

import psycopg

_CLAIM = """UPDATE queue_jobs SET status = 'processing', updated_at = now()
 WHERE id = (SELECT id FROM queue_jobs WHERE status = 'pending' AND run_after <= now()
              ORDER BY run_after LIMIT 1 FOR UPDATE SKIP LOCKED)
 RETURNING id"""
_COMPLETE = "UPDATE queue_jobs SET status = 'completed', updated_at = now() WHERE id = "
_ENQUEUE = "INSERT INTO queue_jobs (id, type) VALUES (gen_random_uuid(), 'process_snapshot')"

_TPS = re.compile(r"tps = ([0-9.]+)")


def start(url: str, *, pgbench: Path | None, clients: int, seconds: float, folder: Path) -> Workers:
    """Start workers in a process of their own."""
    if pgbench is None:
        command = [sys.executable, "-m", "tests.bench.observer_workers"]
        command += [url, str(clients), str(seconds)]
    else:
        script = folder / "worker.sql"
        flat = " ".join(_CLAIM.split())
        script.write_text(f"{flat} \\gset\n{_COMPLETE} :id;\n{_ENQUEUE};\n", "utf-8")
        command = [str(pgbench), "-n", "-M", "prepared", "-f", str(script)]
        command += ["-c", str(clients), "-j", "1", "-T", str(round(seconds)), url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return Workers(process)


class Workers:
    """Running workers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def jobs_per_second(self) -> float:
        """Wait for the end. Raises RuntimeError with their output when they failed."""
        output, _ = self._process.communicate()
        match = _TPS.search(output)
        if match is None or self._process.returncode:
            raise RuntimeError(f"the workers failed:\n{output}")
        return float(match[1])


async def _loop(url: str, clients: int, seconds: float) -> float:
    done = 0
    end = time.monotonic() + seconds

    async def one() -> None:
        nonlocal done
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while time.monotonic() < end:
                row = await (await connection.execute(_CLAIM)).fetchone()
                if row is not None:
                    await connection.execute(_COMPLETE + "%s", (row[0],))
                await connection.execute(_ENQUEUE)
                done += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return done / seconds


if __name__ == "__main__":
    address, number, duration = sys.argv[1:]
    print(f"tps = {asyncio.run(_loop(address, int(number), float(duration)))}")
