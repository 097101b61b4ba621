"""All Prometheus servers of the operator, shared by the policies that name them: young answers, and
how old the samples behind them are. The way to a server is in `connection.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

from starforge_backlog.clock import Clock, utc_now
from starforge_backlog.connections.pool import Hub
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.prometheus.connection import Connection, Limits, Threads
from starforge_backlog.prometheus.faults import PrometheusFault
from starforge_backlog.prometheus.judgement import Series, judge, one_number, series_of
from starforge_backlog.prometheus.question import Question
from starforge_backlog.prometheus.series import Selector, age_question, selectors
from starforge_backlog.prometheus.server import Server
from starforge_backlog.snapshot import Known, Reading, Unknown, Why

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueryResult(Generic[T]):
    """An answer, and what a person should know of the series behind it."""

    reading: Reading[T]
    without_target: tuple[str, ...] = ()  # series for which nothing shows that a part is dead


class Prometheus:
    """One server under one login, shared by all policies that name it."""

    def __init__(self, server: Server, threads: Threads, clock: Clock, limits: Limits) -> None:
        self._connection = Connection(server, threads, limits)
        self._clock = clock
        self._shared_for = limits.shared_for
        self._answers: dict[str, SharedAnswer[tuple[Any, datetime]]] = {}
        self._forgot_at = 0.0  # loop time, seconds

    def __repr__(self) -> str:
        return f"Prometheus({self._connection.server.host})"

    async def number(self, question: Question) -> Reading[float]:
        """The one number of an expression, at the time of its samples (UTC, our clock)."""
        return (await self.query(question)).reading

    async def query(self, question: Question) -> QueryResult[float]:
        """The same, and which of its series have no target."""
        return await self._read(question, lambda found: one_number(found, question.expression))

    async def series(self, question: Question) -> Reading[tuple[Series, ...]]:
        """All series of an expression."""
        return (await self._read(question, lambda found: found)).reading

    def update_url(self, server: Server) -> None:
        """Use another password or token from the next question on; it may be tried at once."""
        self._answers.clear()  # under the old one they may all be refusals
        self._connection.update_url(server)

    async def close(self) -> None:
        """Close the session; whoever waits for an answer gets a fault."""
        self._connection.close()

    async def _read(
        self, question: Question, take: Callable[[tuple[Series, ...]], T]
    ) -> QueryResult[T]:
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
                raise _ours(ages)
            if wanted is None:
                raise _not_understood()
            result, at = answer
            worth = judge(wanted, ages[0], stale_after=question.stale_after)
            value = take(series_of(result))
        except PrometheusFault as fault:
            return QueryResult(Unknown(fault.why, question.sentence(fault.message), self._clock()))
        reading = Known(value, at - worth.age, lasts=question.stale_after)
        return QueryResult(reading, worth.without_target)

    async def _ages(self, wanted: tuple[Selector, ...] | None) -> tuple[Any, datetime]:
        if not wanted or not all(one.named for one in wanted):
            return [], self._clock()  # see `judge`
        return await self._ask(age_question(wanted))

    async def _ask(self, promql: str) -> tuple[Any, datetime]:
        """The `result` of a query and when it came, shared while it is young.

        Raises PrometheusFault.
        """
        self._forget_old_answers(asyncio.get_running_loop().time())
        answer = self._answers.get(promql)
        if answer is None:
            answer = self._answers[promql] = SharedAnswer(
                partial(self._send, promql), self._shared_for, faults=(PrometheusFault,)
            )
        return await answer.get()

    def _forget_old_answers(self, now: float) -> None:
        """Read once per `shared_for`: hundreds of policies ask within it."""
        oldest = now - self._shared_for.total_seconds()
        if self._forgot_at > oldest:
            return
        self._forgot_at = now
        kept = {q: a for q, a in self._answers.items() if a.under_way or a.asked_at > oldest}
        self._answers = kept

    async def _send(self, promql: str) -> tuple[Any, datetime]:
        return await self._connection.ask(promql), self._clock()


class PrometheusHub(Hub[Server, Prometheus]):
    """One `Prometheus` per server and login, however many policies ask for it (P7)."""

    def __init__(self, clock: Clock = utc_now, *, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        threads = Threads(limits.servers)
        super().__init__(lambda server: Prometheus(server, threads, clock, limits))

    def get(self, server: Server, *, owner: str) -> Prometheus:
        """The shared server; `owner` is the policy that asks. Nothing is opened yet."""
        return self.shared(server, owner=owner)


def _ours(fault: BaseException) -> BaseException:
    """What is wrong with the question of ours, where the policy's own expression was answered."""
    if not isinstance(fault, PrometheusFault) or fault.why is not Why.QUERY_ERROR:
        return fault
    return PrometheusFault(
        Why.ERROR,
        "the expression is answered, but the operator's own question about the age of its samples"
        f" is not ({fault.message}): the age of the samples is not known. That is a fault of the"
        " operator, or a limit of the server on the length of a query; a shorter expression may do"
        " until it is corrected.",
    )


def _not_understood() -> PrometheusFault:
    return PrometheusFault(
        Why.QUERY_ERROR,
        "the server answers, but this is not the PromQL that the operator knows, so the age of its"
        " samples is not known: write it without what only this server knows. (A recording rule is"
        " no way out: its samples are always new.)",
    )
