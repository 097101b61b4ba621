"""The way to one Prometheus server under one login: a thread, a session, one question at a time.

prometheus-api-client blocks, so it runs in a thread. What a server can cost the others is bounded:

* its questions wait for its own thread, one after the other, and no other server's wait with them;
* `give_up_after` per question, from when it has the thread; then its sockets are shut;
* after that its callers get the last fault at once, while one of them tries it again. Nobody does
  while the thread is not back: resolving a name has no socket that could be shut.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from starforge_backlog.connections.backoff import Backoff
from starforge_backlog.prometheus.faults import (
    PrometheusFault,
    no_answer,
    no_connection,
    too_many_servers,
)
from starforge_backlog.prometheus.server import Server
from starforge_backlog.shared_tasks import WorkCancelled, await_shared, retrieve_exception
from starforge_backlog.snapshot import Why

if TYPE_CHECKING:
    from starforge_backlog.prometheus.client import Client


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may cost us, and we it."""

    # Each has one thread and one connection. Measured: 300 policies with 5 expressions of their own
    # take 3.4 s of a thread per interval; spread over 4 s (scheduler.py), nobody waits for 0.2 s.
    servers: int = 64
    connect_within: timedelta = timedelta(seconds=1)
    answer_within: timedelta = timedelta(seconds=2)  # per read; fits twice into a pass
    # All of one question: name resolution, TLS, and an answer that comes byte by byte.
    give_up_after: timedelta = timedelta(milliseconds=2500)
    # A server that did not answer is tried again by one caller, this much later.
    retry_after: timedelta = timedelta(seconds=5)
    # Younger answers are shared by the policies that run at the same moment (see scheduler.py).
    shared_for: timedelta = timedelta(seconds=1)


class Threads:
    """One thread per server and login, and no more of them than `most`: those of servers that are
    released count until they are back."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self) -> ThreadPoolExecutor:
        """A thread of one's own. Raises PrometheusFault when there are too many."""
        if self._taken >= self._most:
            raise too_many_servers(self._most)
        self._taken += 1
        return ThreadPoolExecutor(1, "prometheus")

    def give_back(self, thread: ThreadPoolExecutor, busy: asyncio.Future[Any] | None) -> None:
        """Without waiting for it: it may be in the resolver for a minute."""
        thread.shutdown(wait=False, cancel_futures=True)
        if busy is None or busy.done():
            self._taken -= 1
        else:
            busy.add_done_callback(self._is_back)

    def _is_back(self, _: asyncio.Future[Any]) -> None:
        self._taken -= 1


class Connection:
    """One server under one login."""

    def __init__(self, server: Server, threads: Threads, limits: Limits) -> None:
        self.server = server
        self._threads = threads
        self._limits = limits
        self._thread: ThreadPoolExecutor | None = None
        self._busy: asyncio.Future[Any] | None = None  # what the thread does
        self._stuck: PrometheusFault | None = None  # why `_busy` was given up
        self._closed = False
        self._turn = asyncio.Lock()
        self._client: Client | None = None
        self._making = Lock()
        # Why nobody is asked for now. The next attempt is one question, so there is no need to wait
        # longer each time.
        self._backoff: Backoff[PrometheusFault] = Backoff(
            lambda _: limits.retry_after.total_seconds()
        )
        self._trying = False

    async def ask(self, promql: str) -> Any:
        """Wait for the thread and ask; the `result` of the query. Raises PrometheusFault."""
        self._refuse_while_down()
        async with self._turn:
            self._refuse_while_down()  # what the one before has found
            tries = self._trying = self._backoff.fault is not None
            server = self.server
            try:
                result = await self._in_thread(promql)
            except PrometheusFault as fault:
                self._note(fault if fault.server_down else None, server)
                raise
            finally:
                if tries:
                    self._trying = False
            self._note(None, server)
            return result

    def update_url(self, server: Server) -> None:
        """Use another password or token from the next question on; it may be tried at once."""
        self.server = server
        self._backoff.reset()
        self._drop()

    def close(self) -> None:
        """Close the session; whoever waits for an answer gets a fault."""
        self._closed = True
        self._drop()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._threads.give_back(thread, self._busy)

    def _drop(self) -> None:
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _refuse_while_down(self) -> None:
        """Raises the last fault instead of another attempt while the server is not there."""
        if self._closed:
            raise _released()
        if self._stuck is not None and self._busy is not None and not self._busy.done():
            raise self._stuck
        fault = self._backoff.fault
        if fault is not None and (self._trying or not self._backoff.due):
            raise fault

    def _note(self, fault: PrometheusFault | None, server: Server) -> None:
        if server is not self.server:
            return  # another login has taken its place meanwhile
        if fault is not None:
            self._backoff.failed(fault)
        else:
            self._backoff.succeeded()

    async def _in_thread(self, promql: str) -> Any:
        limit, given_up = self._limits.give_up_after.total_seconds(), Event()
        if self._thread is None:
            self._thread = self._threads.take()
        loop = asyncio.get_running_loop()
        self._stuck = None
        self._busy = loop.run_in_executor(self._thread, self._query, promql, given_up)
        self._busy.add_done_callback(retrieve_exception)
        try:
            async with asyncio.timeout(limit):
                return await await_shared(self._busy)
        except WorkCancelled:
            raise _released() from None  # `close` took it out of the thread's queue
        except TimeoutError:
            given_up.set()
            client = self._client
            connected = client is not None and client.connected
            if client is not None:
                client.give_up()
            describe = no_answer if connected else no_connection
            self._stuck = describe(self.server.host, limit)
            raise self._stuck from None

    def _query(self, promql: str, given_up: Event) -> Any:
        """In the thread."""
        return self._connected().query(promql, given_up)

    def _connected(self) -> Client:
        """In the thread: the import alone takes longer than a pass may stop the loop."""
        from starforge_backlog.prometheus.client import Client  # noqa: PLC0415 - see above

        with self._making:
            if self._client is None:
                self._client = Client(
                    self.server,
                    connect_within=self._limits.connect_within,
                    answer_within=self._limits.answer_within,
                )
            return self._client


def _released() -> PrometheusFault:
    message = "no policy names this server; it is queried again when one does."
    return PrometheusFault(Why.UNREACHABLE, message)
