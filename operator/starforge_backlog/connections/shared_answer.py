"""One question for all who ask it at the same moment (P7), whoever of them gives up (P11).

Not for every question: where one that hangs, or failed, shall be one asker's own, and the next asks
for itself, see `ttl_cache.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, TypeVar

from starforge_backlog.shared_tasks import await_shared, retrieve_exception

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """The last answer while it is young, else a new one.

    Who comes while the question is under way gets its answer. The question is a task of its own: it
    goes on when the one who caused it gives up, because others wait for it, and to break it off
    could cost the connection. An exception is raised in all who wait; unless it is one of `faults`,
    or the answer has to `rest`, it is no answer, and who comes next asks again.
    """

    def __init__(
        self,
        ask: Callable[[], Coroutine[Any, Any, T]],
        max_age: timedelta,
        *,
        timer: Callable[[], float] = time.monotonic,
        faults: tuple[type[Exception], ...] = (),
        from_end: bool = False,
    ) -> None:
        """`max_age` counts from when the question was asked or, `from_end`, answered; `faults` are
        exceptions that are an answer as well."""
        self._ask = ask
        self._max_age = max_age
        self._timer = timer
        self._faults = faults
        self._from_end = from_end
        self._question: asyncio.Task[T] | None = None
        self._age_from = 0.0  # timer's seconds
        self._stands_until = 0.0  # timer's seconds
        self.asked_at = timer()  # of the last question

    @property
    def under_way(self) -> bool:
        """Whether the question has not been answered yet."""
        return self._question is not None and not self._question.done()

    async def get(self, max_age: timedelta | None = None) -> T:
        """The answer; `max_age` stands for this caller's own bound."""
        question = self._question
        if question is None or not self._usable(question, max_age):
            self.asked_at = self._age_from = self._timer()
            question = self._question = asyncio.create_task(self._asked())
            question.add_done_callback(retrieve_exception)
        return await await_shared(question)

    def rest(self, seconds: float, *, since: float | None = None) -> None:
        """The answer was expensive, or a fault: it lasts this long, from now or from a moment of
        the timer."""
        self._stands_until = (self._timer() if since is None else since) + seconds

    def expire(self) -> None:
        """The answer that is known is old. A question that is under way is not."""
        self._stands_until = 0.0
        if not self.under_way:
            self._question = None

    def forget(self) -> None:
        """Something was written: every answer is old, also that of a question under way."""
        self._question = None

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        if self._question is not None:
            await asyncio.wait((self._question,))

    async def _asked(self) -> T:
        try:
            return await self._ask()
        finally:
            if self._from_end and asyncio.current_task() is self._question:
                self._age_from = self._timer()

    def _usable(self, question: asyncio.Task[T], max_age: timedelta | None) -> bool:
        if not question.done():
            return True
        if question.cancelled():
            return False
        now, max_age = self._timer(), self._max_age if max_age is None else max_age
        if now < self._stands_until:
            return True  # whatever it is: what was expensive is not repeated because of a bug
        fault = question.exception()
        if fault is not None and not isinstance(fault, self._faults):
            return False
        return now - self._age_from <= max_age.total_seconds()
