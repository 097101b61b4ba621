"""The demo as people run it: its story in a short form, and Ctrl-C at awkward moments."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from tests.e2e.together import GroupStory, Outcomes, SerialGroup, title

from demo.scenario import SCENARIOS, Scenario
from demo.schedule import Schedule
from demo.story import report, run
from local.paths import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

STOP_SECONDS = 90.0
"""Everything must be gone by then after Ctrl-C."""

SHORT = replace(
    SCENARIOS["main"],
    # 97 usable − 54 to 57 others − 20 headroom: 5 pods, so 4 replicas and a surge. One step.
    web_connections=51,
    schedule=Schedule.parse("6s@12,24s@110,60s@12"),
    trip_waiting=700,
    job_ms=250,
    most_seconds=400,
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


def in_short(short: Scenario) -> None:
    result = run(short, "local", began=time.monotonic())
    assert result.kept, report(result)
    # How soon is for tests/bench, on an idle machine.
    assert result.first_decision_seconds > 0
    assert all(picture.stat().st_size > 20_000 for picture in result.pictures)


def the_main_story_in_short(_: Path) -> None:
    in_short(SHORT)


def the_bullmq_story_in_short(_: Path) -> None:
    in_short(SHORT_ON_BULLMQ)


def ctrl_c_while_servers_start_leaves_nothing_behind(folder: Path) -> None:
    nothing_is_left("Starting etcd", folder / "starting")


def ctrl_c_after_the_first_decision_leaves_nothing_behind(folder: Path) -> None:
    nothing_is_left("First decision", folder / "deciding")


def nothing_is_left(words: str, out: Path) -> None:
    """Ctrl-C soon after the demo has said that."""
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


def wait_for(words: str, out: Path, process: subprocess.Popen[bytes], within: float = 600) -> None:
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
            continue  # gone, or not ours to read
        if command and folder.encode() in command + environment:
            found.append(f"{entry.name} {command.decode(errors='replace')}")
    return found


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


SERIAL_GROUP: Final = SerialGroup(a_folder, late=True)
STORIES: Final[tuple[GroupStory, ...]] = (
    the_main_story_in_short,
    the_bullmq_story_in_short,
    ctrl_c_while_servers_start_leaves_nothing_behind,
    ctrl_c_after_the_first_decision_leaves_nothing_behind,
)


@pytest.mark.parametrize("story", STORIES, ids=title)
def test_demo(outcomes: Outcomes, story: GroupStory) -> None:
    outcomes[story].result()
