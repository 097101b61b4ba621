"""Remembered moments after a clock that went back: none may lie in the future.

A process on another node, or a clock that was fixed, can find moments in status that have not
come yet. Left alone they would hold steps and releases for as long as the clock was wrong.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.status import (
    BreakerStatus,
    ExternalWriter,
    PauseStatus,
    QueueBacklogPolicyStatus,
    RuleStatus,
    ScalingStatus,
)

# A past that is off by less than this is a difference between two machines' clocks: nothing waits
# noticeably longer for it, and fixing it would write status at each restart elsewhere.
SKEW = timedelta(seconds=5)


def not_from_the_future(
    status: QueueBacklogPolicyStatus,
    now: datetime,
    *,
    longest_window: timedelta,
    longest_hold_down: timedelta,
) -> QueueBacklogPolicyStatus:
    """The same status with moments of the past at `now` at the latest, and the two moments that
    lie ahead (next step, hold-down) no further ahead than they could have been set from `now`."""
    if not _ahead(status, now, longest_window, longest_hold_down):
        return status
    scaling = status.scaling
    step = scaling.last_step
    if step is not None:
        step = step.model_copy(
            update={
                "at": min(step.at, now),
                "ready_at": _past(step.ready_at, now),
                "verdict_at": _past(step.verdict_at, now),
            }
        )
    scaling = scaling.model_copy(
        update={
            "last_step": step,
            "external": _writer(scaling.external, now),
            "last_external": _writer(scaling.last_external, now),
            "surplus": scaling.surplus
            and scaling.surplus.model_copy(
                update={"gone_since": _past(scaling.surplus.gone_since, now)}
            ),
            "old_pool": scaling.old_pool
            and scaling.old_pool.model_copy(update={"since": min(scaling.old_pool.since, now)}),
            "idle_since": _past(scaling.idle_since, now),
            "quiet_since": _past(scaling.quiet_since, now),
            "asleep_since": _past(scaling.asleep_since, now),
            "next_step_not_before": _past(scaling.next_step_not_before, now + longest_window),
            "hold_down_until": _past(scaling.hold_down_until, now + longest_hold_down),
        }
    )
    return status.model_copy(
        update={
            "scaling": scaling,
            "breakers": tuple(_breaker(breaker, now) for breaker in status.breakers),
            "paused": tuple(_pause(entry, now) for entry in status.paused),
            "released_at": _past(status.released_at, now),
        }
    )


def _ahead(
    status: QueueBacklogPolicyStatus,
    now: datetime,
    longest_window: timedelta,
    longest_hold_down: timedelta,
) -> bool:
    """Whether any moment lies further ahead than it may."""
    moments = [status.released_at, *_scaling_moments(status.scaling)]
    for breaker in status.breakers:
        moments += [breaker.since, breaker.seen_at]
        for rule in breaker.rules:
            moments += [rule.exceeded_since, rule.unknown_since, rule.recovered_since]
    moments += [entry.since for entry in status.paused]
    window, held = status.scaling.next_step_not_before, status.scaling.hold_down_until
    return (
        any(moment is not None and moment > now + SKEW for moment in moments)
        or (window is not None and window > now + longest_window + SKEW)
        or (held is not None and held > now + longest_hold_down + SKEW)
    )


def _scaling_moments(scaling: ScalingStatus) -> list[datetime | None]:
    step = scaling.last_step
    return [
        scaling.idle_since,
        scaling.quiet_since,
        scaling.asleep_since,
        scaling.surplus.gone_since if scaling.surplus is not None else None,
        scaling.old_pool.since if scaling.old_pool is not None else None,
        *(w.since for w in (scaling.external, scaling.last_external) if w is not None),
        *((step.at, step.ready_at, step.verdict_at) if step is not None else ()),
    ]


def _breaker(breaker: BreakerStatus, now: datetime) -> BreakerStatus:
    rules = tuple(
        RuleStatus(
            signal=rule.signal,
            exceeded_since=_past(rule.exceeded_since, now),
            unknown_since=_past(rule.unknown_since, now),
            recovered_since=_past(rule.recovered_since, now),
        )
        for rule in breaker.rules
    )
    return breaker.model_copy(
        update={
            "since": _past(breaker.since, now),
            "seen_at": _past(breaker.seen_at, now),
            "rules": rules,
        }
    )


def _writer(writer: ExternalWriter | None, now: datetime) -> ExternalWriter | None:
    return writer and writer.model_copy(update={"since": min(writer.since, now)})


def _pause(entry: PauseStatus, now: datetime) -> PauseStatus:
    return entry.model_copy(update={"since": min(entry.since, now)})


def _past(moment: datetime | None, latest: datetime) -> datetime | None:
    return None if moment is None else min(moment, latest)
