"""From the start of the operator's process, and from an API server that answers again, to the end
of the first pass.

python -m tests.bench.start [--starts 10] [--outages 5]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import urllib3
from tests.bench import stage
from tests.bench.database import JobDatabase
from tests.bench.machine import cpu_seconds_of, started_at
from tests.bench.policies import spec
from tests.bench.result import Result, Table, spread
from tests.bench.stage import say
from tests.e2e.place import Place

from local.processes import RUN_VARIABLE, Child, spawn
from local.waiting import eventually

NAMESPACE: Final = "start"
BAR_SECONDS: Final = 3.0
POLICIES: Final = 5
# Between two reads of the process table, the log or /readyz: it is part of the error.
POLL_SECONDS: Final = 0.01
WITHIN_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Start:
    """Seconds since the process was made (or since the API server answered)."""

    serving: float
    first_pass: float
    all_passes: float  # every policy had one
    cpu: float  # seconds of CPU until then


class Log:
    """The operator's lines after a moment; a line that a SIGKILL cut is skipped."""

    def __init__(self, place: Place) -> None:
        self._file = place.log_file
        self._mark = self._file.stat().st_size

    def first(self, wanted: Callable[[Mapping[str, Any]], bool], number: int = 1) -> float:
        """Unix time of the first such line, or of the one that completes `number` policies."""

        def found() -> float | None:
            seen: set[str] = set()
            for line in self._lines():
                if wanted(line):
                    seen.add(str(line.get("policy")))
                    if len(seen) >= number:
                        return datetime.fromisoformat(line["timestamp"]).timestamp()
            return None

        what = f"{number} lines in the operator's log"
        return eventually(found, within=WITHIN_SECONDS, what=what, every=POLL_SECONDS)

    def _lines(self) -> list[dict[str, Any]]:
        with self._file.open("rb") as file:
            file.seek(self._mark)
            found = []
            for line in file:
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found


def serves(line: Mapping[str, Any]) -> bool:
    return str(line.get("event", "")).startswith("serving /healthz")


def passed(line: Mapping[str, Any]) -> bool:
    return "status" in line and "policy" in line


def waits(line: Mapping[str, Any]) -> bool:
    return line.get("event") == "waiting for the API server"


def next_process(place: Place) -> int:
    """SIGKILL the operator; the process that the node starts instead."""
    before = place.pid()
    (node,) = [int(line) for line in _parents(before)]
    os.kill(before, signal.SIGKILL)

    def found() -> int | None:
        return next((pid for pid in _children(node, "starforge_backlog") if pid != before), None)

    return eventually(found, within=WITHIN_SECONDS, what="the next process", every=POLL_SECONDS)


def _parents(pid: int) -> list[str]:
    return [Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1]]


