"""The demo as people run it: its story told short, and Ctrl-C at awkward moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from demo.scenario import SCENARIOS, Scenario
from demo.schedule import Schedule
from demo.story import report, run
from local.paths import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STOP_SECONDS = 25.0
"""Everything must be gone by then after Ctrl-C."""

SHORT = replace(
    SCENARIOS["main"],
    # 97 usable − 54 to 57 others − 20 headroom: 5 pods, so 4 replicas and a surge. One step.
    web_connections=51,
    schedule=Schedule.parse("6s@12,24s@110,60s@12"),
    trip_waiting=700,
    job_ms=250,
    most_seconds=110,
)


SHORT_ON_BULLMQ = replace(
    SCENARIOS["bullmq"],
    # The backfill's worker holds 2 of the others' connections.
    web_connections=SHORT.web_connections - 2,
    schedule=SHORT.schedule,
    trip_waiting=SHORT.trip_waiting,
    job_ms=SHORT.job_ms,
    most_seconds=SHORT.most_seconds,
)


@pytest.mark.parametrize("short", [SHORT, SHORT_ON_BULLMQ], ids=lambda story: story.name)
def test_a_story_told_short(short: Scenario) -> None:
    result = run(short, "local", began=time.monotonic())
    assert result.kept, report(result)
    assert result.first_decision_seconds < 60
    assert all(picture.stat().st_size > 20_000 for picture in result.pictures)


@pytest.mark.parametrize("words", ["Starting etcd", "First decision"])
def test_ctrl_c_leaves_nothing_behind(words: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo", "--scenario", "main", "--cluster", "local"],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": "operator:deploy", "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        wait_for(words, out, process)
        time.sleep(1.5)  # into the middle of what comes next
        folder = f"{REPOSITORY / '.run'}/demo-{process.pid}"
        assert running(folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 130, out.read_text()
    finally:
        process.kill()
    assert "Traceback" not in out.read_text()
    assert running(folder) == []


def wait_for(words: str, out: Path, process: subprocess.Popen[bytes], within: float = 90) -> None:
    deadline = time.monotonic() + within
    while words not in out.read_text():
        assert process.poll() is None, out.read_text()
        assert time.monotonic() < deadline, out.read_text()
        time.sleep(0.1)


def running(folder: str) -> list[str]:
    """Living processes of that run, by their environment or their arguments."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or not ours to look at
        if command and folder.encode() in command + environment:
            found.append(f"{entry.name} {command.decode(errors='replace')}")
    return found
