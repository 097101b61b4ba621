"""The operator's process with as little around it as a pod gives: no user name, no home folder, no
folder to write to.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
# No user of this machine has it, as 65532 has no line in the image's /etc/passwd.
NOBODYS_UID = "65532"
# It takes two seconds on an idle machine; only a test that fails waits so long.
STARTS_WITHIN = 300.0
ENDS_WITHIN = 120.0
# /proc is a folder in which not even root can make a file.
READ_ONLY = "/proc" if Path("/proc/self").exists() else "/"
# Where namespaces are not to be had, Python at least finds no name.
NAMELESS = """
import pwd, runpy
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
runpy.run_module("starforge_backlog", run_name="__main__", alter_sys=True)
"""


def command(*arguments: str) -> list[str]:
    """The operator, as a uid that has no name wherever this machine can do that."""
    own = [sys.executable, "-c", NAMELESS, *arguments]
    unshare = shutil.which("unshare")
    if unshare is None:
        return own
    other = [unshare, "--user", f"--map-user={NOBODYS_UID}", f"--map-group={NOBODYS_UID}"]
    possible = subprocess.run([*other, "true"], capture_output=True, check=False).returncode == 0
    return [*other, *own] if possible else own


def surroundings(**variables: str) -> dict[str, str]:
    """Neither HOME nor USER nor LOGNAME; TMPDIR is nowhere."""
    path = os.pathsep.join((str(ROOT / "operator"), str(ROOT / "deploy")))
    return {"PATH": os.defpath, "PYTHONPATH": path, "TMPDIR": "/proc/nowhere", **variables}


@pytest.fixture
async def api() -> AsyncIterator[str]:
    """The URL of an API server that knows no resource of ours."""

    async def missing(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "code": 404}, status=404)

    runner = web.ServerRunner(web.Server(missing), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def port_of(process: asyncio.subprocess.Process) -> int:
    """Read its log until it serves."""
    assert process.stdout is not None
    said = []
    async for line in process.stdout:
        said.append(line.decode())
        if line.startswith(b"{") and "port" in (entry := json.loads(line)):
            return int(entry["port"])
    pytest.fail(f"it ended before it served:\n{''.join(said)}")


async def test_it_starts_and_ends_without_a_name_or_a_home(api: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": api}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        *command(),
        env=surroundings(KUBECONFIG=str(config), STARFORGE_LISTEN_PORT="0"),
        cwd=READ_ONLY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        port = await asyncio.wait_for(port_of(process), STARTS_WITHIN)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/healthz") as response,
        ):
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        rest = (await asyncio.wait_for(process.stdout.read(), ENDS_WITHIN)).decode()
        assert await process.wait() == 0
        assert "Traceback" not in rest
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "set KUBECONFIG"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1"}, "automountServiceAccountToken: true"),
    ],
)
def test_without_a_cluster_it_ends_in_a_sentence(variables: dict[str, str], says: str) -> None:
    done = subprocess.run(
        command(),
        env=surroundings(**variables),
        cwd=READ_ONLY,
        capture_output=True,
        text=True,
        check=False,
        timeout=STARTS_WITHIN,
    )
    assert done.returncode == 78
    assert says in done.stderr
    assert "Traceback" not in done.stderr
