"""How far apart the readings of a rate may be, for policies that are read seldom."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.simulator.given import spec, unknown

from starforge_backlog import observe
from starforge_backlog.policy_access import Deadline
from starforge_backlog.snapshot import QueueReading, unread


@pytest.mark.parametrize(
    ("interval", "observed", "window"),
    [("15s", "90s", 90), ("90s", "90s", 90), ("5m", "90s", 300), ("10m", "2s", 600)],
)
async def test_readings_of_one_interval_are_near_enough_for_a_rate(
    interval: str, observed: str, window: int
) -> None:
    """Seen: with an interval of more than twice `observeFor` no two readings were near enough, and
    the policy said WarmingUp for ever."""
    asked: list[timedelta] = []

    class Source:
        async def read(self, *, rate_window: timedelta, max_age: timedelta) -> QueueReading:
            asked.append(rate_window)
            return unread(unknown())

    parts = spec(interval=interval, scaling={"observeFor": observed})
    sources: Any = SimpleNamespace(queues=SimpleNamespace(source=lambda _queue, _access: Source()))
    access: Any = SimpleNamespace(
        deadline=Deadline(asyncio.get_running_loop().time() + 60), late=unknown()
    )
    policy = cast(Any, SimpleNamespace(spec=parts))
    await observe._queue(sources, policy, parts.queues[0], access)
    assert asked == [timedelta(seconds=window)]
