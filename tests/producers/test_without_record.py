"""`status.memory` is cleared while something is paused: nothing is paused a second time, nothing
resumed, and the sentence that a person reads releases it. Real Redis and PostgreSQL."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.producers.places import PLACES, STANDS, Operator, two_queues
from tests.producers.table import Hands

from starforge_backlog import observe
from starforge_backlog.api.memory import MEMORY, apart
from starforge_backlog.api.status import PausedBy, PauseState
from starforge_backlog.clock import utc_now
from starforge_backlog.cluster.lenient import parse_status
from starforge_backlog.finalizer import held_by_us
from starforge_backlog.snapshot import ProducerReading, Reading, Unknown, Why

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def hands(redis_url: str) -> Iterator[Any]:
    with two_queues(redis_url) as client:
        yield client


class Forgetful(Operator):
    """Its status goes over the wire, where its memory can be cleared."""

    def forget_memory(self, field: str = "") -> None:
        """All of it, or that field of the pause."""
        written = apart(self.status)
        (item,) = written[MEMORY]["paused"]
        if field:
            item.pop(field, None)
        else:
            del written[MEMORY]
        self.status, dropped = parse_status(written)
        assert dropped == ()

    async def read_producer(self) -> Reading[ProducerReading]:
        """As a pass of the operator does."""
        late = Unknown(Why.TIMEOUT, "late", utc_now())
        access = observe.access_of(self.services, self.policy, self.spec.interval, late)
        (producer,) = self.spec.producers
        return await observe.read_producer(
            self.services.producers, self.policy, producer, self.status.paused, access
        )

    async def passes(self, stands: Callable[[], bool], *, wanted: bool) -> str:
        """Three passes that change nothing; returns what is said."""
        for _ in range(3):
            await self.run(wanted=wanted)
            assert self.last == ()
            assert stands()
            assert (self.held.by, self.state) == (PausedBy.US, PauseState.UNRECORDED)
        return self.held.message

    async def until_forgotten(self) -> None:
        """A reading of what is paused is shared for a second."""
        for _ in range(100):
            await self.run(wanted=False)
            if self.entry is None:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(self.held)


@pytest.mark.parametrize("intended", [False, True])
@pytest.mark.parametrize("way", STANDS)
async def test_rows(
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
    way: str,
    intended: bool,
) -> None:
    person, _ = databases

    def stands() -> bool:
        return bool(person.one(STANDS[way]))

    operator = Forgetful(pair[0], way, PLACES[way])
    try:
        await operator.until(stands)
        if intended:  # killed before the result was stored
            kept = operator.held.model_copy(update={"state": PauseState.INTENDED})
            operator.status = operator.status.model_copy(update={"paused": (kept,)})
        operator.forget_memory()
        await operator.passes(stands, wanted=True)
        said = await operator.passes(stands, wanted=False)
        assert "status.memory has no record" in said
        held = held_by_us(operator.status, "deleted", "uid-1")
        await operator._act(held)
        assert operator.outcome() == "PausedWithoutRecord"
        assert stands(), "a deletion waits for a person"
        if way == "backfillJobs":
            _, _, find = said.partition("in the database run: ")
            query = find.partition(";")[0]
            assert person.rows(query) == [(1,), (2,)]
            person.run("UPDATE backfill_jobs SET status = 'running'")
        else:
            person.run(said[said.index("UPDATE ") :])
        assert not stands()
        await operator.until_forgotten()
    finally:
        await operator.redis.close()
        await operator.databases.close()


# All that is seen of what was paused.
ROWS: dict[str, str] = {
    "featureFlag": "SELECT data FROM feature_flags",
    "backfillJobs": "SELECT job_id, status FROM backfill_jobs ORDER BY 1",
    "jobTypes": "SELECT id, status, run_after FROM queue_jobs ORDER BY 1",
}
UNMARKED = {"writeOwner": False}
FIELDS = ("token", "version", "previous", "locator", "server")


@pytest.mark.parametrize(
    ("way", "place", "field"),
    [
        *((way, place, field) for way, place in PLACES.items() for field in FIELDS),
        # Without `previous` the memory says of such a flag that it was absent.
        *(("featureFlag", UNMARKED, field) for field in FIELDS if field != "previous"),
    ],
)
async def test_a_part_of_the_memory_is_gone(
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
    way: str,
    place: dict[str, Any],
    field: str,
) -> None:
    """Either it is released to the letter, or it is left as it is and named."""
    person, _ = databases
    person.run("UPDATE feature_flags SET data = '{\"ingest_paused\": false}'")
    before = person.rows(ROWS[way])

    def stands() -> bool:
        return bool(person.one(STANDS[way]))

    operator = Forgetful(pair[0], way, place)
    try:
        await operator.until(stands)
        held = person.rows(ROWS[way])
        operator.forget_memory(field)
        await operator.run(wanted=True)
        assert operator.last == (), "nothing is paused again"
        assert person.rows(ROWS[way]) == held
        for _ in range(30):
            await operator.run(wanted=False)
            if person.rows(ROWS[way]) != held:
                break
            await asyncio.sleep(0.05)
        if person.rows(ROWS[way]) == held:
            assert operator.held.message
            assert operator.state in {PauseState.UNRECORDED, PauseState.CHANGED}
        else:
            assert person.rows(ROWS[way]) == before
            await operator.until_forgotten()
    finally:
        await operator.redis.close()
        await operator.databases.close()


async def test_an_unmarked_flag_is_not_said_to_have_been_absent(
    pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    """What was there before is in the memory alone: an invented statement would delete the flag."""
    person, _ = databases
    operator = Forgetful(pair[0], "featureFlag", UNMARKED)

    def stands() -> bool:
        return bool(person.one(STANDS["featureFlag"]))

    try:
        await operator.until(stands)
        operator.forget_memory()
        said = await operator.passes(stands, wanted=False)
        assert "set ingest_paused of row ingest_control in feature_flags to false" in said
    finally:
        await operator.redis.close()
        await operator.databases.close()


@pytest.mark.parametrize("limit", [None, "5"])
async def test_a_queue(hands: Any, redis_url: str, limit: str | None) -> None:
    meta = "bull:etl-backfill:meta"
    if limit is not None:
        hands.hset(meta, "concurrency", limit)

    def stands() -> bool:
        return bool(hands.hget(meta, "concurrency") == "00")

    operator = Forgetful(redis_url, "queue", {"name": "etl-backfill"})
    try:
        await operator.until(stands)
        operator.forget_memory()
        await operator.passes(stands, wanted=True)
        said = await operator.passes(stands, wanted=False)
        _, _, commands = said.partition("in Redis run: ")
        for command in commands.split(", then "):
            hands.execute_command(*shlex.split(command))
        assert hands.hget(meta, "concurrency") == limit
        await operator.until_forgotten()
    finally:
        await operator.redis.close()
        await operator.databases.close()


async def test_the_whole_status_is_gone(hands: Any, redis_url: str) -> None:
    """The mark proves whose pause it was; what became of it is not known."""

    def stands() -> bool:
        return bool(hands.hget("bull:etl-backfill:meta", "concurrency") == "00")

    operator = Forgetful(redis_url, "queue", {"name": "etl-backfill"})
    try:
        await operator.until(stands)
        operator.status = operator.status.model_copy(update={"paused": ()})
        await operator.passes(stands, wanted=False)
        said = await operator.passes(stands, wanted=True)
        assert "HDEL bull:etl-backfill:meta concurrency" in said
    finally:
        await operator.redis.close()
        await operator.databases.close()
