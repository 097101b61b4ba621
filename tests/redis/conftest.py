"""Waits short enough for tests, and connections that are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
from tests.redis.servers import StartRedis, starting

from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.redis.node import Pacing


@pytest.fixture
def quick() -> Pacing:
    """Tries again soon; production waits seconds."""
    return Pacing(
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
    """For tests that need a server for themselves."""
    with starting(tmp_path_factory) as start:
        yield start
