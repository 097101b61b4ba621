"""The share in status, and who holds the rest: what an admin reads at 3 a.m."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starforge_backlog.api.policy import Scaling
from starforge_backlog.api.scaling_status import MOST_HOLDERS
from starforge_backlog.api.status import BudgetStatus, Holder
from starforge_backlog.decide.budget.shares import Share
from starforge_backlog.snapshot import Claim

# An entitlement of others that moved by less is shown as it was: their needs wobble (P7).
STEADY: Final = 0.1


def shown_share(
    budget: BudgetStatus,
    before: BudgetStatus | None,
    share: Share,
    wanted: int | None,
    claims: Iterable[Claim],
    scaling: Scaling,
) -> BudgetStatus:
    """The budget with share and holders. Neither is a write while it hardly moves: a share by less
    than a step, unless it is what holds this policy back."""
    short = wanted is not None and wanted > min(share.most, budget.replicas)
    most = share.most
    old = before.share if before is not None else None
    if not short and old is not None and abs(most - old) < max(scaling.step_up, STEADY * old):
        most = old
    found = _holders(share, claims) if short else ()
    if before is not None and _hardly_moved(before.held_by, found):
        found = before.held_by
    return budget.model_copy(update={"share": most, "held_by": found})


def holders_text(holders: Iterable[Holder]) -> str:
    """`ns/a holds 12 connections (share 8), ns/b holds 4 (share 4)`."""
    texts: list[str] = []
    for holder in holders:
        unit = " connections" if not texts else ""
        texts.append(f"{holder.policy} holds {holder.connections}{unit} (share {holder.share})")
    return ", ".join(texts)


def _holders(share: Share, claims: Iterable[Claim]) -> tuple[Holder, ...]:
    found = [
        Holder(
            policy=claim.policy,
            connections=claim.connections,
            share=share.others.get(claim.policy, claim.connections),
        )
        for claim in claims
        if claim.connections
    ]
    found.sort(key=lambda holder: (-holder.connections, holder.policy))
    return tuple(found[:MOST_HOLDERS])


def _hardly_moved(before: tuple[Holder, ...], found: tuple[Holder, ...]) -> bool:
    """The same holders with as many connections, entitled to nearly as many."""
    old = {holder.policy: holder for holder in before}
    return len(old) == len(found) and all(
        (was := old.get(holder.policy)) is not None
        and was.connections == holder.connections
        and abs(was.share - holder.share) <= STEADY * was.share
        for holder in found
    )
