"""Children die with their parent, locks hold across processes, ports differ, errors explain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from local import build, go, postgres_programs, wheels
from local.certificates import Authority
from local.errors import LocalError
from local.locks import exclusive
from local.paths import new_run_dir
from local.ports import free_ports, was_taken
from local.processes import Child, descendants, spawn, wait_until
from local.tools import CONTROL_PLANE

DEPLOY = Path(__file__).parents[2] / "deploy"


def run_python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(DEPLOY)},
        stdout=subprocess.PIPE,
        text=True,
    )


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


PARENT = """
import sys, time
from pathlib import Path
from local.processes import spawn
child = spawn("sleep", ["sleep", "3600"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(3600)
"""


def test_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    with run_python(PARENT, str(tmp_path / "log")) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_child_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    """The kernel's death signal follows the thread; ours must not."""
    children: list[Child] = []
    thread = threading.Thread(
        target=lambda: children.append(spawn("s", ["sleep", "60"], log=tmp_path / "log"))
    )
    thread.start()
    thread.join()
    (child,) = children
    with pytest.raises(subprocess.TimeoutExpired):
        child.process.wait(0.3)
    child.kill()
    assert child.process.returncode == -signal.SIGKILL


def test_child_has_default_signals_and_its_own_group(tmp_path: Path) -> None:
    """A shell pipe ends by SIGPIPE only where that is not ignored."""
    child = spawn("sh", ["sh", "-c", "yes | head -1; sleep 60"], log=tmp_path / "log")
    wait_until(
        lambda: (tmp_path / "log").read_text() == "y\n" and len(descendants(child.pid)) == 1,
        timeout=60,
        what="one line and one sleeper",
        alive=[child],
    )
    assert os.getpgid(child.pid) == child.pid
    child.kill()


def test_program_that_is_missing_is_named_in_its_log(tmp_path: Path) -> None:
    child = spawn("ghost", ["/no/such/program"], log=tmp_path / "log")
    with pytest.raises(LocalError, match="cannot run /no/such/program"):
        wait_until(lambda: False, timeout=60, what="a ghost", alive=[child])
    assert child.process.returncode == 127


def test_waiting_gives_up_with_the_log(tmp_path: Path) -> None:
    child = spawn("slow", ["sh", "-c", "echo hello; sleep 60"], log=tmp_path / "log")
    log = tmp_path / "log"
    wait_until(lambda: "hello" in log.read_text(), timeout=60, what="its word", alive=[child])
    with pytest.raises(LocalError, match="the slow one took longer than 1 s") as error:
        wait_until(lambda: False, timeout=1, what="the slow one", alive=[child])
    assert "hello" in str(error.value)
    child.kill()


HOLDER = """
import sys, time
from pathlib import Path
from local.locks import exclusive
with exclusive(Path(sys.argv[1]), lambda: None):
    print("held", flush=True)
    time.sleep(3600)
"""


def test_lock_waits_for_another_process_and_survives_its_death(tmp_path: Path) -> None:
    with run_python(HOLDER, str(tmp_path / "lock")) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waited: list[bool] = []

        def other_is_there() -> None:
            waited.append(True)
            holder.kill()

        with exclusive(tmp_path / "lock", other_is_there):
            assert waited == [True]


def test_ports_differ_and_a_taken_one_is_recognised(tmp_path: Path) -> None:
    assert len(set(free_ports(20))) == 20
    log = tmp_path / "log"
    log.write_text("listen tcp 127.0.0.1:1: bind: address already in use\n")
    assert was_taken(log)
    assert not was_taken(log, begin=log.stat().st_size)
    assert not was_taken(tmp_path / "none")


def test_run_folders_of_dead_processes_are_pruned(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    for number in range(8):
        (tmp_path / f"x-{ended.pid}-{number}" / "etcd").mkdir(parents=True)
    (tmp_path / "x-notes").mkdir()
    mine = new_run_dir("x", tmp_path)
    again = new_run_dir("x", tmp_path)
    assert mine != again
    left = {path.name for path in tmp_path.iterdir()}
    assert {"x-notes", mine.name, again.name} <= left
    assert len(left) == 3 + 4
    assert not list(tmp_path.glob("*/etcd"))


def test_ready_made_programs_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("something was built"))
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv(build.ASSETS, str(tmp_path))
    assert build.ensure(["etcd", "kube-apiserver"]) == {
        "etcd": tmp_path / "etcd",
        "kube-apiserver": tmp_path / "kube-apiserver",
    }
    monkeypatch.setenv(build.ASSETS, str(tmp_path / "none"))
    with pytest.raises(LocalError, match="is not a folder"):
        build.ensure(["etcd"])


def test_only_what_is_missing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(build.ASSETS, str(tmp_path))
    (tmp_path / "etcd").touch(mode=0o755)
    built: list[str] = []

    def pretend(names: list[str], _: object, folder: Path) -> None:
        built.extend(names)
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch(mode=0o755)

    monkeypatch.setattr(build, "_build", pretend)
    found = build.ensure(["etcd", "helm"])
    assert built == ["helm"]
    assert found["helm"] == build.cache_folder(CONTROL_PLANE) / "helm"
    build.ensure(["etcd", "helm"])
    assert built == ["helm"]


def test_a_module_says_how_new_go_has_to_be(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x\n\ngo 1.26.7\n\ntoolchain go1.27.0\n")
    assert build._language(tmp_path / "go.mod") == (1, 26, 7)


def test_build_names_programs_as_go_does() -> None:
    assert build._go_name("go.etcd.io/etcd/server/v3") == "server"
    assert build._go_name("helm.sh/helm/v4/cmd/helm") == "helm"
    assert build._is_package("k8s.io/api/core/v1\n")
    assert not build._is_package("# k8s.io/api\n")
    assert not build._is_package("go: downloading x v1\n")


def test_failing_build_says_what_go_said_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(build.ASSETS, raising=False)
    fake = tmp_path / "go"
    fake.write_text('#!/bin/sh\n[ "$1" = list ] && exit 0\necho "disk full" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(build, "find_go", lambda _: fake)
    with pytest.raises(LocalError, match=r"(?s)disk full.*local\.build"):
        build.ensure(["helm"])
    assert not list(build.cache_folder(CONTROL_PLANE).glob("building-*"))


def test_old_go_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, version in ((old, "go1.26.5"), (new / "bin", "go1.27.3")):
        folder.mkdir(parents=True)
        (folder / "go").write_text(f"#!/bin/sh\necho {version}\n")
        (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{old}:{os.environ['PATH']}")
    monkeypatch.setattr(go, "wheel_environment", lambda _: new)
    assert go.find_go((1, 26, 0)) == old / "go"
    assert go.find_go((1, 26, 7)) == new / "bin" / "go"


def test_postgres_wrappers_and_old_servers_are_passed_over(tmp_path: Path) -> None:
    for version in (14, 16):
        folder = tmp_path / str(version)
        folder.mkdir()
        for name in ("postgres", "initdb"):
            (folder / name).write_text(f"#!/bin/sh\necho 'x (PostgreSQL) {version}.1'\n")
            (folder / name).chmod(0o755)
    assert postgres_programs._inspect(tmp_path / "14") is None
    found = postgres_programs._inspect(tmp_path / "16")
    assert found is not None
    assert found.version == 16
    (tmp_path / "16" / "initdb").unlink()
    assert postgres_programs._inspect(tmp_path / "16") is None


def test_wheel_that_cannot_be_installed_names_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "ghost.txt").write_text("ghost==1 --hash=sha256:00\n")
    monkeypatch.setattr(wheels, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LocalError, match="so that it is found on PATH"):
        wheels.wheel_environment("ghost")


def test_private_keys_are_private(tmp_path: Path) -> None:
    pair = Authority(tmp_path / "ca").issue("admin", groups=("system:masters",))
    assert pair.key.stat().st_mode & 0o077 == 0
    assert (tmp_path / "ca").stat().st_mode & 0o077 == 0
