"""Jobs, events and ids of a size that nobody expects: not read, not in the reading, and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import redis as library
from tests.node.bull import Bull
from tests.queues.bullmq_adapter import Eye, client, queue_of, value

from starforge_backlog.snapshot import Count, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.node]

LARGE = 200_000  # bytes
_MOST_READ = 300_000  # bytes that a whole reading may take from Redis


@dataclass
class Cost:
    """What Redis did meanwhile."""

    calls: dict[str, int]
    sent: int = 0  # bytes
    lua: int = 0  # bytes by which the scripts' memory grew


@contextmanager
def cost_of(admin: library.Redis) -> Iterator[Cost]:
    def now() -> tuple[int, int]:
        stats: Any = admin.info("stats")
        memory: Any = admin.info("memory")
        return stats["total_net_output_bytes"], memory["used_memory_vm_eval"]

    found = Cost({})
    admin.config_resetstat()
    sent, lua = now()
    yield found
    sent_now, lua_now = now()
    found.sent, found.lua = sent_now - sent, lua_now - lua
    stats: Any = admin.info("commandstats")
    found.calls = {name.removeprefix("cmdstat_"): its["calls"] for name, its in stats.items()}


def fill_events(admin: library.Redis, count: int, size: int) -> None:
    """As `updateProgress` writes them."""
    many = admin.pipeline(transaction=False)
    for number in range(count):
        entry: Any = {"event": "progress", "jobId": f"{number}", "data": json.dumps("x" * size)}
        many.xadd("bull:etl:events", entry, maxlen=10_000, approximate=True)
        if number % 50 == 49:
            many.execute()
    many.execute()


@pytest.mark.valkey
async def test_progress_events_of_200_kb_are_not_read_and_everything_else_is(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    job = queue.add("a")
    await bull.ask("job", queue=queue.handle, job=job, method="updateProgress", args=["x" * LARGE])
    await eye.read()
    with client(redis_url) as admin:
        fill_events(admin, 500, LARGE)
        before: Any = admin.info("memory")
        with cost_of(admin) as cost:
            reading, _ = await eye.again()
        after: Any = admin.info("memory")
    assert not cost.calls.keys() & {"xrevrange", "xrange", "xinfo|stream"}, "none was touched"
    assert cost.sent < _MOST_READ
    assert after["used_memory"] < before["used_memory"] * 1.01
    assert value(reading.waiting) == Count(1)
    assert value(reading.oldest_due_age) > timedelta(0)
    assert value(reading.arrivals_per_second) == 0
    attempts = reading.failed_attempts_per_second
    assert isinstance(attempts, Unknown)
    assert "updateProgress()" in attempts.message
    assert any("updateProgress()" in note for note in reading.notes)


async def test_one_large_event_among_small_ones_is_read_once_at_most(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    queue.add("a")
    with client(redis_url) as admin:
        fill_events(admin, 3_000, 1_000)
        await eye.read()
        fill_events(admin, 1, 700_000)
        fill_events(admin, 3, 10)
        with cost_of(admin) as cost:
            await eye.again()
        assert cost.calls["xrevrange"] == 4, "one by one, until the large one"
        with cost_of(admin) as cost:
            reading, _ = await eye.again()
    assert "xrevrange" not in cost.calls, "it was so large that events rest for a while"
    assert any("updateProgress()" in note for note in reading.notes)


async def test_events_of_a_large_stream_are_read_as_far_as_the_last_reading(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    """Return values of a kilobyte are no fault: what happened is known as before."""
    queue = queue_of(bull, redis_url, 5)
    with client(redis_url) as admin:
        fill_events(admin, 3_000, 1_000)
    await eye.read()
    queue.add_bulk(20, {"a": 1})
    with client(redis_url) as admin, cost_of(admin) as cost:
        reading, seconds = await eye.again()
    assert value(reading.arrivals_per_second) == pytest.approx(20 / seconds, rel=0.2)
    assert value(reading.failed_attempts_per_second) == 0
    assert cost.calls["xrevrange"] == 41, "added and waiting of each job, and the end"


@pytest.mark.valkey
@pytest.mark.parametrize("size", [80_000, 2_000])
async def test_a_payload_for_a_name_is_reported_by_its_size(
    eye: Eye, bull: Bull, redis_url: str, size: int
) -> None:
    queue = queue_of(bull, redis_url, 5)
    for number in range(60):
        queue.add("x" * (size + number % 3))
    queue.add("short")
    await eye.read()
    with client(redis_url) as admin, cost_of(admin) as cost:
        reading = await eye.read()
    assert reading.types == {
        "short": Count(1),
        **{f"(a name of {size + more} bytes)": Count(20) for more in range(3)},
    }
    assert cost.sent < _MOST_READ
    assert cost.lua < _MOST_READ
    assert value(reading.waiting) == Count(61)
    assert value(reading.oldest_due_age) > timedelta(0)


async def test_long_names_that_begin_alike_stay_two_types(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    for ending in ("a", "b"):
        queue.add("x" * 500 + ending)
    reading = await eye.read()
    assert len(reading.types) == 2
    assert all(len(name) <= 100 for name in reading.types)
    assert reading.types.keys() <= reading.by_type.keys()


async def test_the_number_of_types_is_bounded_where_each_job_has_its_own(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    with client(redis_url) as admin:
        now = int(admin.time()[0]) * 1000
        for number in range(150):
            admin.hset(f"bull:etl:done-{number}", mapping={"name": f"ended {number}"})
            admin.zadd("bull:etl:completed", {f"done-{number}": now + number})
        for number in range(100):
            queue.add(f"waits {number}")
    reading = await eye.read()
    most = eye.settings.most_types
    assert len(reading.types) == most
    assert len(reading.by_type) <= 2 * most


async def test_options_and_ids_of_any_size_are_not_read(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue = queue_of(bull, redis_url, 5)
    for number in range(30):
        queue.add("a", jobId=f"{number}-" + "i" * 5_000)
    with client(redis_url) as admin, cost_of(admin) as cost:
        reading = await eye.read()
    assert value(reading.waiting) == Count(30)
    age = reading.oldest_due_age
    assert isinstance(age, Unknown)
    assert age.why is Why.BAD_SHAPE
    assert "jobId" in age.message
    assert cost.sent < _MOST_READ

    other = bull.queue(redis_url, "options")
    job = other.add("a")
    with client(redis_url) as admin:
        admin.hset(f"bull:options:{job}", "opts", json.dumps({"delay": 5, "more": "x" * LARGE}))
        with cost_of(admin) as cost:
            reading = await eye.read("options")
    assert cost.sent < _MOST_READ
    assert cost.lua < _MOST_READ
    assert value(reading.waiting) == Count(1)
    assert isinstance(reading.oldest_due_age, Unknown)
    assert "options too long" in reading.oldest_due_age.message


async def test_fields_of_meta_of_any_size_are_not_read(
    eye: Eye, bull: Bull, redis_url: str
) -> None:
    queue_of(bull, redis_url, 5).add("a")
    with client(redis_url) as admin:
        for field in ("version", "concurrency", "starforge-backlog", "paused"):
            admin.hset("bull:etl:meta", field, "9" * LARGE)
        with cost_of(admin) as cost:
            reading = await eye.read()
    assert value(reading.waiting) == Count(1)
    assert value(reading.consumers).paused_by == "a person"
    assert cost.sent < _MOST_READ
    assert cost.lua < _MOST_READ
