"""What limits a guarded maximum, as a number and in words (P1)."""

from __future__ import annotations

from starforge_backlog.api.status import BudgetStatus
from starforge_backlog.decide.budget.formula import sustainable
from starforge_backlog.decide.budget.shares import Share
from starforge_backlog.decide.situation import Situation
from starforge_backlog.snapshot import Autoscaler, Unknown, Why


def is_full(at: Situation) -> bool:
    return isinstance(at.budget, Unknown) and at.budget.why is Why.DATABASE_FULL


def within(at: Situation, found: Autoscaler) -> bool:
    return serves(at, found.maximum)


def serves(at: Situation, replicas: int) -> bool:
    """Pods that are about to end do not count here: they are gone before a lower maximum helps."""
    if isinstance(at.budget, Unknown):
        return False
    most = lasting(at)
    return most is None or replicas <= most


def lasting(at: Situation) -> int | None:
    """The most replicas that may stay. None: nothing limits them."""
    most = at.spec.target.max_replicas
    if isinstance(at.budget, BudgetStatus):
        lasting = sustainable(at.budget, at.workload.max_surge)
        most = lasting if most is None else min(most, lasting)
    return most


def ceiling_of(at: Situation) -> int | None:
    """The most replicas that may be allowed now, pods that are about to end counted. None: no
    database and no maxReplicas, so nothing limits them."""
    most = at.spec.target.max_replicas
    if isinstance(at.budget, BudgetStatus):
        most = at.budget.replicas if most is None else min(most, at.budget.replicas)
        if at.share is not None:
            most = min(most, at.share.most)
    return most


def limit_text(at: Situation) -> str:
    """What limits it, in words."""
    if is_full(at):
        return "the server has no free connection, not even for the operator's login"
    most = at.spec.target.max_replicas
    ceiling, share = ceiling_of(at), at.share
    if share is not None and share.lacking:
        return waited_for(share)
    if share is not None and share.most == ceiling and share.most != most:
        return f"the share is {share.most}"
    if isinstance(at.budget, BudgetStatus) and (most is None or at.budget.replicas <= most):
        return f"the budget is {at.budget.replicas}"
    return f"maxReplicas is {most}"


def waited_for(share: Share) -> str:
    waiting = ", ".join(share.waiting)
    return f"the share is {share.entitled}, and {waiting} waits for connections of its own"


def room_text(at: Situation) -> str:
    if isinstance(at.budget, BudgetStatus):
        return f", within the budget of {at.budget.replicas}"
    return ""
