"""The Python `bullmq` as a second oracle: it and the operator count the same queue alike."""

from __future__ import annotations

from collections.abc import AsyncIterator

import bullmq  # type: ignore[import-untyped]  # it has no types
import pytest
from tests.node.bull import Bull, Version
from tests.queues.bullmq_adapter import Eye, queue_of, value

from starforge_backlog.redis.hub import RedisHub

pytestmark = [pytest.mark.redis, pytest.mark.node]

HOUR = 3_600_000  # ms


@pytest.fixture
async def eye(redis_url: str) -> AsyncIterator[Eye]:
    hub = RedisHub()
    yield Eye(hub, redis_url)
    await hub.close()


@pytest.mark.parametrize("version", [5, 6])
async def test_counts_are_those_of_the_python_package(
    eye: Eye, bull: Bull, redis_url: str, version: Version
) -> None:
    made_by_node = queue_of(bull, redis_url, version)
    made_by_node.add_bulk(20, "a")
    made_by_node.add_bulk(5, "b", priority=3)
    made_by_node.add_bulk(4, "c", delay=HOUR)
    queue = bullmq.Queue("etl", {"connection": redis_url})
    try:
        await queue.add("a", {}, {})  # its own jobs are counted as well
        counts = await queue.getJobCounts("wait", "prioritized", "delayed", "active", "failed")
    finally:
        await queue.close()
    reading = await eye.read()
    assert value(reading.waiting).value == counts["wait"] + counts["prioritized"] == 26
    assert value(reading.scheduled).value == counts["delayed"] == 4
    assert value(reading.in_progress).value == counts["active"] == 0
    assert value(reading.failed).value == counts["failed"] == 0
