"""All Prometheus servers of the operator: one session and one thread per server and login.

prometheus-api-client blocks, so it runs in threads. What a server can cost the others is bounded:

* its questions wait for its own thread, one after the other, and no other server's wait with them;
* `give_up_after` per question, from when it has the thread; then its sockets are shut;
* after that its callers get the last fault at once, while one of them tries it again. Nobody does
  while the thread is not back: resolving a name has no socket that could be shut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.prometheus.faults import (
    PrometheusFault,
    no_answer,
    no_connection,
    too_many_servers,
)
from starforge_backlog.prometheus.judgement import Series, judge, one_number, series_of
from starforge_backlog.prometheus.question import Question
from starforge_backlog.prometheus.series import Selector, age_question, selectors
from starforge_backlog.prometheus.server import Server
from starforge_backlog.sharing import Sharing, looked_at
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

if TYPE_CHECKING:
    from starforge_backlog.prometheus.client import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may cost us, and we it."""

    # Each has one thread and one connection. Measured: 300 policies with 5 expressions of their own
    # take 3.4 s of a thread per interval, and spread over 4 s (passes.py) nobody waits for 0.2 s.
    servers: int = 64
    connect_within: timedelta = timedelta(seconds=1)
    answer_within: timedelta = timedelta(seconds=2)  # per read; fits twice into a pass
    # All of one question: name resolution, TLS, and an answer that comes byte by byte.
    give_up_after: timedelta = timedelta(milliseconds=2500)
    # A server that did not answer is tried again by one caller, this much later.
    retry_after: timedelta = timedelta(seconds=5)
    # Younger answers are shared by the policies that run at the same moment (see passes.py).
    shared_for: timedelta = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """An answer, and what a person should know of the series behind it."""

    reading: Reading[T]
    without_target: tuple[str, ...] = ()  # series of which nothing tells that a part is dead


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


@dataclass(slots=True)
class _Answer:
    task: asyncio.Task[tuple[Any, datetime]]
    asked_at: float  # loop time, seconds


