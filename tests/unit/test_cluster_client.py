"""The client over real HTTP, against an API server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from starforge_backlog import __version__
from starforge_backlog.cluster.client import POLICIES, SECRETS, AnswerTooLarge, ClusterClient
from starforge_backlog.cluster.errors import Asked, ClusterFault, FaultKind

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """Answers as configured, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = self.well
        self.requests: list[tuple[str, str, dict[str, str], str]] = []

    async def well(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"metadata": {"resourceVersion": "1"}})

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.text()
        self.requests.append((request.method, str(request.rel_url), dict(request.headers), body))
        return await self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, int]]:
    server = Server()
    runner = web.ServerRunner(web.Server(server), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield server, runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def client(
    server: tuple[Server, int], tmp_path: Path
) -> AsyncIterator[tuple[ClusterClient, list[str]]]:
    (tmp_path / "token").write_text("first\n")
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server[1]}"}}],
        "users": [{"name": "u", "user": {"tokenFile": str(tmp_path / "token")}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    outcomes: list[str] = []

    def observe(_asked: Asked, outcome: str) -> None:
        outcomes.append(outcome)

    client = await ClusterClient.connect({"KUBECONFIG": str(tmp_path / "config")}, observe)
    yield client, outcomes
    await client.close()


Fixtures = tuple[ClusterClient, list[str]]


async def fault(client: ClusterClient) -> ClusterFault:
    with pytest.raises(ClusterFault) as caught:
        await client.get(SECRETS, "ns", "db")
    return caught.value


async def test_who_we_are_and_how_we_patch(server: tuple[Server, int], client: Fixtures) -> None:
    await client[0].get(SECRETS, "ns", "a b/c")
    await client[0].patch(POLICIES, "ns", "etl", {"spec": {}})
    await client[0].patch(POLICIES, "ns", "etl", [{"op": "add"}], sub="status")
    get, merge, patch = server[0].requests
    assert get[1] == "/api/v1/namespaces/ns/secrets/a%20b%2Fc"
    assert get[2]["User-Agent"] == f"starforge-backlog/{__version__}"
    assert get[2]["Authorization"] == "Bearer first"
    path = "/apis/backlog.starforge.dev/v1alpha1/namespaces/ns/queuebacklogpolicies/etl"
    assert merge[1] == f"{path}?fieldManager=starforge-backlog"
    assert merge[2]["Content-Type"] == "application/merge-patch+json"
    assert patch[1] == f"{path}/status?fieldManager=starforge-backlog"
    assert patch[2]["Content-Type"] == "application/json-patch+json"
    assert client[1] == ["200", "200", "200"]


async def test_a_token_that_rotated_is_read_again_once(
    server: tuple[Server, int], client: Fixtures, tmp_path: Path
) -> None:
    async def wants_second(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers["authorization"] == "Bearer second":
            return web.json_response({"data": {}})
        return web.json_response({}, status=401)

    server[0].answer = wants_second
    assert (await fault(client[0])).kind is FaultKind.UNAUTHORIZED
    assert len(server[0].requests) == 2
    (tmp_path / "token").write_text("second")
    assert await client[0].get(SECRETS, "ns", "db") == {"data": {}}


async def test_a_silent_server_is_left(
    server: tuple[Server, int], client: Fixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    server[0].answer = silent
    monkeypatch.setattr(client[0], "_timeout", aiohttp.ClientTimeout(total=0.1))
    found = await fault(client[0])
    assert found.kind is FaultKind.TIMEOUT
    assert client[1] == ["Timeout"]


async def test_a_connection_that_is_cut(server: tuple[Server, int], client: Fixtures) -> None:
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        transport: Any = request.transport
        transport.abort()
        return web.Response()

    server[0].answer = cut
    assert (await fault(client[0])).kind is FaultKind.UNREACHABLE


@pytest.mark.parametrize("text", ["<html>a proxy</html>", "", "[1, 2"])
async def test_an_answer_that_is_no_json(
    server: tuple[Server, int], client: Fixtures, text: str
) -> None:
    async def proxy(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=text)

    server[0].answer = proxy
    found = await fault(client[0])
    assert found.kind is FaultKind.SERVER
    assert "no JSON" in found.message


async def test_a_closed_port(client: Fixtures, server: tuple[Server, int]) -> None:
    client[0].credentials.configuration.host = "http://127.0.0.1:9"
    found = await fault(client[0])
    assert found.kind is FaultKind.UNREACHABLE
    assert 'get secrets "db" in namespace ns' in found.message


# --- answers are bounded --------------------------------------------------------------------------


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    """As much as anybody reads."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(b"x" * 1024 * 1024)
    return answer


async def test_an_answer_without_end_is_not_read_to_its_end(
    server: tuple[Server, int], client: Fixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starforge_backlog.cluster.client.MOST_ANSWER_BYTES", 4 * 1024 * 1024)
    server[0].answer = endless
    found = await fault(client[0])
    assert isinstance(found, AnswerTooLarge)
    assert 'get secrets "db" in namespace ns is larger than' in found.message
    server[0].answer = server[0].well
    assert await client[0].get(SECRETS, "ns", "db"), "the next one is answered"


async def test_large_objects_come_in_small_pages(
    server: tuple[Server, int], client: Fixtures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as large as etcd stores them."""
    objects = [{"name": str(number), "text": "x" * 1500} for number in range(45)]
    monkeypatch.setattr("starforge_backlog.cluster.client.MOST_ANSWER_BYTES", 16 * 1024)

    async def paged(request: web.BaseRequest) -> web.StreamResponse:
        first = int(request.rel_url.query.get("continue", "0"))
        last = first + int(request.rel_url.query["limit"])
        more = {"continue": str(last)} if last < len(objects) else {}
        return web.json_response({"items": objects[first:last], "metadata": more})

    server[0].answer = paged
    found = [one["name"] async for one in client[0].pages(POLICIES, None)]
    assert found == [one["name"] for one in objects]
    assert len(server[0].requests) == 1 + 5
