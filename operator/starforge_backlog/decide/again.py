"""When a policy is due again before its interval is over. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from starforge_backlog.api.policy import QueueBacklogPolicySpec
from starforge_backlog.api.status import QueueBacklogPolicyStatus
from starforge_backlog.decide.breakers.next_trip import next_trip
from starforge_backlog.decide.plan import Plan
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.snapshot import Unknown

# Of an interval. A policy whose pass came before those of the others on its server has no budget
# until they had theirs, which takes an interval after a start; with the pass after the next one a
# server in trouble would be left alone for two.
WAITING_SHARE: Final = 0.5
# A pass that a change started right after a step shares a sample of before that step, which says
# nothing. Samples are shared for a second.
NEXT_SAMPLE_IN: Final = timedelta(seconds=1)


def due_again(
    spec: QueueBacklogPolicySpec, plan: Plan, status: QueueBacklogPolicyStatus, now: datetime
) -> datetime | None:
    """The moment of a pass that cannot wait for the interval; None: there is none.

    A breaker would open then, if readings stay as they are. Or there is no budget yet, because
    others of the server had no pass since the start; or the sample is of before our last write, and
    an owner who raised a maximum meanwhile would have it for a whole interval (P1).
    """
    moments = [next_trip(spec, status, now)]
    if plan.seen.awaited and isinstance(plan.assessment.budget, Unknown):
        moments.append(now + spec.interval * WAITING_SHARE)
    facts = plan.assessment
    if facts.sample_is_old and facts.scaling_reason is ScalingReason.BUDGET_NOT_KNOWN:
        moments.append(now + NEXT_SAMPLE_IN)
    return min((moment for moment in moments if moment is not None), default=None)
