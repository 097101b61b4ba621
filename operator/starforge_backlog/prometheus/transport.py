"""HTTP for `requests`, as this operator needs it: own authorities, sockets that are given up.

Time limits of `requests` are per read: a server that sends a byte now and then would hold a thread
for ever. So every socket is known here, and shut when its question has taken too long.
"""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import weakref
from typing import Any

from requests import Response
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from starforge_backlog.prometheus.faults import MOST_BYTES, Reply, answer_of, too_much
from starforge_backlog.prometheus.server import Server
from starforge_backlog.tls import trusting

_CHUNK = 64 * 1024


class Sockets:
    """The open sockets of one server; used by its threads and by the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._given_up = threading.Event()
        self._closed = False

    def begin(self, given_up: threading.Event) -> None:
        """From now on sockets belong to a question that ends with `given_up`."""
        with self._lock:
            self._given_up = given_up

    def add(self, opened: socket.socket) -> None:
        """Remember it for as long as it exists; one that comes too late, because its name took so
        long to resolve, is shut at once."""
        with self._lock:
            self._open.add(opened)
            late = self._closed or self._given_up.is_set()
        if late:
            _shut(opened)

    @property
    def any_open(self) -> bool:
        """Whether there is a connection."""
        with self._lock:
            return any(one.fileno() >= 0 for one in self._open)

    def shut(self) -> None:
        """Whoever waits for one of them is informed at once that nothing more will come."""
        with self._lock:
            sockets = list(self._open)
        for one in sockets:
            _shut(one)

    def close(self) -> None:
        """The same for good."""
        with self._lock:
            self._closed = True
        self.shut()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed meanwhile
        # Not SSLSocket's own shutdown: that takes the TLS state from under the reader.
        socket.socket.shutdown(one, socket.SHUT_RDWR)


class Transport(HTTPAdapter):
    """An adapter for one server. It never asks twice: a pass does that soon enough."""

    def __init__(self, server: Server, sockets: Sockets) -> None:
        self._server = server
        self._sockets = sockets
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See HTTPAdapter."""
        if self._server.url.startswith("https:"):
            kwargs["ssl_context"] = trusting(self._server.ca)
            kwargs["server_hostname"] = self._server.server_name
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._sockets)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context says whom to trust; `requests` would add its own list of authorities."""


def checked(host: str) -> Any:
    """A response hook: reads the answer up to a bound and raises what is wrong with it."""

    def check(response: Response, *_: Any, **__: Any) -> None:
        body = bytearray()
        for chunk in response.raw.stream(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > MOST_BYTES:
                response.close()
                raise too_much(host)
        location = response.headers.get("Location", "")
        answer_of(Reply(response.status_code, bytes(body), location), host)
        # Read once, above; the client that comes next reads it from here.
        response.raw = io.BytesIO(body)

    return check


def _pools(sockets: Sockets) -> dict[str, Any]:
    """urllib3's pools, whose connections say which sockets they opened."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class Tls(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.add(self.sock)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
