"""A policy with one producer, whose place can change, and the operator's own services for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import redis
from tests.producers.table import NO_WAIT

from starforge_backlog.act import act
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.clock import utc_now
from starforge_backlog.context import Services
from starforge_backlog.databases.hub import DatabaseHub
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses.moved import follow_places
from starforge_backlog.decide.pauses.outcome import entry_of, locate
from starforge_backlog.decide.pauses.pausing import Pausing, decide_producers, release_all
from starforge_backlog.decide.plan import Action
from starforge_backlog.decide.results import (
    Failed,
    Paused,
    Result,
    Resumed,
)
from starforge_backlog.isolation import FaultIsolation
from starforge_backlog.observe import access_of
from starforge_backlog.policy import Policy
from starforge_backlog.producers.adapters import ProducerAdapters
from starforge_backlog.producers.outside import OutsideAdapters
from starforge_backlog.producers.protocol import Holder
from starforge_backlog.redis.hub import RedisHub
from starforge_backlog.snapshot import Known, ProducerReading, Reading, Unknown, Why

FLAGS = (
    "CREATE TABLE feature_flags (name text UNIQUE NOT NULL, data jsonb DEFAULT '{}')",
    "INSERT INTO feature_flags (name) VALUES ('ingest_control')",
    "CREATE TABLE backfill_jobs (job_id bigint PRIMARY KEY, status text, processed_count int)",
    "INSERT INTO backfill_jobs VALUES (1, 'running', 0), (2, 'running', 0)",
    "INSERT INTO queue_jobs (type) SELECT 'backfill_range' FROM generate_series(1, 5)",
)
HELD_JOBS = "SELECT count(*) FROM queue_jobs WHERE run_after > now() + interval '90 years'"
# Whether something stands still there.
STANDS: dict[str, str] = {
    "featureFlag": "SELECT data @> '{\"ingest_paused\": true}' FROM feature_flags",
    "backfillJobs": "SELECT bool_and(status = 'paused') FROM backfill_jobs",
    "jobTypes": HELD_JOBS.replace("count(*)", "count(*) = 5"),
}
PLACES: dict[str, dict[str, Any]] = {
    "featureFlag": {},
    "backfillJobs": {},
    "jobTypes": {"types": ["backfill_range"]},
}


@dataclass
class Operator:
    """One policy, the value of its Secret, and its status; the services are the operator's own."""

    url: str
    way: str
    place: dict[str, Any]
    abandon: bool = False
    secrets: dict[str, str] = field(default_factory=dict)  # besides the one of `url`
    secret: str = "s"
    producer: str = "bg"
    status: QueueBacklogPolicyStatus = field(default_factory=QueueBacklogPolicyStatus)
    redis: RedisHub = field(default_factory=RedisHub)
    databases: DatabaseHub = field(default_factory=lambda: DatabaseHub(pacing=NO_WAIT))
    last: tuple[Result, ...] = ()

    def __post_init__(self) -> None:
        outside = cast(OutsideAdapters, None)  # no object of a cluster is paused here
        producers = ProducerAdapters(self.databases, self.redis, outside, utc_now)
        self.services = cast(
            Services,
            SimpleNamespace(
                clock=utc_now,
                isolation=FaultIsolation(utc_now, lambda *_: None),
                statuses=SimpleNamespace(current=lambda _: self.status),
                producers=producers,
                secrets=self,
                databases=self.databases,
            ),
        )

    async def read(self, _namespace: str, ref: Any) -> Reading[str]:
        """The Secret."""
        value = self.url if ref.name == "s" else self.secrets.get(ref.name)
        if value is None:
            return Unknown(Why.SECRET_NOT_FOUND, f"there is no Secret {ref.name}", utc_now())
        return Known(value, utc_now())

    def forget(self, _namespace: str, _name: str) -> None:
        """It is read again in any case."""

    @property
    def entry(self) -> PauseStatus | None:
        return self.status.paused[0] if self.status.paused else None

    @property
    def held(self) -> PauseStatus:
        """The entry, which must be there."""
        assert self.entry is not None
        return self.entry

    @property
    def state(self) -> PauseState | None:
        return None if self.entry is None else self.entry.state

    @property
    def spec(self) -> QueueBacklogPolicySpec:
        secret = {"secretKeyRef": {"name": self.secret, "key": "url"}}
        place = {"url": secret, **self.place} if self.way == "queue" else self.place
        return QueueBacklogPolicySpec.model_validate(
            {
                "target": {"name": "w"},
                "database": {"url": secret},
                "queues": [{"name": "jobs", "postgres": {}}],
                "producers": [{"name": self.producer, self.way: place}],
                "breakers": [{"name": "b", "trip": [{"waiting": 5}], "pause": [self.producer]}],
            }
        )

    @property
    def policy(self) -> Policy:
        one = SimpleNamespace(
            spec=self.spec,
            body={},
            key="ns/etl",
            namespace="ns",
            name="etl",
            uid="uid-1",
            abandon=self.abandon,
        )
        return cast(Policy, one)

    async def read_producer(self) -> Reading[ProducerReading]:
        late = Unknown(Why.TIMEOUT, "late", utc_now())
        access = access_of(self.services, self.policy, self.spec.interval, late)
        (producer,) = self.spec.producers
        holder = Holder("uid-1", self.producer, entry_of(self.spec, producer, self.status.paused))
        found = await self.services.producers.find(producer, access, holder)
        return found if isinstance(found, Unknown) else await found.read()

    async def run(self, *, wanted: bool) -> None:
        """One pass."""
        state = BreakerState.OPEN if wanted else BreakerState.CLOSED
        seen = {self.producer: await self.read_producer()}
        entries, readings = follow_places(self.spec, self.status.paused, seen, utc_now())
        decided = decide_producers(
            self.spec,
            (BreakerStatus(name="b", state=state, message="x"),),
            entries,
            readings,
            Pausing("uid-1", None, self.status.released_at, utc_now()),
        )
        self.status = self.status.model_copy(update={"paused": decided.entries})
        await self._act(decided.actions)

    async def until(self, stands: Callable[[], bool]) -> None:
        """Passes until it stands still and is held: a reading of rows is shared for a second."""
        for _ in range(200):
            await self.run(wanted=True)
            if stands() and PauseState.HELD in {entry.state for entry in self.status.paused}:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not paused: {self.status.paused}")

    async def delete(self) -> None:
        await self._act(release_all(self.status.paused, "deleted").actions)

    async def _act(self, actions: tuple[Action, ...]) -> None:
        self.status = locate(self.status, self.spec, actions)
        self.last = await act(self.services, self.policy, actions, self.status.paused)
        self.status = merge(self.status, self.last, utc_now())

    def outcome(self) -> str:
        """What became of the one action of the last pass."""
        (result,) = self.last
        match result.got:
            case Failed(reason):
                return reason
            case Paused(outcome) | Resumed(outcome):
                return outcome
            case other:
                raise AssertionError(other)


Make = Callable[..., Operator]


def braked(hands: Any, name: str = "etl-backfill") -> bool:
    return hands.hget(f"bull:{name}:meta", "starforge-backlog") is not None


@contextmanager
def two_queues(redis_url: str) -> Iterator[Any]:
    """In the database of the URL."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for name in ("etl-backfill", "other"):
            client.hset(f"bull:{name}:meta", "version", "bullmq:6.7.0")
            client.rpush(f"bull:{name}:wait", "1")
        yield client
