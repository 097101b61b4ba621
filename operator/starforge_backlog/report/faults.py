"""What has to be fixed: broken readings, a deletion that waits, a spec not
understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import PolicyState, QueueBacklogPolicyStatus
from starforge_backlog.decide.plan import Plan
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.report.draft import FALSE, MESSAGE_LIMIT, UNKNOWN, Draft, dated
from starforge_backlog.report.pauses import paused_names
from starforge_backlog.report.secrets import with_secrets
from starforge_backlog.snapshot import Reading, Source, SourceKind, Unknown, Why

# These say that there is nothing to know (yet), not that something is broken.
HARMLESS = frozenset(
    {Why.NOT_YET, Why.NO_SAMPLES, Why.NOT_IN_TABLE, Why.NO_SOURCE, Why.NOT_CONFIGURED}
)
# The reason of every condition once the operator has gone.
NOT_FOLLOWED = ScalingReason.NOT_FOLLOWED
# An expression that Prometheus refuses, or that means several things, stays so until it is fixed.
_REFUSED = frozenset({Why.QUERY_ERROR, Why.SEVERAL_SERIES})


def broken_readings(spec: QueueBacklogPolicySpec, plan: Plan) -> tuple[tuple[Source, Unknown], ...]:
    """Readings that need something to be fixed, with what they are of."""
    seen = plan.seen
    target = Source(SourceKind.TARGET, spec.target.name)
    database = Source(SourceKind.DATABASE)
    readings: list[tuple[Source, Reading[object]]] = [
        (target, seen.workload),
    ]
    if spec.database is not None:
        readings.append((target, seen.per_replica))
    if seen.database is not None:
        readings.append((database, seen.database.connections))
        readings.append((database, seen.database.health))
        if seen.database.pooler is not None:
            readings.append((Source(SourceKind.PGBOUNCER), seen.database.pooler))
    autoscaler = seen.autoscaler
    if autoscaler is not None and not (
        # Not needed: other writers are noticed by what they write. The condition Scaling says it.
        isinstance(autoscaler, Unknown)
        and autoscaler.why is Why.NO_PERMISSION
        and spec.target.guard is None
    ):
        readings.append((Source(SourceKind.AUTOSCALER), autoscaler))
    for name, queue in seen.queues.items():
        of = Source(SourceKind.QUEUE, name)
        readings += [(of, queue.waiting), (of, queue.oldest_due_age)]
        flows = (queue.arrivals_per_second, queue.throughput_per_second, queue.outcomes)
        readings += [(of, flow) for flow in flows if _is_refused(flow)]
    readings += [
        (Source(SourceKind.PRODUCER, name), reading) for name, reading in seen.producers.items()
    ]
    budget = plan.assessment.budget
    if isinstance(budget, Unknown) and not any(reading == budget for _, reading in readings):
        # Readable, and yet no budget: a standby, say.
        readings.append((database, budget))
    return tuple(
        (what, with_secrets(spec, what, reading))
        for what, reading in readings
        if isinstance(reading, Unknown) and reading.why not in HARMLESS
    )


def _is_refused(reading: Reading[object]) -> bool:
    """Whether the policy itself is to blame for a missing rate. Others come with time, or not at
    all, and are reported by what needs them."""
    return isinstance(reading, Unknown) and reading.why in _REFUSED


def waiting_for_release(
    status: QueueBacklogPolicyStatus, message: str, generation: int, now: datetime
) -> QueueBacklogPolicyStatus:
    """Why a deletion waits: the producer of ours that cannot be resumed."""
    draft = Draft("Ready", FALSE, "ReleaseFailed", message[:MESSAGE_LIMIT])
    return _not_ready(status, draft, message, generation, now)


def not_followed(
    status: QueueBacklogPolicyStatus,
    done: Sequence[str],
    generation: int,
    now: datetime,
) -> QueueBacklogPolicyStatus:
    """The operator is gone and the policy stays. Nothing that was read stands any more; `done` says
    as well what is left to do by a person who abandoned a pause."""
    what = "; ".join(done)
    since = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    message = (
        "no operator follows this policy: it was released at"
        f" {since}{f' ({what})' if what else ''}; install the operator again to continue"
    )[:MESSAGE_LIMIT]
    ready = dated(Draft("Ready", FALSE, NOT_FOLLOWED, message), status, generation, now)
    others = (
        dated(Draft(c.type, UNKNOWN, NOT_FOLLOWED, "not followed"), status, generation, now)
        for c in status.conditions
        if c.type != ready.type
    )
    status = status.model_copy(
        update={
            "conditions": (ready, *others),
            "summary": message,
            "state": PolicyState.NOT_READY,
            "cause": "",
            # An operator that comes back begins with what it sees then, not with a storm of before.
            "breakers": (),
        }
    )
    return status.model_copy(update={"paused_names": paused_names(status)})


def not_understood(
    status: QueueBacklogPolicyStatus, why: str, generation: int, now: datetime
) -> QueueBacklogPolicyStatus:
    """A spec that this version cannot read: nothing is decided until it is fixed."""
    message = f"nothing is done until the spec is fixed: {why}"[:MESSAGE_LIMIT]
    draft = Draft("Ready", FALSE, "SpecNotUnderstood", message)
    return _not_ready(status, draft, message, generation, now)


def pass_broken(
    status: QueueBacklogPolicyStatus, bug: Unknown, generation: int
) -> QueueBacklogPolicyStatus:
    """A pass that a bug of ours ended: nothing is decided until it goes away."""
    message = f"nothing is done, because {bug.message}"[:MESSAGE_LIMIT]
    draft = Draft("Ready", FALSE, "OperatorBug", message)
    return _not_ready(status, draft, message, generation, bug.at)


def _not_ready(
    status: QueueBacklogPolicyStatus, draft: Draft, summary: str, generation: int, now: datetime
) -> QueueBacklogPolicyStatus:
    """The other conditions stay as they were: nothing was read."""
    condition = dated(draft, status, generation, now)
    others = tuple(c for c in status.conditions if c.type != draft.type)
    update = {
        "conditions": (condition, *others),
        "summary": summary,
        "state": PolicyState.NOT_READY,
    }
    return status.model_copy(update=update)
