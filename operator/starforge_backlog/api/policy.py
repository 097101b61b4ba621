"""`QueueBacklogPolicy.spec`: what an admin writes. Defaults are the runbook's numbers.

Each part has a file of its own; this one holds the whole, and the rules that span several parts.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.breaker import MOST_NAMES, Breaker, Scope, Trip
from starforge_backlog.api.database import Database
from starforge_backlog.api.pausing import (
    ConfigMapKey,
    PausedWorkload,
)
from starforge_backlog.api.producer import FeatureFlag, Producer
from starforge_backlog.api.queue import (
    PostgresQueue,
    Priority,
    Queue,
)
from starforge_backlog.api.rules import Rule, rules
from starforge_backlog.api.scaling import Growth, Scaling
from starforge_backlog.api.secret import SecretKeyRef
from starforge_backlog.api.target import ConnectionsPerReplica, Guard, Target
from starforge_backlog.api.terms import Contact, JobType, Name, named, span, words

__all__ = [
    "DATABASE_TLS",
    "DATABASE_URL",
    "Breaker",
    "ConfigMapKey",
    "ConnectionsPerReplica",
    "Database",
    "FeatureFlag",
    "Growth",
    "Guard",
    "Mode",
    "PausedWorkload",
    "PostgresQueue",
    "Priority",
    "Producer",
    "Queue",
    "QueueBacklogPolicySpec",
    "Scaling",
    "Scope",
    "SecretKeyRef",
    "Target",
    "Trip",
]


# In a locator: the reference behind `spec.database.url`, for ways that are in that database.
DATABASE_URL: Final = "databaseUrl"
DATABASE_TLS: Final = "databaseTls"  # the same of `spec.database.tls`


class Mode(StrEnum):
    """Whether the operator acts (`Enforce`) or only says what it would do (`Observe`)."""

    ENFORCE = "Enforce"
    OBSERVE = "Observe"


def _table(queue: str) -> str:
    """CEL: the queue's table. The API server fills no default into what appliers own as a whole."""
    default = PostgresQueue.model_fields["table"].default
    return f"(has({queue}.postgres.table) ? {queue}.postgres.table : '{default}')"


_RULES = rules(
    Rule(
        "(has(self.database) && has(self.database.url)) || !self.queues.exists(q, has(q.postgres))",
        "a queue with postgres needs spec.database: add database.url.secretKeyRef",
        path=".queues",
        reason="FieldValueRequired",
    ),
    Rule(
        "(has(self.database) && has(self.database.url)) || !self.producers.exists(p,"
        " has(p.featureFlag) || has(p.backfillJobs) || has(p.jobTypes))",
        "a producer with featureFlag, backfillJobs or jobTypes needs spec.database: add"
        " database.url.secretKeyRef",
        path=".producers",
        reason="FieldValueRequired",
    ),
    Rule(
        "!self.producers.exists(p, has(p.workload) && p.workload.name == self.target.name"
        " && p.workload.kind == self.target.kind && self.target.apiVersion == 'apps/v1')",
        "a producer's workload is the policy's own target: without its consumers the queue would"
        " only grow; name the workload that feeds the queue",
        path=".producers",
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
        f" || !has(b.postgres) || {_table('a')} != {_table('b')}"
        " || (has(a.postgres.types) && has(b.postgres.types)"
        " && size(a.postgres.types) > 0 && size(b.postgres.types) > 0"
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
        "self.breakers.all(b, b.scope.queues.all(n, self.queues.exists(q, q.name == n)))",
        "breakers[].scope.queues names a queue that is not in spec.queues: add it there or correct"
        " the name",
        path=".breakers",
    ),
)


class Owner(Model):
    """An owner of queues or job types (runbook, *Escalation & contacts*)."""

    name: Name
    """Name of the entry. Once only."""

    contact: Contact
    """How to reach them, for example #team-etl or etl-oncall@example.org. Not a secret."""

    queues: Annotated[tuple[Name, ...], words(MOST_NAMES)] = ()
    """Queues that this owner is responsible for."""

    types: Annotated[tuple[JobType, ...], words(MOST_NAMES)] = ()
    """Job types that this owner is responsible for. With neither queues nor types:
    everything without another owner."""


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

    owners: Annotated[tuple[Owner, ...], named(MOST_NAMES)] = ()
    """Who is responsible: repeated in Events and status when a breaker over their work opens. No
    message is sent. Each name once."""

    @property
    def priority(self) -> Priority:
        """The policy's place among others on its database: that of its most important queue."""
        return min((queue.priority for queue in self.queues), key=lambda priority: priority.place)

    def owners_of(self, breaker: Breaker) -> tuple[str, ...]:
        """Whom a breaker concerns: the owners of its type, else those of its queues; the
        owner of the rest where one of these has no owner."""
        scope = breaker.scope
        if scope.type:
            of_type = [o.contact for o in self.owners if scope.type in o.types]
            if of_type:
                return tuple(dict.fromkeys(of_type))
        queues = set(scope.queues or (queue.name for queue in self.queues))
        contacts = [o.contact for o in self.owners if queues & set(o.queues)]
        if queues - {name for o in self.owners for name in o.queues}:
            contacts += [o.contact for o in self.owners if not o.types and not o.queues]
        return tuple(dict.fromkeys(contacts))

    def locator(self, producer: Producer) -> dict[str, str]:
        """Where a producer is and how to get there, as it is kept with a pause (`paused[].locator`)
        for the day the spec says something else."""
        way, given = producer.way
        found = {way: given.model_dump_json(by_alias=True)}
        if producer.in_database and self.database is not None and self.database.url is not None:
            found[DATABASE_URL] = self.database.url.model_dump_json(by_alias=True)
            if self.database.tls is not None:
                found[DATABASE_TLS] = self.database.tls.model_dump_json(by_alias=True)
        return found

    @property
    def rate_window(self) -> timedelta:
        """The time that rates are averaged over: `scaling.observeFor`, or `interval` where that is
        longer. Two readings that are more than twice a window apart are no rate, and a policy that
        is read every 5 minutes would never have one."""
        return max(self.scaling.observe_for, self.interval)

    def producer(self, name: str) -> Producer | None:
        """The producer of that name, or None when the spec has none (now)."""
        return next((p for p in self.producers if p.name == name), None)