class Prometheus:
    """One server under one login, shared by all policies that name it."""

    def __init__(self, server: Server, threads: Threads, clock: Clock, limits: Limits) -> None:
        self._server = server
        self._threads = threads
        self._thread: ThreadPoolExecutor | None = None
        self._busy: asyncio.Future[Any] | None = None  # what the thread does
        self._stuck: PrometheusFault | None = None  # why `_busy` was given up
        self._closed = False
        self._clock = clock
        self._limits = limits
        self._shared_for = limits.shared_for.total_seconds()
        self._turn = asyncio.Lock()
        self._answers: dict[str, _Answer] = {}
        self._forgot_at = 0.0  # loop time, seconds
        self._client: Client | None = None
        self._making = Lock()
        self._fault: PrometheusFault | None = None  # why nobody is asked for now
        self._retry_at = 0.0  # loop time, seconds
        self._trying = False

    def __repr__(self) -> str:
        return f"Prometheus({self._server.host})"

    async def number(self, question: Question) -> Reading[float]:
        """The one number of an expression, at the time of its samples (UTC, our clock)."""
        return (await self.look(question)).reading

    async def look(self, question: Question) -> Look[float]:
        """The same, and which of its series have no target."""
        return await self._read(question, lambda found: one_number(found, question.expression))

    async def series(self, question: Question) -> Reading[tuple[Series, ...]]:
        """All series of an expression."""
        return (await self._read(question, lambda found: found)).reading

    def update_url(self, server: Server) -> None:
        """Use another password or token from the next question on; it may be tried at once."""
        self._server = server
        self._fault = None
        self._answers.clear()  # under the old one they may all be refusals
        self._drop()

    async def close(self) -> None:
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

    async def _read(self, question: Question, take: Callable[[tuple[Series, ...]], T]) -> Look[T]:
        wanted = selectors(question.promql)
        answer: tuple[Any, datetime] | BaseException
        ages: tuple[Any, datetime] | BaseException
        answer, ages = await asyncio.gather(
            self._ask(question.promql), self._ages(wanted), return_exceptions=True
        )
        try:
            # What is wrong with the expression says more than what is wrong with its series.
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(ages, BaseException):
                raise ages
            if wanted is None:
                raise _not_understood()
            result, at = answer
            worth = judge(wanted, ages[0], stale_after=question.stale_after)
            value = take(series_of(result))
        except PrometheusFault as fault:
            return Look(Unknown(fault.why, question.sentence(fault.message), self._clock()))
        reading = Known(value, at - worth.age, lasts=question.stale_after)
        return Look(reading, worth.without_target)

    async def _ages(self, wanted: tuple[Selector, ...] | None) -> tuple[Any, datetime]:
        if not wanted or not all(one.named for one in wanted):
            return [], self._clock()  # see `judge`
        return await self._ask(age_question(wanted))

    async def _ask(self, promql: str) -> tuple[Any, datetime]:
        """The `result` of a query and when it came, shared while it is young.

        Raises PrometheusFault.
        """
        now = asyncio.get_running_loop().time()
        self._forget_old_answers(now)
        known = self._answers.get(promql)
        if known is None or (known.task.done() and now - known.asked_at > self._shared_for):
            self._answers[promql] = _Answer(asyncio.create_task(self._send(promql)), now)
            self._answers[promql].task.add_done_callback(looked_at)
        # Shielded: one pass that runs out of time must not cancel what the others wait for.
        return await asyncio.shield(self._answers[promql].task)

    def _forget_old_answers(self, now: float) -> None:
        """Looked at once per `shared_for`: hundreds of policies ask within it."""
        oldest = now - self._shared_for
        if self._forgot_at > oldest:
            return
        self._forgot_at = now
        kept = {q: a for q, a in self._answers.items() if not a.task.done() or a.asked_at > oldest}
        self._answers = kept

    async def _send(self, promql: str) -> tuple[Any, datetime]:
        """Wait for the thread and ask. Raises PrometheusFault."""
        self._refuse_while_down()
        async with self._turn:
            self._refuse_while_down()  # what the one before has found
            tries = self._trying = self._fault is not None
            server = self._server
            try:
                result = await self._in_thread(promql)
            except PrometheusFault as fault:
                self._note(fault if fault.server_down else None, server)
                raise
            finally:
                if tries:
                    self._trying = False
            self._note(None, server)
            return result, self._clock()

    def _refuse_while_down(self) -> None:
        """Raises the last fault instead of another attempt while the server is not there."""
        if self._closed:
            message = "no policy names this server any more; asked anew when one does."
            raise PrometheusFault(Why.UNREACHABLE, message)
        if self._stuck is not None and self._busy is not None and not self._busy.done():
            raise self._stuck
        if self._fault is None:
            return
        if self._trying or asyncio.get_running_loop().time() < self._retry_at:
            raise self._fault

    def _note(self, fault: PrometheusFault | None, server: Server) -> None:
        if server is not self._server:
            return  # another login has taken its place meanwhile
        self._fault = fault
        if fault is not None:
            now = asyncio.get_running_loop().time()
            self._retry_at = now + self._limits.retry_after.total_seconds()

    async def _in_thread(self, promql: str) -> Any:
        limit, given_up = self._limits.give_up_after.total_seconds(), Event()
        if self._thread is None:
            self._thread = self._threads.take()
        loop = asyncio.get_running_loop()
        self._stuck = None
        self._busy = loop.run_in_executor(self._thread, self._query, promql, given_up)
        self._busy.add_done_callback(looked_at)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(self._busy)
        except TimeoutError:
            given_up.set()
            client = self._client
            connected = client is not None and client.connected
            if client is not None:
                client.give_up()
            told = no_answer if connected else no_connection
            self._stuck = told(self._server.host, limit)
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
                    self._server,
                    connect_within=self._limits.connect_within,
                    answer_within=self._limits.answer_within,
                )
            return self._client


class PrometheusHub:
    """One `Prometheus` per server and login, however many policies ask for it (P7)."""

    def __init__(self, clock: Clock = utc_now, *, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._shared: Sharing[Server, Prometheus] = Sharing(self._make)
        self._threads = Threads(self._limits.servers)

    def get(self, server: Server, *, owner: str) -> Prometheus:
        """The shared server; `owner` is the policy that asks. Nothing is opened yet."""
        return self._shared.get(server, owner=owner)

    def attached(self, prometheus: Prometheus, kind: type[T], make: Callable[[], T]) -> T:
        """What somebody keeps beside a server (readers with their memory): gone with it."""
        return self._shared.attached(prometheus, kind, make)

    def release(self, owner: str) -> None:
        """`owner` is gone (its policy was deleted): close what only it used."""
        self._shared.release(owner)

    async def close(self) -> None:
        """Close everything. The hub can be used again and then connects anew."""
        await self._shared.close()

    def _make(self, server: Server) -> Prometheus:
        return Prometheus(server, self._threads, self._clock, self._limits)


def _not_understood() -> PrometheusFault:
    return PrometheusFault(
        Why.QUERY_ERROR,
        "the server answers, but this is not the PromQL that the operator knows, so nobody can tell"
        " how old its samples are: write it without what only this server knows. (A recording rule"
        " is no way out: its samples are always new.)",
    )
