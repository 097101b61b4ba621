"""Which Secret, and which key of it, a fault can be fixed in. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from pydantic import BaseModel

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.secret import SecretKeyRef
from starforge_backlog.snapshot import Source, SourceKind, Unknown, Why

# What another value of a Secret fixes. The messages of these faults say "the Secret", because those
# who find them know no policy.
_BY_SECRET: Final = frozenset(
    {
        Why.WRONG_PASSWORD,
        Why.SECRET_MALFORMED,
        Why.HOST_UNKNOWN,
        Why.DATABASE_NOT_FOUND,
        Why.TLS_FAILED,
    }
)


def with_secrets(spec: QueueBacklogPolicySpec, what: Source, fault: Unknown) -> Unknown:
    """The fault of `what` (as in `broken_readings`) with the names of the Secrets that it may lie
    in; as it is where it names them itself, or they are not the cause."""
    if fault.why not in _BY_SECRET or fault.names_secret:
        return fault
    named = dict.fromkeys(
        f"Secret {reference.name}, key {reference.key}"
        for part in _parts(spec, what)
        for reference in _references(part)
    )
    if not named:
        return fault
    return replace(fault, message=f"{fault.message} ({' or '.join(named)})")


def _parts(spec: QueueBacklogPolicySpec, what: Source) -> Iterator[BaseModel | None]:
    """The parts of the spec that lead to the source."""
    database = spec.database
    url = database.url if database is not None else None
    tls = database.tls if database is not None else None
    match what.kind:
        case SourceKind.DATABASE if database is not None:
            yield from (url, tls) if url is not None else (database.prometheus,)
        case SourceKind.PGBOUNCER if database is not None:
            yield database.pgbouncer
        case SourceKind.QUEUE:
            for queue in spec.queues:
                if queue.name == what.name:
                    yield from (
                        (url, tls)
                        if queue.postgres is not None
                        else (queue.bullmq, queue.prometheus)
                    )
        case SourceKind.PRODUCER:
            producer = spec.producer(what.name)
            if producer is not None:
                in_database = {"featureFlag", "backfillJobs", "jobTypes"}
                yield from (url, tls) if producer.way[0] in in_database else (producer.way[1],)
        case _:
            pass  # the target and its autoscalers: no Secret leads there


def _references(part: object) -> Iterator[SecretKeyRef]:
    if isinstance(part, SecretKeyRef):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from _references(getattr(part, name))
