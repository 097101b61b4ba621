"""Something that is read again and again in the background, with an age limit on every answer.

A thread each: a source that hangs (a frozen database) must not make the others late, and a thread
that hangs can simply be left behind at the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

STOP_SECONDS = 2.0
"""A reading that takes longer hangs."""


class Latest(Generic[T]):
    """Calls `read` every `every` seconds; `value` is the last answer while it is fresh."""

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        *,
        expected: tuple[type[Exception], ...],
        close: Callable[[], None] = lambda: None,
        every: float = 1.0,
        fresh: float = 2.0,
    ) -> None:
        self._read = read
        self._expected = expected
        self._close = close
        self._every = every
        self._fresh = fresh
        self._stop = threading.Event()
        self._answer: tuple[float, T] | None = None
        self.problem = ""
        """Why there is no fresh value, in the source's own words."""
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more; waits a moment for a reading under way, but not for one that hangs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    @property
    def value(self) -> T | None:
        """The last answer, or None when it is too old or there is none."""
        answer = self._answer
        if answer is None or time.monotonic() - answer[0] > self._fresh:
            return None
        return answer[1]

    def _loop(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                # Dated by its start: an answer that took 20 s is of 20 s ago.
                began = time.monotonic()
                self._answer = (began, self._read())
                self.problem = ""
            except self._expected as error:
                self.problem = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
            due = max(due + self._every, time.monotonic())
            self._stop.wait(due - time.monotonic())
        # In the thread that used it: nothing else may touch a connection in use.
        self._close()
