"""What one pass saw: frozen readings, each a value with its time or a reason why there is none.

P2, *unknown is not zero*: a missing reading is an `Unknown`, never a 0, so the type checker
makes every rule in `decide/` say what it does without the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from starforge_backlog.snapshot.database import (
    Claim,
    Connections,
    DatabaseHealth,
    DatabaseReading,
    Pooler,
)
from starforge_backlog.snapshot.producers import FlagValue, ProducerReading
from starforge_backlog.snapshot.queues import (
    Confidence,
    Consumers,
    Count,
    HeldBack,
    Outcomes,
    QueueReading,
    TypeReading,
    unread,
)
from starforge_backlog.snapshot.reading import Known, Reading, Source, SourceKind, Unknown, Why
from starforge_backlog.snapshot.workload import (
    Autoscaler,
    Follower,
    NotReady,
    PerReplica,
    PoolFrom,
    ScaleWriter,
    SmallerPool,
    Workload,
)

__all__ = [
    "Autoscaler",
    "Claim",
    "Confidence",
    "Connections",
    "Consumers",
    "Count",
    "DatabaseHealth",
    "DatabaseReading",
    "FlagValue",
    "Follower",
    "HeldBack",
    "Known",
    "NotReady",
    "Outcomes",
    "PerReplica",
    "PoolFrom",
    "Pooler",
    "ProducerReading",
    "QueueReading",
    "Reading",
    "Rival",
    "ScaleWriter",
    "SmallerPool",
    "Snapshot",
    "Source",
    "SourceKind",
    "TypeReading",
    "Unknown",
    "Why",
    "Workload",
    "unread",
]


@dataclass(frozen=True, slots=True)
class Rival:
    """The policy that has what this one names: it acts, this one does not."""

    policy: str  # namespace/name
    shared: str  # e.g. "Deployment etl-worker"
    deleting: bool = False  # it is being deleted, but has not released everything yet
    leaving: bool = False  # the newer one: it has not noticed yet that it has to let go


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one pass saw. Maps are keyed by the names in the spec."""

    taken_at: datetime
    workload: Reading[Workload]
    per_replica: Reading[PerReplica]
    database: DatabaseReading | None  # None: the policy names no database
    queues: Mapping[str, QueueReading]
    producers: Mapping[str, Reading[ProducerReading]]
    claims: tuple[Claim, ...] = ()
    claim: Claim | None = None  # this policy's own, as the others see it; None: not counted yet
    # Policies of the same server that had no pass yet since our start: what they hold is not known.
    awaited: tuple[str, ...] = ()
    # An older policy with the same target (or the same guarded autoscaler): it acts, we do not.
    rival: Rival | None = None
    # With spec.target.guard that autoscaler, else whoever else scales the target. Known(None):
    # nobody. None: not searched for.
    autoscaler: Reading[Autoscaler | None] | None = None