def _children(parent: int, argument: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if _parents(int(folder.name)) == [str(parent)]:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if argument.encode() in words:
                    found.append(int(folder.name))
    return found


def start_again(place: Place) -> Start:
    """With an API server that answers all the time."""
    log = Log(place)
    pid = next_process(place)
    zero = started_at(pid)
    serving = log.first(serves)
    first = log.first(passed)
    cpu = cpu_seconds_of(pid)
    last = log.first(passed, POLICIES)
    return Start(serving - zero, first - zero, last - zero, cpu)


def outage(place: Place) -> Start:
    """The operator starts while no API server is there; counted from when it is ready."""
    assert place.cluster.control_plane is not None
    server = next(c for c in place.cluster.control_plane.children if c.name == "kube-apiserver")
    argv = _argv(place, server)
    log = Log(place)
    pid = next_process(place)
    # Held where it is until the server is gone, long before its first request.
    os.kill(pid, signal.SIGSTOP)
    _kill_server(place, server)
    os.kill(pid, signal.SIGCONT)
    log.first(waits)
    child = spawn(
        "kube-apiserver",
        argv,
        log=server.log,
        env={**os.environ, RUN_VARIABLE: place.cluster.run},
    )
    _servers[place.cluster.run] = child
    zero = _until_it_answers(place)
    first = log.first(passed)
    last = log.first(passed, POLICIES)
    return Start(0.0, first - zero, last - zero, cpu_seconds_of(pid))


_servers: dict[str, Child] = {}  # the API server that runs now, where it is no longer the first


def _argv(place: Place, server: Child) -> list[str]:
    pid = _servers.get(place.cluster.run, server).pid
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return words[:-1]


def _kill_server(place: Place, server: Child) -> None:
    _servers.get(place.cluster.run, server).kill()


def _until_it_answers(place: Place) -> float:
    """Unix time of its first answer, whatever it says: it answers before it calls itself ready."""

    def found() -> float | None:
        try:
            place.api.pool.request("GET", f"{place.api.url}/readyz")
        except urllib3.exceptions.HTTPError:
            return None
        return time.time()

    what = "the API server answers again"
    return eventually(found, within=WITHIN_SECONDS, what=what, every=POLL_SECONDS)


def row(name: str, starts: list[Start]) -> list[str]:
    first = [s.first_pass for s in starts]
    return [
        name,
        str(len(starts)),
        " / ".join(spread(first)),
        " / ".join(spread([s.all_passes for s in starts])),
        spread([s.serving for s in starts])[0] if starts[0].serving else "before",
        spread([s.cpu for s in starts])[0],
    ]


COLUMNS: Final = (
    "counted from",
    "times",
    "first pass: p50 / p99 / max",
    f"all {POLICIES} policies: p50 / p99 / max",
    "port open: p50",
    "CPU until the first pass: p50",
)


def judge(result: Result, what: str, starts: list[Start]) -> None:
    most = max(start.first_pass for start in starts)
    p50 = spread([start.first_pass for start in starts])[0]
    result.bar(
        f"{what} → first pass, max of {len(starts)}",
        f"< {BAR_SECONDS:g} s",
        f"{most:.2f} s (p50 {p50})",
        most < BAR_SECONDS,
    )


def main() -> int:
    """Kill and start, then the same without an API server."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.start", description=__doc__)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--outages", type=int, default=5)
    chosen = parser.parse_args()
    result = Result("start", "From the start to the first pass")
    names = [f"worker-{n}" for n in range(POLICIES)]
    with stage.stage("start") as place:
        database = JobDatabase.create(place.cluster.postgres, "jobs", ("queue_jobs",))
        stage.make_namespace(place, NAMESPACE)
        stage.make_secret(place, NAMESPACE, f"{stage.SECRET}-0", database.url)
        stage.make_deployments(place, NAMESPACE, names)
        specs = {name: spec(name, f"{stage.SECRET}-0", n) for n, name in enumerate(names)}
        stage.make_policies(place, NAMESPACE, specs)
        stage.until_ready(place, NAMESPACE, POLICIES)
        starts: list[Start] = []
        for number in range(chosen.starts):
            starts.append(start_again(place))
            say(f"start {number + 1} of {chosen.starts}: {starts[-1].first_pass:.2f} s")
        outages: list[Start] = []
        for number in range(chosen.outages):
            outages.append(outage(place))
            say(f"outage {number + 1} of {chosen.outages}: {outages[-1].first_pass:.2f} s")
    judge(result, "process start", starts)
    judge(result, "API server answers", outages)
    rows = [row("process start", starts), row("API server answers", outages)]
    result.tables.append(Table("Starts", COLUMNS, rows))
    result.raw = {
        "starts": [vars(start) for start in starts],
        "outages": [vars(start) for start in outages],
    }
    result.notes += [HOW.replace("\n", " ")]
    return result.save()


HOW: Final = f"""\
The operator's process is killed (SIGKILL) and started again by the node, as the Deployment of its
chart, with {POLICIES} policies. Its start is the kernel's start time (10 ms steps); the first pass
is the first line of a pass in its log. In the second row the process starts while the API server is
down and waits for it; time counts from the API server's first answer to any client, ready or not.
No bytecode is written here (PYTHONDONTWRITEBYTECODE); an image contains it."""

if __name__ == "__main__":
    sys.exit(main())
