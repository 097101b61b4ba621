"""How the results of a plan change what is remembered. Pure.

What a pause or a resume changes is in `pauses/outcome.py`, what a write of a guarded maximum
changes in `guard/marks.py`.
"""

from __future__ import annotations

from datetime import datetime

from starforge_backlog.api.status import QueueBacklogPolicyStatus, ScalingStatus
from starforge_backlog.decide.guard.marks import after_write
from starforge_backlog.decide.pauses.outcome import RELEASING, after_effect
from starforge_backlog.decide.plan import Pause, Resume, ScaleTo, SetMaximum
from starforge_backlog.decide.results import MAYBE, Failed, Result, Resumed, Written


def merge(
    status: QueueBacklogPolicyStatus, results: tuple[Result, ...], now: datetime
) -> QueueBacklogPolicyStatus:
    """The status after acting: what was intended became held, refused or gone."""
    for result in results:
        match result:
            case Result(Pause(producer), got):
                status = _with_pauses(status, producer, result)
            case Result(Resume(held), got):
                status = _with_pauses(status, held.producer, result)
                if isinstance(got, Resumed) and got.outcome in RELEASING:
                    status = status.model_copy(update={"released_at": now})
            case _:
                scaling = _scaling(status.scaling, result)
                status = status.model_copy(update={"scaling": scaling})
    return status


def _with_pauses(
    status: QueueBacklogPolicyStatus, producer: str, result: Result
) -> QueueBacklogPolicyStatus:
    paused = after_effect(status.paused, producer, result.got)
    return status.model_copy(update={"paused": paused})


def _scaling(before: ScalingStatus, result: Result) -> ScalingStatus:
    match result:
        case Result(ScaleTo(), Written(replicas)):
            return before.model_copy(update={"applied_replicas": replicas, "replicas": replicas})
        case Result(ScaleTo(), Failed(reason)) if reason not in MAYBE:
            # Refused for good: asked again after a window, not with every pass.
            return before.model_copy(update={"last_step": None})
        case Result(SetMaximum() as step, got):
            return before.model_copy(update={"guard": after_write(step, got)})
        case _:
            return before  # a scale that may have happened: the next pass sees whether it did
