"""Who is entitled to how many connections of a server that several policies share. Pure.

In this order:
1. what cannot be changed: policies that are suspended, unread or another client's keep what they
   hold, and neither grow nor shrink (P2);
2. every policy's `minReplicas`;
3. by priority: Critical, then Normal, then Background;
4. within a priority nobody gets more than it needs, and those who need more get equally much
   (max-min fairness, in connections: they are what is scarce, and a minimum is a floor of it, not
   an extra). Whole replicas are given, always to whoever has least after it; between equals the
   first name is first, so that the same inputs have the same result.

The measured budget (`formula.py`) stays the bound that keeps P1: it counts what the others
hold. The share is the fair bound below it, and what others may ask back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from starforge_backlog.api.target import MOST_REPLICAS
from starforge_backlog.decide.budget.formula import largest, surge
from starforge_backlog.decide.budget.pgbouncer import held as behind_pooler
from starforge_backlog.snapshot import Claim

# Replicas behind a pool that is theirs as a whole: the database bounds them no further.
MANY = MOST_REPLICAS

Caps = Mapping[str, int]  # connections that a role with a CONNECTION LIMIT leaves for workers


@dataclass(frozen=True, slots=True)
class Share:
    """What one policy is entitled to, seen with its own limits and headroom."""

    entitled: int  # replicas, by its need: what it may keep when there is too little for all
    most: int  # replicas, whatever it needs
    # Connections that others have a right to, wait for, and cannot take from what is free.
    lacking: int
    waiting: tuple[str, ...]  # these others
    others: Mapping[str, int]  # connections that each of them is entitled to


def share_of(mine: Claim, claims: Iterable[Claim], cap: int, roles: Caps) -> Share:
    """The share of `mine` among all `claims`, of `cap` connections for all of them together.

    With an unknown desired value it may keep what it holds, and is entitled to no more.
    """
    claims = tuple(claims)
    held = mine.connections + sum(claim.connections for claim in claims)
    if held > cap:
        # Room comes from those who see that there is too little. One with a smaller headroom does
        # not: it keeps what it has, and we must not wait for it.
        claims = tuple(c if c.cap is not None and held > c.cap else _fixed(c) for c in claims)
    given = shares((mine, *claims), cap, roles)
    most = given[mine.policy]
    # Who does not get what it wants would not get more by wanting more.
    unsaid = any(claim.asked is not None and claim.wanted is None for claim in claims)
    if mine.wanted is not None and (unsaid or most >= mine.wanted):
        greedy = replace(mine, wanted=max(cap, mine.minimum))
        most = shares((greedy, *map(_asking, claims)), cap, roles)[mine.policy]
    waiting = [c for c in claims if c.wanted is not None and given[c.policy] > c.connections]
    return Share(
        entitled=_replicas(mine, given[mine.policy]),
        most=_replicas(mine, most),
        lacking=_lacking(mine, claims, given, waiting, cap, roles),
        waiting=tuple(sorted(claim.policy for claim in waiting)),
        others={claim.policy: given[claim.policy] for claim in claims},
    )


def shares(claims: Iterable[Claim], cap: int, roles: Caps) -> dict[str, int]:
    """Connections that each policy is entitled to."""
    claims = sorted(claims, key=lambda claim: claim.policy)
    # Neither depends on what there is: whoever cannot move has it, and a minimum is never undercut.
    given = {c.policy: c.connections if c.wanted is None else c.minimum for c in claims}
    for priority in sorted({claim.priority for claim in claims if claim.wanted is not None}):
        group = [c for c in claims if c.priority == priority and c.wanted is not None]
        _fill(group, given, _Room(claims, given, cap, roles))
    return given


class _Room:
    """What is not given yet: of all connections, and of those that a role may have."""

    def __init__(
        self, claims: Iterable[Claim], given: Mapping[str, int], cap: int, roles: Caps
    ) -> None:
        self._total = cap - sum(given.values())
        self._roles = dict(roles)
        for claim in claims:
            if claim.role is not None and claim.role in self._roles:
                self._roles[claim.role] -= given[claim.policy]

    def fits(self, more: Iterable[tuple[str | None, int]]) -> bool:
        """Whether all of that, by role, can be given at once."""
        total, by_role = 0, dict.fromkeys(self._roles, 0)
        for role, connections in more:
            total += connections
            if role is not None and role in by_role and connections:
                by_role[role] += connections
                if by_role[role] > self._roles[role]:
                    return False
        return total <= self._total or not total

    def left(self, more: int) -> int | None:
        """What is left with so much more given; None when less than nothing is, or when roles have
        a limit, so that it does not depend on the sum alone."""
        left = self._total - more
        return None if self._roles or left < 0 else left

    def take(self, role: str | None, connections: int) -> None:
        """Give it."""
        self._total -= connections
        if role is not None and role in self._roles:
            self._roles[role] -= connections


def _fill(group: list[Claim], given: dict[str, int], room: _Room) -> None:
    """Everybody up to the highest level that all can have, then one replica after another."""
    if _serve_all_but_one(group, given, room):
        return

    def at(level: int) -> dict[str, int]:
        return {c.policy: max(given[c.policy], _up_to(c, level)) for c in group}

    def fits(level: int) -> bool:
        reached = at(level)
        return room.fits((c.role, reached[c.policy] - given[c.policy]) for c in group)

    low, high = 0, max((claim.wanted or 0 for claim in group), default=0)
    if fits(high):
        low = high
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    for claim in group:
        reached = max(given[claim.policy], _up_to(claim, low))
        room.take(claim.role, reached - given[claim.policy])
        given[claim.policy] = reached

    queue = [(after, c.policy, c) for c in group if (after := _next(c, given)) is not None]
    heapq.heapify(queue)
    while queue:
        after, policy, claim = heapq.heappop(queue)
        if not room.fits([(claim.role, after - given[policy])]):
            continue  # there will not be more room later on
        room.take(claim.role, after - given[policy])
        given[policy] = after
        further = _next(claim, given)
        if further is not None:
            heapq.heappush(queue, (further, policy, claim))


def _serve_all_but_one(group: list[Claim], given: dict[str, int], room: _Room) -> bool:
    """The ordinary case, without a search: there is enough for all but the one that wants most, and
    for that one no less than for any other."""
    most = max(group, key=lambda claim: claim.wanted or 0)
    wants = {c.policy: max(given[c.policy], c.wanted or 0) for c in group if c is not most}
    left = room.left(sum(wants.values()) - sum(given[policy] for policy in wants))
    if left is None:
        return False
    top = left + given[most.policy]
    if top < max(wants.values(), default=0):
        return False
    wants[most.policy] = max(given[most.policy], _up_to(most, top))
    for claim in group:
        room.take(claim.role, wants[claim.policy] - given[claim.policy])
    given.update(wants)
    return True


def _lacking(
    mine: Claim,
    claims: tuple[Claim, ...],
    given: Mapping[str, int],
    waiting: list[Claim],
    cap: int,
    roles: Caps,
) -> int:
    """What others wait for and what we could give: of all, or of the role that we share."""
    lacks = {claim.policy: given[claim.policy] - claim.connections for claim in waiting}
    free = cap - mine.connections - sum(claim.connections for claim in claims)
    lacking = sum(lacks.values()) - max(0, free)
    if mine.role is not None and mine.role in roles:
        alike = [claim for claim in claims if claim.role == mine.role]
        of_role = roles[mine.role] - mine.connections - sum(c.connections for c in alike)
        wanted = sum(lacks.get(claim.policy, 0) for claim in alike)
        lacking = max(lacking, wanted - max(0, of_role))
    return max(0, lacking)


def _fixed(claim: Claim) -> Claim:
    return replace(claim, wanted=None, asked=None)


def _asking(claim: Claim) -> Claim:
    """What it asked for is kept free while its desired value is unknown for a moment."""
    if claim.wanted is not None or claim.asked is None or claim.asked <= claim.connections:
        return claim
    return replace(claim, wanted=claim.asked, minimum=claim.connections)


def _next(claim: Claim, given: Mapping[str, int]) -> int | None:
    """Connections with one replica more; None when it wants none."""
    now = given[claim.policy]
    after = cost(claim, _replicas(claim, now) + 1)
    return after if now < after <= (claim.wanted or 0) else None


def _up_to(claim: Claim, level: int) -> int:
    """The most connections not above `level` that whole replicas make, as far as wanted."""
    return cost(claim, _replicas(claim, min(level, claim.wanted or 0)))


def _replicas(claim: Claim, connections: int) -> int:
    if claim.pooled is not None and connections >= claim.pooled:
        return MANY
    return largest(connections // max(1, claim.per_replica), claim.max_surge)


def cost(claim: Claim, replicas: int) -> int:
    """Connections of that many replicas, a rollout's surge included. Pods that are about to end are
    no part of a share: they go by themselves."""
    pods = replicas + surge(replicas, claim.max_surge)
    return behind_pooler(pods * claim.per_replica, claim.pooled)
