"""Plan and results become the status that people read. Pure; written only when it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from starforge_backlog.api.fitting import fitted
from starforge_backlog.api.policy import Queue, QueueBacklogPolicySpec
from starforge_backlog.api.shown import shortened
from starforge_backlog.api.status import (
    MOST_TYPES_SHOWN,
    BudgetStatus,
    QueueBacklogPolicyStatus,
    QueueStatus,
)
from starforge_backlog.decide.assess.objectives import Miss, Objective, readable
from starforge_backlog.decide.numbers import digits
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.plan import Plan, ScaleTo, SetMaximum
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.decide.results import Failed, NotDone, Result
from starforge_backlog.report.conditions import Trouble, Troubles, conditions
from starforge_backlog.report.draft import FALSE
from starforge_backlog.report.pauses import paused_names
from starforge_backlog.report.rounding import (
    STEADY_COUNT,
    UNKNOWN,
    age_text,
    coarse,
    count_text,
    miss_text,
    percent_text,
    rate_text,
)
from starforge_backlog.report.states import cause_of, earlier, state_of, unexplained
from starforge_backlog.report.summary import summary
from starforge_backlog.snapshot import (
    Confidence,
    Consumers,
    Count,
    Known,
    QueueReading,
    Reading,
    Unknown,
)

T = TypeVar("T")

MORE_TYPES = "…"  # in place of the types that are not shown


def report(
    spec: QueueBacklogPolicySpec,
    before: QueueBacklogPolicyStatus,
    plan: Plan,
    results: tuple[Result, ...],
    generation: int,
    now: datetime,
) -> QueueBacklogPolicyStatus:
    """The status after this pass."""
    status = merge(plan.status, results, now)
    shown = _steady_budget(plan.assessment.budget, before.budget)
    if isinstance(shown, BudgetStatus):
        status = status.model_copy(update={"budget": shown})
        plan = replace(plan, assessment=replace(plan.assessment, budget=shown))
    known = {queue.name: queue for queue in before.queues}
    queues = tuple(
        _queue(
            queue,
            plan.seen.queues[queue.name],
            plan.assessment.missed.get(queue.name, ()),
            known.get(queue.name),
            now,
        )
        for queue in spec.queues
    )
    status = status.model_copy(
        update={
            "observed_generation": generation,
            "queues": queues,
            "waiting": count_text(_total(plan), before.waiting, idle=_is_idle(plan)),
            "oldest": age_text(_oldest(plan), before.oldest),
            "paused_names": paused_names(status),
            "replica_counts": _replicas(plan),
            "scaling": status.scaling.model_copy(
                update={"need": _steady_need(plan, before, status)}
            ),
        }
    )
    steps = (r for r in results if isinstance(r.action, ScaleTo | SetMaximum))
    troubles = Troubles(_trouble(results), _trouble(steps))
    found = conditions(spec, plan, status, troubles, generation, now)
    status = status.model_copy(update={"conditions": found})
    update = {"cause": _cause(plan, status, before), "state": state_of(spec, plan, status)}
    status = status.model_copy(update=update)
    status = status.model_copy(update={"summary": summary(spec, plan, results, status)})
    return fitted(status)


def _queue(
    queue: Queue,
    reading: QueueReading,
    missed: tuple[Miss, ...],
    before: QueueStatus | None,
    now: datetime,
) -> QueueStatus:
    old = before or QueueStatus(name=queue.name)
    failed = UNKNOWN
    if isinstance(reading.outcomes, Known) and reading.outcomes.value.samples:
        failed = percent_text(reading.outcomes.value.failed_percent, old.failed_percent)
    since = old.missed_since or now if missed else _missed_still(queue, reading, old)
    waiting = count_text(reading.waiting, old.waiting, idle=_nothing_arrives(reading))
    oldest = age_text(reading.oldest_due_age, old.oldest)
    numbers = {Objective.WAITING: waiting, Objective.OLDEST: oldest, Objective.FAILED: failed}
    return QueueStatus(
        name=queue.name,
        waiting=waiting,
        oldest=oldest,
        in_progress=count_text(reading.in_progress, old.in_progress),
        failed_percent=failed,
        arrivals_per_second=rate_text(reading.arrivals_per_second, old.arrivals_per_second),
        throughput_per_second=rate_text(reading.throughput_per_second, old.throughput_per_second),
        types=_types(reading, old, now),
        source=reading.how,
        failed_attempts_per_second=_if_reported(
            reading.failed_attempts_per_second,
            lambda rate: rate_text(rate, old.failed_attempts_per_second),
        ),
        workers=_if_reported(reading.consumers, _workers),
        notes=reading.notes,
        missed=tuple(miss_text(m, numbers.get(m.objective) or _coarse(m)) for m in missed),
        missed_since=since,
    )


def _types(reading: QueueReading, old: QueueStatus, now: datetime) -> dict[str, str]:
    """The first of them by name, so that they stay the same, and how many more there are."""
    first = sorted(reading.types.items())[:MOST_TYPES_SHOWN]
    shown = {}
    for name, count in first:
        kind = shortened(name)
        shown[kind] = count_text(Known(count, now), old.types.get(kind, ""))
    more = len(reading.types) - len(first)
    if more:
        shown[MORE_TYPES] = f"and {int(digits(more, 2))} more types"
    return shown


def _if_reported(reading: Reading[T] | None, text: Callable[[Reading[T]], str]) -> str:
    """Empty where this kind of queue does not report it."""
    return "" if reading is None else text(reading)


def _workers(reading: Reading[Consumers]) -> str:
    """Empty as well where the server does not let us ask for connections."""
    if isinstance(reading, Unknown):
        return UNKNOWN
    return "" if reading.value.live is None else str(reading.value.live)


def _missed_still(queue: Queue, reading: QueueReading, old: QueueStatus) -> datetime | None:
    """An unread queue is not a healed queue: the time of a miss goes on while nothing is known."""
    return None if readable(queue, reading) else old.missed_since


def _coarse(miss: Miss) -> str:
    return coarse(timedelta(seconds=miss.value))


def _nothing_arrives(reading: QueueReading) -> bool:
    arrivals = reading.arrivals_per_second
    return isinstance(arrivals, Known) and arrivals.value == 0


def _is_idle(plan: Plan) -> bool:
    return all(_nothing_arrives(reading) for reading in plan.seen.queues.values())


def _cause(plan: Plan, status: QueueBacklogPolicyStatus, before: QueueBacklogPolicyStatus) -> str:
    """The leading cause. While the miss that it led to lasts, the last one that was seen; and never
    nothing while BacklogHealthy is False."""
    findings = plan.assessment.findings
    if findings:
        return findings[0].cause.value
    late = [queue for queue in status.queues if queue.missed_since is not None]
    if not late:
        return ""
    known = cause_of(before.cause)
    if known is not None:
        return earlier(known)
    healthy = status.condition("BacklogHealthy")
    if healthy is None or healthy.status != FALSE:
        return ""
    queue = late[0]
    which = f"{queue.name} " if len(status.queues) > 1 else ""
    arrive, end = queue.arrivals_per_second, queue.throughput_per_second
    return unexplained(f"{which}{arrive}/s in, {end}/s out")


def _total(plan: Plan) -> Reading[Count]:
    total, confidence, at = 0, None, plan.seen.taken_at
    for queue in plan.seen.queues.values():
        if isinstance(queue.waiting, Unknown):
            return queue.waiting
        total += queue.waiting.value.value
        worst = queue.waiting.value.confidence
        confidence = worst if confidence is None or worst is not Confidence.EXACT else confidence
    return Known(Count(total, confidence) if confidence is not None else Count(total), at)


def _oldest(plan: Plan) -> Reading[timedelta]:
    oldest = timedelta(0)
    for queue in plan.seen.queues.values():
        if isinstance(queue.oldest_due_age, Unknown):
            return queue.oldest_due_age
        oldest = max(oldest, queue.oldest_due_age.value)
    return Known(oldest, plan.seen.taken_at)


def _replicas(plan: Plan) -> str:
    """`ready/asked`; the REPLICAS column."""
    if not isinstance(plan.seen.workload, Known):
        return UNKNOWN
    return f"{plan.seen.workload.value.ready}/{plan.seen.workload.value.replicas}"


def _steady_budget(
    budget: BudgetStatus | Unknown | None, old: BudgetStatus | None
) -> BudgetStatus | Unknown | None:
    """The sum as it was last shown, while it leads to the same number and other clients are a
    little fewer than then. Their peak is of one server: every policy on it would write whenever
    one connection is closed (P7). A sum that grew is shown at once, so that what a restart
    remembers of other clients is never too little (P6)."""
    if not isinstance(budget, BudgetStatus) or old is None:
        return budget
    fewer = old.others - budget.others
    if fewer < 0 or fewer > STEADY_COUNT * old.others:
        return budget
    shared = {"others", "worker_cap", "pressure_cap", "slots", "formula"}
    same = budget.model_dump(exclude=shared) == old.model_dump(exclude=shared)
    return old if same else budget


def _steady_need(
    plan: Plan, before: QueueBacklogPolicyStatus, status: QueueBacklogPolicyStatus
) -> int | None:
    """Need wobbles by one around a boundary; while nothing is to be done, the last one stands."""
    need, old = status.scaling.need, before.scaling.need
    if need is None or old is None or abs(need - old) > 1:
        return need
    return old if plan.assessment.scaling_reason is ScalingReason.STEADY else need


def _trouble(results: Iterable[Result]) -> Trouble | None:
    """The first action that failed for a reason that has to be fixed."""
    for result in results:
        match result.got:
            case Failed(reason, message) if reason is not NotDone.CONFLICT:
                return reason, message
            case _:
                continue
    return None
