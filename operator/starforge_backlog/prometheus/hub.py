"""All Prometheus servers of the operator: one session per server and login, few threads, limits.

prometheus-api-client blocks, so it runs in threads. What a server can cost the others is bounded:

* `threads_per_server` of them at most, so that one that hangs leaves threads to the others;
* `give_up_after` per question; then its sockets are shut, and the threads come back;
* after that its callers get the last fault at once, while one of them tries it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.prometheus.faults import PrometheusFault, no_answer
from starforge_backlog.prometheus.judgement import Series, judge, one_number, series_of
from starforge_backlog.prometheus.question import Question
from starforge_backlog.prometheus.series import Selector, age_question, selectors
from starforge_backlog.prometheus.server import Server
from starforge_backlog.sharing import Sharing
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

if TYPE_CHECKING:
    from starforge_backlog.prometheus.client import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may cost us, and we it."""

    threads: int = 4  # of the process: a question takes milliseconds, so they are rarely all busy
    threads_per_server: int = 2  # and connections to it
    connect_within: timedelta = timedelta(seconds=1)
    answer_within: timedelta = timedelta(seconds=2)  # per read; fits twice into a pass
    # All of one question: name resolution, TLS, and an answer that comes byte by byte.
    give_up_after: timedelta = timedelta(milliseconds=2500)
    # A server that did not answer is tried again by one caller, this much later.
    retry_after: timedelta = timedelta(seconds=5)
    # Younger answers are shared by the policies that run at the same moment (see passes.py).
    shared_for: timedelta = timedelta(seconds=1)


@dataclass(slots=True)
class _Answer:
    task: asyncio.Task[tuple[Any, datetime]]
    asked_at: float  # loop time, seconds


class Prometheus:
    """One server under one login, shared by all policies that name it."""

    def __init__(
        self, server: Server, threads: ThreadPoolExecutor, clock: Clock, limits: Limits
    ) -> None:
        self._server = server
        self._threads = threads
        self._clock = clock
        self._limits = limits
        self._shared_for = limits.shared_for.total_seconds()
        self._slots = asyncio.Semaphore(limits.threads_per_server)
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
        return await self._read(question, lambda found: one_number(found, question.expression))

    async def series(self, question: Question) -> Reading[tuple[Series, ...]]:
        """All series of an expression."""
        return await self._read(question, lambda found: found)

    def update_url(self, server: Server) -> None:
        """Use another password or token from the next question on; it may be tried at once."""
        self._server = server
        self._fault = None
        self._answers.clear()  # under the old one they may all be refusals
        self._drop()

    async def close(self) -> None:
        """Close the session; whoever waits for an answer gets a fault."""
        self._drop()

    def _drop(self) -> None:
        with self._making:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _read(
        self, question: Question, take: Callable[[tuple[Series, ...]], T]
    ) -> Reading[T]:
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
            age = judge(wanted, ages[0], stale_after=question.stale_after)
            value = take(series_of(result))
        except PrometheusFault as fault:
            return Unknown(fault.why, question.sentence(fault.message), self._clock())
        return Known(value, at - age, lasts=question.stale_after)

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
            self._answers[promql].task.add_done_callback(_retrieve)
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
        """Wait for a slot and ask. Raises PrometheusFault."""
        async with self._slots:
            tries = self._may_ask()
            try:
                result = await self._in_thread(promql)
            except PrometheusFault as fault:
                self._note(fault if fault.server_down else None)
                raise
            finally:
                if tries:
                    self._trying = False
            self._note(None)
            return result, self._clock()

    def _may_ask(self) -> bool:
        """Whether this is the one attempt after a fault. Raises the last fault instead of another
        attempt while the server is not there."""
        if self._fault is None:
            return False
        if self._trying or asyncio.get_running_loop().time() < self._retry_at:
            raise self._fault
        self._trying = True
        return True

    def _note(self, fault: PrometheusFault | None) -> None:
        self._fault = fault
        if fault is not None:
            now = asyncio.get_running_loop().time()
            self._retry_at = now + self._limits.retry_after.total_seconds()

    async def _in_thread(self, promql: str) -> Any:
        limit = self._limits.give_up_after.total_seconds()
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._query, promql)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(asked)
        except TimeoutError:
            asked.add_done_callback(_retrieve)
            if self._client is not None:
                self._client.give_up()
            raise no_answer(self._server.host, limit) from None

    def _query(self, promql: str) -> Any:
        """In a thread."""
        return self._connected().query(promql)

    def _connected(self) -> Client:
        """In a thread: the import alone takes longer than a pass may stop the loop."""
        from starforge_backlog.prometheus.client import Client  # noqa: PLC0415 - see above

        with self._making:
            if self._client is None:
                self._client = Client(
                    self._server,
                    connect_within=self._limits.connect_within,
                    answer_within=self._limits.answer_within,
                    threads=self._limits.threads_per_server,
                )
            return self._client


class PrometheusHub:
    """One `Prometheus` per server and login, however many policies ask for it (P7)."""

    def __init__(self, clock: Clock = utc_now, *, limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._shared: Sharing[Server, Prometheus] = Sharing(self._make)
        self._threads: ThreadPoolExecutor | None = None

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
        threads, self._threads = self._threads, None
        if threads is not None:
            # The sockets are shut, so the threads come back at once.
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    def _make(self, server: Server) -> Prometheus:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._limits.threads, "prometheus")
        return Prometheus(server, self._threads, self._clock, self._limits)


def _not_understood() -> PrometheusFault:
    return PrometheusFault(
        Why.QUERY_ERROR,
        "the server answers, but this is not the PromQL that the operator knows, so nobody can tell"
        " how old its samples are: write it as a recording rule and name that.",
    )


def _retrieve(task: asyncio.Future[Any]) -> None:
    """Look at a fault whose caller has left, or asyncio logs that nobody did."""
    if not task.cancelled():
        task.exception()
