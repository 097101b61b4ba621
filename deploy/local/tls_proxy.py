"""TLS in front of a server that was built without it: decrypts, and passes the bytes on.

Clients see the certificate, the verification and the ciphers of the real thing. What differs: a
frozen server behind it still completes the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from concurrent.futures import Future

from local.certificates import ServerTls
from local.errors import LocalError

CHUNK = 64 * 1024
OPEN_WITHIN = 60.0


class TlsProxy:
    """Runs in a thread of its own. `close` cuts all connections, as a server that ends does."""

    def __init__(self, port: int, target: int, tls: ServerTls) -> None:
        self._port, self._target = port, target
        self._context = server_context(tls)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(opened,), name=f"tls-{port}", daemon=True
        )
        self._thread.start()
        try:
            opened.result(OPEN_WITHIN)
        except OSError as error:
            self._thread.join()
            raise LocalError(f"cannot listen on port {port}: {error}. Start again.") from error

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self, opened: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve(opened))
        except OSError as error:
            opened.set_exception(error)

    async def _serve(self, opened: Future[None]) -> None:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", self._port, ssl=self._context)
        opened.set_result(None)
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(writer.transport.abort)
            try:
                back, forth = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                return
            stack.callback(forth.transport.abort)
            ways = [asyncio.create_task(_pump(reader, forth))]
            ways.append(asyncio.create_task(_pump(back, writer)))
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()


def server_context(tls: ServerTls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.authority)
    context.load_cert_chain(tls.pair.certificate, tls.pair.key)
    context.verify_mode = ssl.CERT_REQUIRED if tls.client_certificates else ssl.CERT_NONE
    return context
