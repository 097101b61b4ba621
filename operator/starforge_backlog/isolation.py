"""Fault isolation: a bug of ours in one reading or effect is the fault of that one alone.

Adapters translate what they expect, and check foreign values at their edge. What they did not
expect would end the pass: the policy would have no readings, its breakers would stay as they are,
and status would continue to show the last good state.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import structlog

from starforge_backlog.clock import Clock
from starforge_backlog.shared_tasks import CancellationCheck
from starforge_backlog.snapshot import Source, Unknown, Why

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)

# Reason of the metric: others come from the outside world.
BUG = "Bug"
# Frames of a traceback that are logged, the innermost first.
FRAMES = 12
# Sources whose last bug is remembered, so that each is logged once: those of some hundred policies.
MOST_REMEMBERED = 1024


class FaultIsolation:
    """Catches what nobody expected, and reports it: in the reading, in the log, as a metric.

    `count` takes the kind of a source and a reason.
    """

    def __init__(self, clock: Clock, count: Callable[[str, str], None]) -> None:
        self._clock = clock
        self._count = count
        self._reported: OrderedDict[tuple[str, Source], str] = OrderedDict()

    async def run(
        self, policy: str, source: Source, work: Awaitable[T], instead: Callable[[Unknown], T]
    ) -> T:
        """The result of `work`, or what `instead` makes of the bug that ended it.

        `source` is what is read or done.
        """
        cancellation = CancellationCheck()
        try:
            got = await work
        except asyncio.CancelledError as stray:
            if cancellation.requested:
                raise
            # No caller ends this pass: what it awaited was cancelled. Let through, it would end the
            # policy's passes permanently.
            return instead(self._report(policy, source, stray))
        except Exception as error:  # noqa: BLE001 - the one place that takes what nobody expected
            return instead(self._report(policy, source, error))
        self._reported.pop((policy, source), None)
        return got

    def _report(self, policy: str, source: Source, error: BaseException) -> Unknown:
        frames = _frames(error)
        what = f"{type(error).__name__} at {frames[0]}" if frames else type(error).__name__
        self._count(source.kind.value, BUG)
        if self._reported.get((policy, source)) != what:
            self._reported[policy, source] = what
            while len(self._reported) > MOST_REMEMBERED:
                self._reported.popitem(last=False)
            # Not the exception's own text, and no values: either may hold a secret.
            _log.error(
                "the operator has a bug",
                policy=policy,
                source=str(source),
                error=type(error).__name__,
                traceback=" < ".join(frames),
            )
        message = (
            f"the operator has a bug in {source}: {what}; the others continue without it. Report it"
            " with the line of the operator's log, and check what was changed there last."
        )
        return Unknown(Why.ERROR, message, self._clock())


def _frames(error: BaseException) -> list[str]:
    """Where it happened, the innermost first: "rates.py:88 in merge"."""
    stack = traceback.extract_tb(error.__traceback__)
    found = [f"{Path(one.filename).name}:{one.lineno} in {one.name}" for one in reversed(stack)]
    return found[:FRAMES]
