"""A node that ends, or is killed, leaves the machine as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.image.machine import Machine, processes

from local.kubelet.networks import claimed
from local.paths import REPOSITORY, new_run_dir
from local.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

ENDS_WITHIN = 120.0
NODE = """
import sys, time
from pathlib import Path
from local.kubelet import Kubelet
from local.kubelet.networks import claimed
from local.kubelet.node import KubeletNode
with claimed() as networks:
    node = KubeletNode(Path(sys.argv[1]), sys.argv[1], networks, Kubelet())
    node.prepare()
    print("prepared", flush=True)
    time.sleep(600)
"""


def test_after_a_kill_nothing_is_left_behind(before: Machine) -> None:
    """SIGKILL of the parent: the kernel ends what runs, the next node removes what lies about."""
    run_dir = new_run_dir("killed")
    path = os.pathsep.join((str(REPOSITORY / "deploy"), str(REPOSITORY)))
    parent = subprocess.Popen(
        [sys.executable, "-c", NODE, str(run_dir)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "prepared\n", "see its error above"
            assert Machine.now().left_since(before), "a node can be seen"
            assert processes(str(run_dir))
        finally:
            parent.send_signal(signal.SIGKILL)
    eventually(
        lambda: not processes(str(run_dir)), within=ENDS_WITHIN, what="its processes are gone"
    )
    eventually(
        lambda: not Machine.now().left_since(before).get("links"),
        within=ENDS_WITHIN,
        what="its link is gone",
    )
    with claimed():
        pass  # the next one cleans up before it starts
    assert Machine.now().left_since(before) == {}
    assert not [mount for mount in Path("/proc/mounts").read_text().split() if "killed-" in mount]


def test_nothing_is_left_behind(before: Machine) -> None:
    """The last of all: the cluster of the other tests has ended by now."""
    assert Machine.now().left_since(before) == {}
