"""`QueueBacklogPolicy.spec`: what an admin writes. Defaults are the runbook's numbers.

Each part has a file of its own; this one holds the whole, and the rules that span several parts.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.breaker import MOST_NAMES, Breaker, Recover, Trip
from starforge_backlog.api.database import Database, Pressure, SecretKeyRef, SecretValue
from starforge_backlog.api.producer import FeatureFlag, Producer
from starforge_backlog.api.queue import (
    ColumnNames,
    Objectives,
    PostgresQueue,
    Priority,
    Queue,
    StatusNames,
)
from starforge_backlog.api.rules import Rule, rules
from starforge_backlog.api.scaling import Growth, Scaling
from starforge_backlog.api.target import ConnectionsPerReplica, Target
from starforge_backlog.api.terms import named, span

__all__ = [
    "Breaker",
    "ColumnNames",
    "ConnectionsPerReplica",
    "Database",
    "FeatureFlag",
    "Growth",
    "Mode",
    "Objectives",
    "PostgresQueue",
    "Pressure",
    "Priority",
    "Producer",
    "Queue",
    "QueueBacklogPolicySpec",
    "Recover",
    "Scaling",
    "SecretKeyRef",
    "SecretValue",
    "StatusNames",
    "Target",
    "Trip",
]


class Mode(StrEnum):
    """Whether the operator acts (`Enforce`) or only says what it would do (`Observe`)."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


_RULES = rules(
    Rule(
        "has(self.database) || !self.queues.exists(q, has(q.postgres))",
        "a queue with postgres needs spec.database: add database.url.secretKeyRef",
        path=".queues",
        reason="FieldValueRequired",
    ),
    Rule(
        "has(self.database) || !self.producers.exists(p, has(p.featureFlag))",
        "a producer with featureFlag needs spec.database: add database.url.secretKeyRef",
        path=".producers",
        reason="FieldValueRequired",
    ),
    Rule(
        "has(self.database) || !self.breakers.exists(b,"
        " b.trip.exists(t, has(t.databaseUtilizationPercent)))",
        "databaseUtilizationPercent needs spec.database: add database.url.secretKeyRef",
        path=".breakers",
        reason="FieldValueRequired",
    ),
    Rule(
        "self.queues.all(a, self.queues.all(b, a.name == b.name || !has(a.postgres)"
        " || !has(b.postgres) || a.postgres.table != b.postgres.table"
        " || (size(a.postgres.types) > 0 && size(b.postgres.types) > 0"
        " && !a.postgres.types.exists(t, t in b.postgres.types))))",
        "two queues of one table would count a job twice: give each of them types, and each type"
        " to one of them",
        path=".queues",
    ),
    Rule(
        "self.breakers.all(b, b.pause.all(n, self.producers.exists(p, p.name == n)))",
        "breakers[].pause names a producer that is not in spec.producers: add it there or correct"
        " the name",
        path=".breakers",
    ),
    Rule(
        "self.breakers.all(b, b.queues.all(n, self.queues.exists(q, q.name == n)))",
        "breakers[].queues names a queue that is not in spec.queues: add it there or correct the"
        " name",
        path=".breakers",
    ),
)


class QueueBacklogPolicySpec(Model):
    """What the operator is to guard, and within which bounds."""

    model_config = ConfigDict(json_schema_extra=_RULES)

    mode: Mode = Mode.ENFORCE
    """Enforce acts. Observe decides and reports all that it would do, and writes nothing but its
    own status; what this policy had paused is released on the switch."""

    suspend: bool = False
    """Stop deciding. What this policy has paused stays as it is until it is resumed or the policy
    is deleted; replicas stay where they are."""

    interval: Annotated[Duration, span("2s", "10m")] = timedelta(seconds=15)
    """Time between two passes (observe, decide, act, report), jittered. A change of the spec or of
    an annotation starts a pass at once. Longer spares the database, shorter trips earlier."""

    target: Target
    """The workload whose replicas are changed: the queue's consumers."""

    database: Database | None = None
    """The database that the workers share with others, and where their queue and flags are.
    Without it there is no budget, and a condition says so."""

    queues: Annotated[tuple[Queue, ...], named(MOST_NAMES, least=1)]
    """The queues that the target works on; at least one, each name once."""

    scaling: Scaling = Scaling()
    """How replicas are changed: in small steps, each observed before the next."""

    producers: Annotated[tuple[Producer, ...], named(MOST_NAMES)] = ()
    """What feeds the queues and can be paused, each name once. Only breakers pause."""

    breakers: Annotated[tuple[Breaker, ...], named(MOST_NAMES)] = ()
    """When producers are paused and resumed: closed → open → half-open → closed. Each name
    once."""

    def producer(self, name: str) -> Producer | None:
        """The producer of that name, or None when the spec has none (any more)."""
        return next((p for p in self.producers if p.name == name), None)
