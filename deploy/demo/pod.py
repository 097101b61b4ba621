"""What every process of the demo shares: an address to serve on, a signal to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web

from demo.environment import text

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `main` with an event that SIGTERM and SIGINT set."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    asyncio.run(_with_signals(main))


async def _with_signals(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


@contextlib.asynccontextmanager
async def serving(routes: Mapping[str, Handler], port: int) -> AsyncIterator[None]:
    """Serve `"GET /readyz"`-style routes on the pod's own address while the body runs."""
    application = web.Application()
    for route, handler in routes.items():
        method, path = route.split()
        application.router.add_route(method, path, handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    # Several pods share this machine's loopback in a local cluster: only POD_IP is ours.
    await web.TCPSite(runner, text("POD_IP", "127.0.0.1"), port, shutdown_timeout=1.0).start()
    try:
        yield
    finally:
        await runner.cleanup()
