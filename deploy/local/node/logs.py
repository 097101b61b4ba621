"""The part of a kubelet's own API that `kubectl logs` needs.

Only for the API server: it has to show a certificate of the cluster's authority.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from aiohttp import web

from local.certificates import Authority
from local.node.container import ContainerRunner
from local.node.context import NodeContext

Find = Callable[[str, str], Iterator[ContainerRunner]]
CHUNK = 1 << 16


async def serve_logs(group: asyncio.TaskGroup, node: NodeContext, find: Find) -> None:
    async def logs(request: web.Request) -> web.StreamResponse:
        wanted = request.match_info
        for container in find(wanted["namespace"], wanted["pod"]):
            if container.name == wanted["container"]:
                return await _stream(request, container)
        raise web.HTTPNotFound(text="no such container on this node")

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.SockSite(runner, node.addresses.listener, ssl_context=_context(node))
    await site.start()

    async def until_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    group.create_task(until_cancelled())


def _context(node: NodeContext) -> ssl.SSLContext:
    folder = node.run_dir / "node-certificates"
    pair = Authority(folder).issue("node", hosts=(node.addresses.node,))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=node.api.access.authority)
    context.load_cert_chain(pair.certificate, pair.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _stream(request: web.Request, container: ContainerRunner) -> web.StreamResponse:
    starts = container.log_starts
    previous = request.query.get("previous") == "true"
    if not starts or (previous and len(starts) < 2):
        raise web.HTTPBadRequest(text=f"container {container.name} has no log of such a run")
    begin = starts[-2] if previous else starts[-1]
    end = starts[-1] if previous else None
    if "tailLines" in request.query:
        begin = _tail(container.log, begin, end, int(request.query["tailLines"]))
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    follow = request.query.get("follow") == "true" and not previous
    run = len(starts)
    with container.log.open("rb") as file:
        file.seek(begin)
        while True:
            size = CHUNK if end is None else min(CHUNK, end - file.tell())
            chunk = file.read(size) if size else b""
            if chunk:
                await response.write(chunk)
            elif follow and len(starts) == run and container.process_group:
                await asyncio.sleep(0.2)
            else:
                break
    await response.write_eof()
    return response


def _tail(log: Path, begin: int, end: int | None, lines: int) -> int:
    with log.open("rb") as file:
        file.seek(begin)
        text = file.read() if end is None else file.read(end - begin)
    kept = text.splitlines(keepends=True)[-lines:] if lines > 0 else []
    return begin + len(text) - sum(len(line) for line in kept)
