"""Another client who logs in as the workers do, for example a web application (P1).

What the role holds beyond what the workers' pods can open is another client's for certain. While
pools are half empty it hides in them: the budget would grow just when work comes and fills them.
So it is remembered for as long as the peak of any other client, and then forgotten, or a migration
that ran once would cost replicas for ever. Only a role of their own for the workers is exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from starforge_backlog.api.status import Surplus
from starforge_backlog.decide.budget.formula import PEAK_WINDOW
from starforge_backlog.snapshot import Claim, Connections, PerReplica, Workload

KEPT_FOR = PEAK_WINDOW
# A surplus that wobbles within this part of its peak is still there: no write for each wobble (P7).
STILL_THERE = 0.8


def surplus(
    connections: Connections, each: PerReplica, workload: Workload, claims: Iterable[Claim]
) -> int:
    """Sessions of the workers' role that no worker can have, our own aside."""
    own = connections.own if connections.own_role == each.role else 0
    held = connections.by_role.get(each.role or "", 0) - own
    return max(0, held - _opened(each, workload, claims))


def remember_surplus(
    before: Surplus | None, found: int, *, settled: bool, now: datetime
) -> Surplus | None:
    """The peak, until it was gone for `KEPT_FOR`.

    Raised only when the sample is of the pods that run now (`settled`): sessions of pods that have
    just ended cannot be distinguished from another client's.
    """
    peak = before.connections if before is not None else 0
    if settled and found >= max(1, peak):
        return Surplus(connections=found)
    if before is None or found >= STILL_THERE * peak:
        return before
    if before.gone_since is None:
        return before.model_copy(update={"gone_since": now})
    if now - before.gone_since < KEPT_FOR:
        return before
    return Surplus(connections=found) if settled and found else None


def with_surplus(
    connections: Connections,
    each: PerReplica,
    workload: Workload,
    claims: Iterable[Claim],
    remembered: Surplus | None,
) -> Connections:
    """The connections to plan with: what was seen lately counts as if it were there."""
    if remembered is None or not each.role:
        return connections
    least = _opened(each, workload, claims) + remembered.connections
    present = connections.by_role
    held = max(present.get(each.role, 0), least)
    return replace(connections, by_role={**present, each.role: held})


def _opened(each: PerReplica, workload: Workload, claims: Iterable[Claim]) -> int:
    pods = workload.living + workload.terminating
    # A pooler's pool stays open when pods are gone, and holds no more when they come.
    own = pods * each.connections if each.pooled is None else each.pooled
    others = sum(claim.connections for claim in claims if claim.role == each.role)
    return own + others
