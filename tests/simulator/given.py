"""Short ways to write the inputs of a decision down: specs, readings, statuses, and one pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.simulator.setup import EPOCH

from starforge_backlog.api.memory import apart, together
from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.decide.budget.pool_resize import count_old_pool
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.plan import Plan
from starforge_backlog.decide.results import Result
from starforge_backlog.snapshot import (
    Claim,
    Confidence,
    Connections,
    Count,
    DatabaseHealth,
    DatabaseReading,
    FlagValue,
    Known,
    Outcomes,
    PerReplica,
    ProducerReading,
    QueueReading,
    Reading,
    ScaleWriter,
    Snapshot,
    Unknown,
    Why,
    Workload,
)

NOW = EPOCH + timedelta(hours=1)
OWNER = "uid-1"
WINDOW = timedelta(seconds=90)


def seconds(count: float) -> timedelta:
    """A span of that many seconds."""
    return timedelta(seconds=count)


def later(count: float) -> datetime:
    """That many seconds after `NOW`."""
    return NOW + timedelta(seconds=count)


def unknown(why: Why = Why.UNREACHABLE) -> Unknown:
    """A reading that is missing."""
    return Unknown(why, "connection refused", NOW)


def spec(**parts: Any) -> QueueBacklogPolicySpec:
    """A policy as in the README, with parts replaced by their name in YAML."""
    whole: dict[str, Any] = {
        "target": {"name": "etl-worker", "maxReplicas": 20},
        "database": {
            "url": {"secretKeyRef": {"name": "starforge-db", "key": "DATABASE_URL"}},
            "pressure": {"utilizationPercent": 100},
        },
        "queues": [{"name": "jobs", "postgres": {}}],
        "producers": [{"name": "ingestion", "featureFlag": {}}],
        "breakers": [
            {
                "name": "ingestion",
                "pause": ["ingestion"],
                "trip": [{"waiting": 5000, "for": "10m"}],
                "recover": {"belowPercent": 50, "for": "2m", "probeFor": "5m"},
            }
        ],
    }
    whole.update(parts)
    return QueueBacklogPolicySpec.model_validate(whole)


def connections(**changes: Any) -> Connections:
    """200 connections, 60 of them other clients'; nothing of the workers is open yet."""
    whole: dict[str, Any] = {
        "server": "db",
        "max_connections": 200,
        "superuser_reserved": 3,
        "reserved": 0,
        "provider_reserved": 0,
        "database_limit": None,
        "role_limits": {},
        "clients": 60,
        "by_role": {"web": 60},
        "peak_by_role": {"web": 60},
        "window": timedelta(minutes=15),
        "own": 0,
        "own_role": "operator",
    }
    whole.update(changes)
    return Connections(**whole)


def health(**changes: Any) -> DatabaseHealth:
    """Nothing wrong."""
    whole: dict[str, Any] = {
        "lock_waiters": 0,
        "longest_transaction": timedelta(0),
    }
    whole.update(changes)
    return DatabaseHealth(**whole)


def workload(replicas: int = 4, **changes: Any) -> Workload:
    """That many replicas, all Ready, written by us."""
    whole: dict[str, Any] = {
        "uid": "workload-1",
        "replicas": replicas,
        "scale_version": "7",
        "writer": ScaleWriter("starforge-backlog", None),
        "ready": replicas,
        "pending": 0,
        "crash_looping": 0,
        "oom_killed": 0,
        "terminating": 0,
        "restarts": 0,
        "max_surge": "25%",
        "paused": False,
        "rolling_out": False,
    }
    whole.update(changes)
    return Workload(**whole)


def per_replica(pool: int = 10, role: str | None = "worker") -> PerReplica:
    """One pool per replica."""
    return PerReplica(pool, pool, "env PG_POOL_MAX", role)


