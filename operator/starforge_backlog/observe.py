"""All readings of a pass, at once and under one deadline → Snapshot.

A source that is slow or gone delays nobody: its readings are `Unknown` with the reason, the
others stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Database as DatabaseSpec
from starforge_backlog.context import Rooms
from starforge_backlog.databases.connection import Database
from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.policy import Policy
from starforge_backlog.snapshot import (
    DatabaseReading,
    Known,
    PerReplica,
    ProducerReading,
    QueueReading,
    Reading,
    Snapshot,
    Unknown,
    Why,
    unread,
)

T = TypeVar("T")

# A pass that waits longer decides about the past. Three statements of 0.8 s fit in it.
LONGEST_WAIT = timedelta(seconds=5)
# ... and a policy of a short interval must be done before its next pass.
PART_OF_INTERVAL = 0.8
# Samples this young are shared by the policies that run at the same moment (see passes.py).
SHARED_FOR = timedelta(seconds=1)
# What a new value of the Secret mends: it is read anew for the next pass, so that a rotated
# password or a corrected URL counts at once. Not an outage: a server that is down has all its
# policies ask, and their Secrets are as good as before.
MENDED_BY_SECRET = frozenset(
    {
        Why.SECRET_KEY_MISSING,
        Why.SECRET_MALFORMED,
        Why.WRONG_PASSWORD,
        Why.HOST_UNKNOWN,
        Why.DATABASE_NOT_FOUND,
        Why.TLS_FAILED,
    }
)


async def observe(rooms: Rooms, policy: Policy) -> Snapshot:
    """Read everything the policy names."""
    began = rooms.clock()
    wait = min(policy.spec.interval * PART_OF_INTERVAL, LONGEST_WAIT)
    late = Unknown(Why.TIMEOUT, f"no answer within {format_duration(wait)}", began)
    deadline = Deadline(asyncio.get_running_loop().time() + wait.total_seconds())
    target = rooms.workloads.read(policy.namespace, policy.spec.target)
    (workload, per_replica), stored = await asyncio.gather(
        deadline.keep(target, (late, late)),
        _stored(rooms, policy, deadline, late),
    )
    return Snapshot(
        taken_at=began,
        workload=workload,
        per_replica=_with_role(policy, per_replica, stored.login),
        database=stored.database,
        queues=stored.queues,
        producers=stored.producers,
    )


@dataclass(frozen=True, slots=True)
class Deadline:
    """One moment (loop time) for all readings of a pass."""

    at: float

    async def keep(self, reading: Awaitable[T], late: T) -> T:
        """The reading, or `late` when it did not come in time."""
        try:
            async with asyncio.timeout_at(self.at):
                return await reading
        except TimeoutError:
            return late


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the database tells: its own state, queues and flags."""

    database: DatabaseReading | None
    queues: dict[str, QueueReading]
    producers: dict[str, Reading[ProducerReading]]
    login: str | None = None  # the role that we log in as


async def _stored(rooms: Rooms, policy: Policy, deadline: Deadline, late: Unknown) -> _Stored:
    spec = policy.spec.database
    if spec is None:
        message = "the policy names no database; set spec.database.url"
        return _nothing(policy, Unknown(Why.NOT_CONFIGURED, message, late.at), database=False)
    opened = await open_database(rooms, policy, spec, deadline, late)
    if isinstance(opened, Unknown):
        _forget_secret(rooms, policy, spec, opened)
        return _nothing(policy, opened, database=True)
    url, database = opened
    headroom = rooms.databases.headroom(url, owner=policy.key)
    queues = policy.spec.queues
    producers = policy.spec.producers
    reading, queue_readings, flags = await asyncio.gather(
        deadline.keep(headroom.read(SHARED_FOR), DatabaseReading(late, late)),
        asyncio.gather(
            *(
                deadline.keep(
                    rooms.queues.source(queue, database).read(
                        rate_window=policy.spec.scaling.observe_for, max_age=SHARED_FOR
                    ),
                    unread(late),
                )
                for queue in queues
            )
        ),
        asyncio.gather(
            *(deadline.keep(rooms.producers.pausable(p, database).read(), late) for p in producers)
        ),
    )
    _forget_secret(rooms, policy, spec, reading.connections)
    return _Stored(
        database=reading,
        queues={q.name: r for q, r in zip(queues, queue_readings, strict=True)},
        producers={p.name: r for p, r in zip(producers, flags, strict=True)},
        login=database.key.user,
    )


async def open_database(
    rooms: Rooms, policy: Policy, spec: DatabaseSpec, deadline: Deadline, late: Unknown
) -> tuple[str, Database] | Unknown:
    """The shared connection behind the policy's secret; nothing is opened yet."""
    reference = spec.url.secret_key_ref
    url = await deadline.keep(rooms.secrets.read(policy.namespace, reference), late)
    if isinstance(url, Unknown):
        return url
    try:
        return url.value, rooms.databases.get(url.value, owner=policy.key)
    except DatabaseFault as fault:
        where = f"key {reference.key} of Secret {reference.name}"
        return Unknown(fault.why, f"{where}: {fault.message}", url.at)


def _nothing(policy: Policy, why: Unknown, *, database: bool) -> _Stored:
    return _Stored(
        database=DatabaseReading(why, why) if database else None,
        queues={queue.name: unread(why) for queue in policy.spec.queues},
        producers={producer.name: why for producer in policy.spec.producers},
    )


def _forget_secret(
    rooms: Rooms, policy: Policy, spec: DatabaseSpec, reading: Reading[object]
) -> None:
    """After a fault that the Secret may be to blame for."""
    if isinstance(reading, Unknown) and reading.why in MENDED_BY_SECRET:
        rooms.secrets.forget(policy.namespace, spec.url.secret_key_ref.name)


def _with_role(
    policy: Policy, per_replica: Reading[PerReplica], login: str | None
) -> Reading[PerReplica]:
    """Whose sessions are the workers': the spec says it, or the pods' own environment, or the
    login that the policy was given for the same database."""
    if not isinstance(per_replica, Known):
        return per_replica
    named = policy.spec.database.worker_role if policy.spec.database else None
    role = named or per_replica.value.role or login
    return Known(replace(per_replica.value, role=role), per_replica.at)
