"""Work that several await, and cancellations that nobody asked for.

A task that is cancelled raises CancelledError in all who await it, and to asyncio, and to the
framework, that seems as if they had been cancelled themselves: their loops end permanently. It
happened with an API server that was silent for 36 s: the deadline of one reading ended the question
that the other readings of the pass awaited, and the policy was never checked again.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

T = TypeVar("T")


class WorkCancelled(Exception):
    """Work that others awaited was cancelled: a fault of that work, and not the end of theirs."""


async def await_shared(work: asyncio.Future[T]) -> T:
    """The result of work that others may await as well.

    Who gives up (a deadline, the end of a policy) leaves the work to the others. Raises what the
    work raised, and WorkCancelled when the work itself was cancelled.
    """
    # Not `asyncio.shield`: it hands the work's own cancellation on to all who wait.
    await asyncio.wait((work,))
    if work.cancelled():
        raise WorkCancelled
    return work.result()


def retrieve_exception(running: asyncio.Future[Any]) -> None:
    """For a task whose caller may have left: read its fault, or asyncio logs that nobody did."""
    if not running.cancelled():
        running.exception()


class CancellationCheck:
    """Whether the current task is being cancelled since this was made.

    A CancelledError without that came out of something that was awaited.
    """

    def __init__(self) -> None:
        self._before = _requests()

    @property
    def requested(self) -> bool:
        """Another client has asked this task to end."""
        return _requests() > self._before


def _requests() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