def queue(
    waiting: int | Unknown | Count = 0,
    *,
    oldest: float | Unknown = 0,
    arrivals: float | Unknown = 0.0,
    throughput: float | Unknown = 0.0,
    failed: int = 0,
    finished: int = 100,
    outcomes: Unknown | None = None,
    at: datetime = NOW,
) -> QueueReading:
    """A queue as read at `at`."""
    count = Count(waiting) if isinstance(waiting, int) else waiting
    age = oldest if isinstance(oldest, Unknown) else timedelta(seconds=oldest)
    zero: Reading[Count] = Known(Count(0), at)
    return QueueReading(
        waiting=count if isinstance(count, Unknown) else Known(count, at),
        scheduled=zero,
        in_progress=zero,
        failed=zero,
        oldest_due_age=age if isinstance(age, Unknown) else Known(age, at),
        arrivals_per_second=arrivals if isinstance(arrivals, Unknown) else Known(arrivals, at),
        throughput_per_second=(
            throughput if isinstance(throughput, Unknown) else Known(throughput, at)
        ),
        outcomes=outcomes or Known(Outcomes(finished, failed, WINDOW), at),
    )


def at_least(jobs: int) -> Count:
    """A count that stopped at a cap."""
    return Count(jobs, Confidence.AT_LEAST)


def flag(
    value: FlagValue = FlagValue.RUNNING,
    *,
    token: str | None = None,
    version: str = "1",
    at: datetime = NOW,
) -> Reading[ProducerReading]:
    """The producer's own state."""
    return Known(ProducerReading(value, token, version), at)


def seen(
    *,
    at: datetime = NOW,
    target: Workload | Unknown | None = None,
    each: PerReplica | Unknown | None = None,
    open_now: Connections | Unknown | None = None,
    state: DatabaseHealth | Unknown | None = None,
    queues: Mapping[str, QueueReading] | QueueReading | None = None,
    producers: Mapping[str, Reading[ProducerReading]] | Reading[ProducerReading] | None = None,
    claims: tuple[Claim, ...] = (),
    awaited: tuple[str, ...] = (),
) -> Snapshot:
    """A snapshot in which all is well, but for what is given."""
    target = target or workload()
    each = each or per_replica()
    open_now = open_now or connections()
    state = state or health()
    if queues is None or isinstance(queues, QueueReading):
        queues = {"jobs": queues or queue(at=at)}
    if producers is None or isinstance(producers, Known | Unknown):
        producers = {"ingestion": producers or flag(at=at)}
    return Snapshot(
        taken_at=at,
        workload=target if isinstance(target, Unknown) else Known(target, at),
        per_replica=each if isinstance(each, Unknown) else Known(each, at),
        database=DatabaseReading(
            connections=open_now if isinstance(open_now, Unknown) else Known(open_now, at),
            health=state if isinstance(state, Unknown) else Known(state, at),
        ),
        queues=queues,
        producers=producers,
        claims=claims,
        awaited=awaited,
    )


def through_json(status: QueueBacklogPolicyStatus) -> QueueBacklogPolicyStatus:
    """As the API server keeps it between two passes (P6)."""
    text = json.dumps(apart(status))
    return QueueBacklogPolicyStatus.model_validate(together(json.loads(text)))


@dataclass(slots=True)
class Policy:
    """A policy over several passes: its status survives only as JSON."""

    spec: QueueBacklogPolicySpec
    status: QueueBacklogPolicyStatus
    hold: str | None = None
    owner: str = OWNER

    def decide(self, snapshot: Snapshot) -> Plan:
        """One decision at the snapshot's moment; its status is stored, nothing is carried out."""
        now, wanted = snapshot.taken_at, self.spec.target.connections_per_replica
        seen = count_old_pool(wanted, self.status.scaling, snapshot, now)
        plan = decide(self.spec, self.status, seen, now, owner=self.owner, hold=self.hold)
        self.status = through_json(plan.status)
        return plan

    def happened(self, results: Iterable[Result], at: datetime = NOW) -> None:
        """What became of the plan."""
        self.status = through_json(merge(self.status, tuple(results), at))


def fresh_policy(**parts: Any) -> Policy:
    """A policy that was just created."""
    return Policy(spec(**parts), QueueBacklogPolicyStatus())
