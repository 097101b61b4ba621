"""Waits short enough for tests, servers of our own to mistreat, and hubs that are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from local.errors import LocalError
from local.redis import RedisServer as LocalRedis
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.node import Pacing

StartRedis = Callable[..., LocalRedis]


@pytest.fixture
def quick() -> Pacing:
    """Production's waits are seconds."""
    return Pacing(
        connect_within=timedelta(seconds=1),
        turn_within=timedelta(seconds=1),
        retry_first=timedelta(seconds=0.05),
        retry_most=timedelta(seconds=0.05),
        retry_jitter=0,
    )


@pytest.fixture
async def hub(quick: Pacing) -> AsyncIterator[RedisHub]:
    made = RedisHub(pacing=quick)
    yield made
    await made.close()


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    """`RedisServer.start` without its folder, for tests that need one for themselves."""
    with ExitStack() as stack:

        def start(**options: Any) -> LocalRedis:
            try:
                server = LocalRedis.start(tmp_path_factory.mktemp("redis"), **options)
            except LocalError as error:
                pytest.fail(f"Redis did not start: {error}", pytrace=False)
            stack.callback(server.close)
            return server

        yield start
