"""Shares: minimums first, then priority, then need, evenly among those who need more."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starforge_backlog.decide.budget.shares import cost, share_of, shares
from starforge_backlog.snapshot import Claim

CRITICAL, NORMAL, BACKGROUND = range(3)
ALL_WANT = 1000


def claim(
    policy: str,
    wanted: int | None = ALL_WANT,
    *,
    minimum: int = 1,
    holds: int = 1,
    priority: int = NORMAL,
    each: int = 1,
    surge: str = "0",
    role: str | None = None,
    cap: int | None = None,
    pooled: int | None = None,
) -> Claim:
    """A claim in replicas of `each` connections."""
    whole = Claim(
        policy,
        role,
        0,
        priority=priority,
        per_replica=each,
        max_surge=surge,
        cap=cap,
        pooled=pooled,
    )
    return replace(
        whole,
        connections=cost(whole, holds),
        minimum=cost(whole, minimum),
        wanted=None if wanted is None else cost(whole, wanted),
    )


def given_to(cap: int, *claims: Claim, roles: Mapping[str, int] | None = None) -> dict[str, int]:
    return shares(claims, cap, roles or {})


def test_nobody_gets_more_than_it_needs() -> None:
    assert given_to(20, claim("a", 3), claim("b", 5)) == {"a": 3, "b": 5}


def test_the_rest_is_split_evenly_among_those_who_need_more() -> None:
    assert given_to(20, claim("a", 2), claim("b"), claim("c")) == {"a": 2, "b": 9, "c": 9}


def test_what_cannot_be_split_goes_to_the_first_name() -> None:
    assert given_to(11, claim("b"), claim("a")) == {"a": 6, "b": 5}


def test_a_minimum_comes_before_anybodys_priority_and_is_no_extra() -> None:
    low = claim("low", minimum=6, priority=BACKGROUND)
    assert given_to(10, low, claim("high", priority=CRITICAL)) == {"low": 6, "high": 4}
    assert given_to(20, claim("a", minimum=6), claim("b")) == {"a": 10, "b": 10}


def test_the_important_are_served_first() -> None:
    found = given_to(
        20,
        claim("background", priority=BACKGROUND),
        claim("critical", 9, priority=CRITICAL),
        claim("normal", 30),
    )
    assert found == {"critical": 9, "normal": 10, "background": 1}


def test_what_cannot_be_moved_is_not_shared() -> None:
    stuck = claim("stuck", None, holds=7, priority=BACKGROUND)
    assert given_to(20, stuck, claim("a"), claim("b")) == {"stuck": 7, "a": 7, "b": 6}


def test_whole_replicas_of_different_sizes() -> None:
    # Even in connections: one of ten and ten of one, and what is left fits nobody but the small.
    assert given_to(25, claim("big", each=10), claim("small")) == {"big": 10, "small": 15}
    assert given_to(19, claim("a", each=10), claim("b", each=10)) == {"a": 10, "b": 10}


def test_a_rollouts_surge_belongs_to_the_replicas() -> None:
    found = given_to(12, claim("a", surge="100%"), claim("b", surge="0"))
    assert found == {"a": 6, "b": 6}
    assert given_to(7, claim("a", surge="100%"), claim("b", minimum=0, wanted=0))["a"] == 6


def test_minimums_that_do_not_fit_are_minimums_all_the_same() -> None:
    assert given_to(5, claim("a", minimum=4), claim("b", minimum=4)) == {"a": 4, "b": 4}


def test_a_limit_of_a_role_is_shared_by_those_who_log_in_as_it() -> None:
    found = given_to(
        30, claim("a", role="etl"), claim("b", role="etl"), claim("c"), roles={"etl": 8}
    )
    assert found == {"a": 4, "b": 4, "c": 22}


def test_a_pool_is_a_poolers_as_a_whole() -> None:
    found = given_to(30, claim("pooled", 500, each=10, pooled=12), claim("b"))
    assert found == {"pooled": 12, "b": 18}
    behind = share_of(claim("pooled", 500, each=10, pooled=12), (claim("b"),), 30, {})
    assert behind.most > 500


# --- the share of one policy ----------------------------------------------------------------------


def test_who_needs_little_may_have_what_the_others_do_not_need() -> None:
    found = share_of(claim("a", 2, holds=2), (claim("b", 5, holds=5),), 20, {})
    assert (found.entitled, found.most, found.lacking) == (2, 15, 0)


def test_who_wants_more_than_its_share_sees_what_it_is() -> None:
    others = (claim("b", 12, holds=12),)
    found = share_of(claim("a", 12, holds=8), others, 20, {})
    assert (found.entitled, found.most, dict(found.others)) == (10, 10, {"b": 10})


def test_an_unknown_desired_value_keeps_what_it_holds() -> None:
    found = share_of(claim("a", None, holds=7), (claim("b"),), 20, {})
    assert (found.entitled, found.most) == (7, 7)


@pytest.mark.parametrize(
    ("holds", "waits", "lacking"),
    [
        (16, claim("b", 10, holds=4), 6),
        # What is free is theirs first.
        (12, claim("b", 10, holds=4), 2),
        (10, claim("b", 10, holds=4), 0),
        # It holds what it needs, or what it has a right to.
        (16, claim("b", 4, holds=4), 0),
        (10, claim("b", 30, holds=10), 0),
        # What it needs is unknown (P2).
        (16, claim("b", None, holds=4), 0),
    ],
)
def test_what_is_asked_back(holds: int, waits: Claim, lacking: int) -> None:
    found = share_of(claim("a", holds, holds=holds), (waits,), 20, {})
    assert found.lacking == lacking


def test_what_was_asked_a_moment_ago_is_kept_free_and_not_asked_back() -> None:
    """A reading that is missing once must not be a step up, and a step down behind it."""
    silent = replace(claim("b", None, holds=4, priority=CRITICAL), asked=12)
    mine = claim("a", 18, holds=10)
    assert (share_of(mine, (silent,), 20, {}).most, share_of(mine, (silent,), 20, {}).lacking) == (
        8,
        0,
    )
    assert share_of(mine, (silent,), 20, {}).entitled == 16
    assert share_of(mine, (replace(silent, asked=None),), 20, {}).most == 16


def test_room_within_a_role_is_asked_back_from_those_of_that_role_alone() -> None:
    waits = claim("b", 10, holds=1, role="etl")
    roles = {"etl": 10}
    same = share_of(claim("a", 9, holds=9, role="etl"), (waits,), 100, roles)
    other = share_of(claim("a", 9, holds=9), (waits,), 100, roles)
    assert (same.lacking, same.entitled) == (4, 5)
    assert other.lacking == 0


def test_too_little_for_all_waits_only_for_those_who_see_it() -> None:
    mine = claim("a", 10, holds=10)
    # b sees it as well: it gives back, and we may keep half.
    sees = share_of(mine, (claim("b", 10, holds=10, cap=16),), 16, {})
    assert sees.entitled == 8
    # b leaves fewer connections free and sees enough for all: what it holds is gone for us.
    share = share_of(mine, (claim("b", 10, holds=10, cap=20),), 16, {})
    assert share.entitled == 6


# --- what holds for all ---------------------------------------------------------------------------

SURGES = ("0", "1", "25%", "100%")


@st.composite
def parties(draw: st.DrawFn) -> tuple[Claim, ...]:
    names = [f"ns/p{n}" for n in range(draw(st.integers(1, 7)))]
    return tuple(
        claim(
            name,
            draw(st.none() | st.integers(0, 40)),
            minimum=draw(st.integers(0, 3)),
            holds=draw(st.integers(0, 20)),
            priority=draw(st.integers(0, 2)),
            each=draw(st.integers(1, 12)),
            surge=draw(st.sampled_from(SURGES)),
            role=draw(st.sampled_from((None, "etl", "web"))),
        )
        for name in names
    )


ROLES = st.sampled_from(({}, {"etl": 30}, {"etl": 0, "web": 50}))
property_of_all = settings(max_examples=200)


def one_by_one(claims: tuple[Claim, ...], cap: int, roles: Mapping[str, int]) -> dict[str, int]:
    """The rule itself, as slow as it is plain: the next replica to whoever has least after it."""
    found = {c.policy: c.connections if c.wanted is None else c.minimum for c in claims}
    replicas = {c.policy: _replicas(c, found[c.policy]) for c in claims}
    for priority in range(3):
        open_to = {c.policy: c for c in claims if c.priority == priority and c.wanted is not None}
        while open_to:
            after, name = min((cost(c, replicas[n] + 1), n) for n, c in open_to.items())
            more = after - found[name]
            chosen = open_to[name]
            same = [c for c in claims if c.role == chosen.role]
            in_role = sum(found[c.policy] for c in same) + more
            if (
                after > (chosen.wanted or 0)
                or sum(found.values()) + more > cap
                or in_role > roles.get(chosen.role or "", in_role)
            ):
                del open_to[name]
                continue
            found[name] = after
            replicas[name] += 1
    return found


def _replicas(one: Claim, connections: int) -> int:
    count = 0
    while cost(one, count + 1) <= connections:
        count += 1
    return count


@property_of_all
@given(parties(), st.integers(0, 300), ROLES)
def test_the_quick_way_gives_what_the_plain_rule_gives(
    claims: tuple[Claim, ...], cap: int, roles: Mapping[str, int]
) -> None:
    assert shares(claims, cap, roles) == one_by_one(claims, cap, roles)


@property_of_all
@given(parties(), st.integers(0, 300), ROLES, st.randoms(use_true_random=False))
def test_the_order_of_the_claims_does_not_matter(
    claims: tuple[Claim, ...], cap: int, roles: Mapping[str, int], shuffle: random.Random
) -> None:
    mixed = list(claims)
    shuffle.shuffle(mixed)
    assert shares(mixed, cap, roles) == shares(claims, cap, roles)


@property_of_all
@given(parties(), st.integers(0, 300), ROLES)
def test_the_sum_fits_but_for_what_nobody_can_change(
    claims: tuple[Claim, ...], cap: int, roles: Mapping[str, int]
) -> None:
    found = shares(claims, cap, roles)
    least = sum(c.connections if c.wanted is None else c.minimum for c in claims)
    assert sum(found.values()) <= max(cap, least)
    for one in claims:
        if one.wanted is not None:
            assert one.minimum <= found[one.policy] <= max(one.wanted, one.minimum)


@property_of_all
@given(parties(), st.integers(0, 300))
def test_wanting_more_takes_nothing_from_what_one_had(claims: tuple[Claim, ...], cap: int) -> None:
    """So a policy's share does not move while its own need does."""
    first, rest = claims[0], claims[1:]
    if first.wanted is None:
        return
    most = shares((replace(first, wanted=10_000), *rest), cap, {})[first.policy]
    now = shares(claims, cap, {})[first.policy]
    assert now == min(most, max(first.wanted, first.minimum))
