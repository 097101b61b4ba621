"""What the operator can see of the world: readings, late ones, and reasons why there are none."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from tests.simulator.backlog import Backlog
from tests.simulator.setup import PARTS, Setup, What, moment
from tests.simulator.spec import BACKGROUND, PRODUCER, QUEUE
from tests.simulator.world import World

from starforge_backlog.snapshot import (
    Confidence,
    Connections,
    Count,
    DatabaseHealth,
    DatabaseReading,
    Known,
    Outcomes,
    PerReplica,
    QueueReading,
    Reading,
    Snapshot,
    Unknown,
    Why,
    Workload,
    unread,
)

T = TypeVar("T")

# The operator's own connection, of a role of its own.
OWN_CONNECTIONS = 1
PEAK_WINDOW = 15 * 60.0
LOCKED_FOR = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was true when a snapshot was taken: promises are checked against this."""

    others: int  # other clients at the time of the connections' reading
    terminating: int  # at the time of the workload's reading
    unreadable: frozenset[str]  # parts (PARTS) that the operator must treat as unknown


class Eye:
    """One operator process' sight: peaks are forgotten when it dies."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._others: deque[tuple[float, int]] = deque()
        self._began: float | None = None
        self._last: tuple[Snapshot, Facts] | None = None
        self._hidden = ""
        self._rested: tuple[float, DatabaseReading, int] | None = None

    def forget(self) -> None:
        """A new process."""
        self._others.clear()
        self._began = None
        self._last = None
        self._rested = None

    def unreadable(self, part: int) -> None:
        """Which part `UNREADABLE` hides."""
        self._hidden = PARTS[part % len(PARTS)]

    def read(self, world: World, at: datetime) -> tuple[Snapshot, Facts]:
        """One snapshot; `at` is the operator's own clock."""
        per_replica = Known(
            PerReplica(self._setup.pool, self._setup.pool, "env PG_POOL_MAX", self._setup.role), at
        )
        workload, unreadable = self._read_workload(world, at)
        if world.lasts(What.STALE) and self._last is not None:
            return self._stale(workload, unreadable, world)
        stored = self._read_database(world, at)
        if isinstance(stored, Unknown):
            unreadable |= frozenset(PARTS) - {"workload"}
            queue = unread(stored)
            snapshot = Snapshot(
                taken_at=at,
                workload=workload,
                per_replica=per_replica,
                database=DatabaseReading(stored, stored),
                queues=dict.fromkeys(self._names(), queue),
                producers={PRODUCER: stored},
            )
            return snapshot, Facts(world.others, world.pods.terminating, unreadable)
        hidden = self._hidden if world.lasts(What.UNREADABLE) else ""
        if hidden:
            unreadable |= {hidden}
        gone = Unknown(Why.TIMEOUT, "no answer in time", at)
        queues = {QUEUE: self._queue(world.queue, world.now, at, hidden)}
        if self._setup.background:
            queues[BACKGROUND] = self._queue(world.other_queue, world.now, at, hidden)
        health = DatabaseHealth(
            lock_waiters=world.lock_waiters,
            longest_transaction=LOCKED_FOR if world.lock_waiters else timedelta(0),
        )
        database = DatabaseReading(
            connections=gone if hidden == "connections" else Known(stored, at),
            health=gone if hidden == "health" else Known(health, at),
        )
        others = world.others
        rested = self._rested
        if not hidden and rested is not None and world.now - rested[0] < self._setup.rest:
            _, database, others = rested
        elif not hidden:
            self._rested = (world.now, database, others)
        flag = world.flag.read(at)
        snapshot = Snapshot(
            taken_at=at,
            workload=gone if hidden == "workload" else workload,
            per_replica=per_replica,
            database=database,
            queues=queues,
            producers={PRODUCER: gone if hidden == "flag" else flag},
        )
        facts = Facts(others, world.pods.terminating, unreadable)
        self._last = (snapshot, facts)
        return snapshot, facts

    def _names(self) -> tuple[str, ...]:
        return (QUEUE, BACKGROUND) if self._setup.background else (QUEUE,)

    def _read_workload(
        self, world: World, at: datetime
    ) -> tuple[Reading[Workload], frozenset[str]]:
        if world.lasts(What.API_OUTAGE):
            gone = Unknown(Why.UNREACHABLE, "the API server does not answer", at)
            return gone, frozenset({"workload"})
        return Known(world.pods.read(self._setup.surge), at), frozenset()

    def _read_database(self, world: World, at: datetime) -> Connections | Unknown:
        if world.lasts(What.OUTAGE):
            return Unknown(Why.UNREACHABLE, "connection refused", at)
        now = world.now
        if self._began is None:
            self._began = now
        others = self._others
        others.append((now, world.others))
        while others[0][0] < now - PEAK_WINDOW:
            others.popleft()
        workers = world.worker_connections
        role = self._setup.role
        own_role = role if self._setup.shared_role else "operator"
        present = {"web": world.others, **world.neighbours}
        present[role] = present.get(role, 0) + workers
        present[own_role] = present.get(own_role, 0) + OWN_CONNECTIONS
        peak = max(count for _, count in others)
        return Connections(
            server="db",
            max_connections=self._setup.max_connections,
            superuser_reserved=self._setup.superuser_reserved,
            reserved=0,
            provider_reserved=0,
            database_limit=None,
            role_limits={},
            clients=sum(present.values()),
            by_role=present,
            peak_by_role={**present, "web": peak},
            window=timedelta(seconds=min(PEAK_WINDOW, now - self._began)),
            own=OWN_CONNECTIONS,
            own_role=own_role,
        )

    def _queue(self, queue: Backlog, now: float, at: datetime, hidden: str) -> QueueReading:
        flow = queue.flow(now)
        gone = Unknown(Why.TIMEOUT, "no answer in time", at)
        window = timedelta(seconds=flow.seconds)
        ended = flow.finished + flow.failed
        outcomes: Reading[Outcomes] = Known(Outcomes(flow.finished, flow.failed, window), at)
        if not ended:
            outcomes = Unknown(Why.NO_SAMPLES, "nothing ended in the window", at)
        rates = hidden == "rates"
        return QueueReading(
            waiting=gone if hidden == "waiting" else Known(self._count(queue), at),
            scheduled=Known(Count(0), at),
            in_progress=Known(Count(0), at),
            failed=Known(Count(queue.failed), at),
            oldest_due_age=(
                gone if hidden == "oldest" else Known(timedelta(seconds=queue.oldest(now)), at)
            ),
            arrivals_per_second=gone if rates else Known(flow.arrived / flow.seconds, at),
            throughput_per_second=gone if rates else Known(ended / flow.seconds, at),
            outcomes=gone if hidden == "outcomes" else outcomes,
        )

    def _count(self, queue: Backlog) -> Count:
        most = self._setup.counted_to
        if most is None or queue.waiting <= most:
            return Count(queue.waiting)
        return Count(most, Confidence.AT_LEAST)

    def _stale(
        self, workload: Reading[Workload], unreadable: frozenset[str], world: World
    ) -> tuple[Snapshot, Facts]:
        """The database's readings of before, with their old times; the API server answers."""
        assert self._last is not None
        seen, facts = self._last
        limit = max(3 * self._setup.interval, 15.0)
        taken = seen.database.connections if seen.database is not None else None
        age = (moment(world.now) - taken.at).total_seconds() if taken is not None else limit + 1
        if age > limit:
            unreadable |= frozenset(PARTS) - {"workload"}
        else:
            unreadable |= facts.unreadable - {"workload"}  # which is checked again
        snapshot = Snapshot(
            taken_at=seen.taken_at,
            workload=workload,
            per_replica=seen.per_replica,
            database=seen.database,
            queues=seen.queues,
            producers=seen.producers,
        )
        return snapshot, Facts(facts.others, world.pods.terminating, unreadable)
