"""Several policies on one database, over random histories: the sum holds, and nobody starves.

`STARFORGE_TESTS=thorough` searches for minutes with fresh random seeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.crowd import Change, Crowd, Member, Moment, neighbour_of
from tests.simulator.eye import OWN_CONNECTIONS
from tests.simulator.setup import Event, Setup, What
from tests.simulator.storms import storms
from tests.thorough import THOROUGH

from starforge_backlog.api.policy import Priority
from starforge_backlog.coordination.connection_ledger import ConnectionLedger
from starforge_backlog.decide import facts
from starforge_backlog.decide.budget.formula import surge
from starforge_backlog.decide.budget.shares import MANY, Caps, Share, share_of, shares
from starforge_backlog.snapshot import Claim

INTERVAL = 15.0
WINDOW = 30.0  # observeFor
# Things happen until then; what lasts is over 900 s later.
STORM = 1800.0
LAST_TROUBLE = STORM + 900.0
# Hold-downs of a storm last up to 30 minutes; after them everybody climbs by steps, and the share
# of the last one is free only when all others have come down.
SETTLED = LAST_TROUBLE + 4500.0
WATCHED = 1800.0

search = settings(
    max_examples=400 if THOROUGH else 5,
)
long_enough = pytest.mark.timeout(3600 if THOROUGH else 600)

# Not another writer of replicas and no late reading: what they add is known to nobody. Death is
# tried by restarts of the whole process.
TROUBLE = (
    *(What.ARRIVALS, What.ROLLOUT, What.CRASH, What.SLOW, What.OUTAGE, What.UNREADABLE),
    *(What.API_OUTAGE, What.CONFLICT, What.UNSURE, What.LOSE_STATUS, What.PURGE, What.LOCKS),
)
HUNGRY = 1000.0  # jobs per second: more than any server here can serve


@st.composite
def _setups(draw: st.DrawFn) -> Setup:
    return Setup(
        headroom=draw(st.integers(0, 20)),
        pressure_percent=draw(st.sampled_from((80, 90, 100))),
        pool=draw(st.integers(1, 8)),
        surge=draw(st.sampled_from(("0", "1", "25%", "100%"))),
        start_replicas=draw(st.integers(1, 4)),
        min_replicas=draw(st.integers(1, 2)),
        max_replicas=draw(st.none() | st.integers(3, 30)),
        start_delay=draw(st.sampled_from((5.0, 20.0))),
        grace=draw(st.sampled_from((0.0, 15.0, 60.0))),
        arrivals=draw(st.floats(0, 20)),
        backlog=draw(st.integers(0, 3000)),
        interval=INTERVAL,
        observe_for=WINDOW,
        step_up=draw(st.integers(1, 4)),
        step_down=draw(st.integers(1, 2)),
        scale_down_after=draw(st.sampled_from((60.0, 300.0))),
        drain_within=900.0,
        yield_for=60.0,
    )


@st.composite
def members(draw: st.DrawFn, *, alike: bool = True) -> tuple[Member, ...]:
    """Two to six, each with a storm of its own and a calm need after it.

    `alike`: all leave the same connections free, so that all see the same sum. One that leaves more
    than the others has less of what they take; that affects no other policy.
    """
    count = draw(st.integers(2, 6))
    size, others = draw(st.integers(150, 300)), draw(st.integers(0, 40))
    first = replace(draw(_setups()), max_connections=size, others=others)
    found = []
    for number in range(count):
        setup = neighbour_of(first, first if not number else draw(_setups()), f"worker-{number}")
        if alike:
            setup = replace(setup, headroom=first.headroom, pressure_percent=first.pressure_percent)
        kinds = (*TROUBLE, What.OTHERS) if not number else TROUBLE
        events = [e for e in draw(storms(kinds)) if e.at < STORM]
        found.append(
            Member(
                setup,
                draw(st.sampled_from(Priority)),
                (*events, *_calm(setup, draw(st.none() | st.integers(0, 4)))),
                joins=draw(st.sampled_from((True, True, True, False))),
            )
        )
    return tuple(found)


def _calm(setup: Setup, pods: int | None) -> tuple[Event, ...]:
    """What ends a storm: the work of so many pods, or endless work (None); few other clients."""
    arrivals = HUNGRY if pods is None else 0.8 * pods * setup.per_pod
    return (
        Event(STORM, What.ARRIVALS, arrivals),
        Event(LAST_TROUBLE, What.PURGE, 0),
        Event(STORM, What.OTHERS, 10),
    )


MOMENTS = st.lists(
    st.builds(
        Moment,
        at=st.integers(0, int(STORM)).map(float),
        who=st.integers(0, 5),
        what=st.sampled_from(Change),
    ),
    max_size=10,
).map(tuple)
RESTARTS = st.lists(st.floats(0, STORM), max_size=3).map(tuple)


@long_enough
@search
@given(members(), MOMENTS, RESTARTS, st.integers(0, 999))
def test_the_sum_holds_and_nobody_starves(
    drawn: tuple[Member, ...],
    moments: tuple[Moment, ...],
    restarts: tuple[float, ...],
    seed: int,
) -> None:
    crowd = Crowd(drawn, moments, restarts, seed)
    crowd.play(SETTLED, INTERVAL)
    writes = len(crowd.writes)
    crowd.play(SETTLED + WATCHED, INTERVAL)

    assert crowd.broken == []
    # Nothing changes any more: nobody goes up and down.
    assert turns(crowd, writes) == []
    assert starving(crowd) == []


@long_enough
@search
@given(members(alike=False), MOMENTS, RESTARTS, st.integers(0, 999))
def test_whoever_leaves_more_free_than_the_others_the_sum_holds(
    drawn: tuple[Member, ...],
    moments: tuple[Moment, ...],
    restarts: tuple[float, ...],
    seed: int,
) -> None:
    crowd = Crowd(drawn, moments, restarts, seed)
    crowd.play(SETTLED, INTERVAL)
    writes = len(crowd.writes)
    crowd.play(SETTLED + WATCHED, INTERVAL)

    assert crowd.broken == []
    assert turns(crowd, writes) == []


def turns(crowd: Crowd, since: int) -> list[str]:
    """Policies that were written in both directions."""
    found = crowd.writes[since:]
    ups = {write.who for write in found if write.to > write.from_}
    downs = {write.who for write in found if write.to < write.from_}
    return [f"p{who}: {[w for w in found if w.who == who]}" for who in sorted(ups & downs)]


def starving(crowd: Crowd) -> list[str]:
    """Who has less than the rule gives it, of those who have endless work.

    What the others really hold is theirs; what is left is shared again, by the truth of the world
    and without the operator's state. A replica may be missing where the number is a border
    case of needs that are measured.
    """
    found = []
    for number in sorted(crowd.counted() - crowd.suspended - crowd.not_understood):
        operator = crowd.operators[number]
        setup = operator.world.setup
        if operator.world.arrivals != HUNGRY:
            continue
        rule = shares(_truth(crowd), _cap(crowd, setup), {})
        entitled = _replicas(setup, rule[operator.name])
        if setup.max_replicas is not None:
            entitled = min(entitled, setup.max_replicas)
        replicas = operator.world.pods.replicas
        if replicas < entitled - 1:
            found.append(f"p{number} has {replicas} of {entitled}: {_said(crowd, number)}")
    return found


def _said(crowd: Crowd, number: int) -> str:
    """What all statuses say, for the one who reads a failure."""
    lines = [f"{n}: {o.status.scaling.model_dump_json()}" for n, o in enumerate(crowd.operators)]
    return f"{number}\n" + "\n".join(lines)


def _truth(crowd: Crowd) -> list[Claim]:
    found = []
    counted = {claim.policy: claim.connections for claim in crowd.claims()}
    for number in crowd.counted():
        world = crowd.operators[number].world
        setup = world.setup
        hungry = world.arrivals == HUNGRY
        movable = number not in crowd.suspended | crowd.not_understood
        name, holds = crowd.operators[number].name, crowd.holds(number)
        if number in crowd.not_understood:
            # Unread since a restart its status stands for it, which may be more than it has (P2).
            holds = max(holds, counted.get(name, 0))
        claim = Claim(
            name,
            setup.role,
            holds,
            minimum=_cost(setup, setup.min_replicas),
            wanted=holds if movable else None,
            priority=list(Priority).index(crowd.members[number].priority),
            per_replica=setup.pool,
            max_surge=setup.surge,
        )
        if hungry and movable:
            most = setup.max_replicas or 10_000
            claim = replace(claim, wanted=_cost(setup, most))
        found.append(claim)
    return found


def _cost(setup: Setup, replicas: int) -> int:
    return (replicas + surge(replicas, setup.surge)) * setup.pool


def _replicas(setup: Setup, connections: int) -> int:
    count = 0
    while _cost(setup, count + 1) <= connections:
        count += 1
    return count


def _cap(crowd: Crowd, setup: Setup) -> int:
    other_clients = crowd.other_clients()
    usable = setup.max_connections - setup.superuser_reserved
    threshold = -(-setup.max_connections * setup.pressure_percent // 100) - 1
    return min(usable - other_clients - setup.headroom, threshold - other_clients)


# --- stories, and that the checks above can fail --------------------------------------------------

HOUR = 3600.0
FULL = Setup(
    max_connections=120,
    others=10,
    pressure_percent=100,
    arrivals=HUNGRY,
    interval=INTERVAL,
    observe_for=WINDOW,
    surge="0",
)


def party(number: int, priority: Priority, *, joins: bool = True, **changes: Any) -> Member:
    """One with endless work, on the same server as all others."""
    return Member(replace(FULL, role=f"worker-{number}", **changes), priority, joins=joins)


def replicas(crowd: Crowd) -> list[int]:
    return [operator.world.pods.replicas for operator in crowd.operators]


def late_and_important() -> Crowd:
    """A background policy has filled the server when a critical one is made."""
    first, second = party(0, Priority.BACKGROUND), party(1, Priority.CRITICAL, joins=False)
    return Crowd((first, second), (Moment(HOUR, 1, Change.JOIN),))


def test_who_comes_late_and_matters_more_gets_its_share() -> None:
    crowd = late_and_important()
    crowd.play(HOUR - 1, INTERVAL)
    before = replicas(crowd)
    assert before[0] >= 18
    crowd.play(3 * HOUR, INTERVAL)
    assert (crowd.broken, starving(crowd)) == ([], [])
    assert replicas(crowd)[0] == 1
    assert replicas(crowd)[1] >= before[0] - 1


def test_it_is_given_back_one_small_step_per_window() -> None:
    crowd = late_and_important()
    crowd.play(2 * HOUR, INTERVAL)
    down = [w for w in crowd.writes if w.who == 0 and w.at > HOUR]
    assert {write.from_ - write.to for write in down} == {1}
    assert min(b.at - a.at for a, b in pairwise(down)) >= WINDOW


def test_equals_share_evenly() -> None:
    crowd = Crowd(tuple(party(n, Priority.NORMAL) for n in range(3)))
    crowd.play(2 * HOUR, INTERVAL)
    assert crowd.broken == []
    assert max(replicas(crowd)) - min(replicas(crowd)) <= 1


@pytest.mark.parametrize("change", [Change.LEAVE, Change.SUSPEND, Change.BREAK])
def test_what_a_policy_asked_for_is_the_others_when_it_is_gone_or_asleep(change: Change) -> None:
    """Not what its pods hold: those stay, whichever policy manages them."""
    both = (party(0, Priority.BACKGROUND), party(1, Priority.CRITICAL, step_up=1))
    crowd = Crowd(both, (Moment(600.0, 1, change),))
    crowd.play(600.0, INTERVAL)
    kept = replicas(crowd)[1]
    crowd.play(2 * HOUR, INTERVAL)
    assert crowd.broken == []
    assert replicas(crowd)[1] == kept
    usable, headroom, own = 117, FULL.headroom, OWN_CONNECTIONS
    room = (usable - FULL.others - own - headroom - kept * FULL.pool) // FULL.pool
    assert replicas(crowd)[0] == room


def test_who_cannot_be_read_makes_nobody_give_anything_back() -> None:
    unread = (
        Event(at=0, what=What.ARRIVALS, amount=1),
        Event(at=HOUR - 30, what=What.OUTAGE, lasts=HOUR),
        Event(at=HOUR - 20, what=What.ARRIVALS, amount=HUNGRY),
    )
    important = replace(party(1, Priority.CRITICAL), events=unread)
    crowd = Crowd((party(0, Priority.BACKGROUND), important))
    crowd.play(HOUR - 30, INTERVAL)
    before = replicas(crowd)
    crowd.play(2 * HOUR - 60, INTERVAL)
    assert replicas(crowd) == before
    crowd.play(4 * HOUR, INTERVAL)
    assert replicas(crowd)[1] > before[1]


def test_the_check_of_shares_sees_who_comes_first_served_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def first_come(mine: Claim, claims: Iterable[Claim], cap: int, roles: Caps) -> Share:
        return Share(0, MANY, 0, (), {})

    monkeypatch.setattr(facts, "share_of", first_come)
    crowd = late_and_important()
    crowd.play(3 * HOUR, INTERVAL)
    assert crowd.broken == []
    assert starving(crowd) != []


def test_the_check_of_turns_sees_a_share_that_follows_nobodys_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def restless(mine: Claim, claims: Iterable[Claim], cap: int, roles: Caps) -> Share:
        found = share_of(mine, claims, cap, roles)
        return replace(found, entitled=found.entitled // 2, lacking=1)

    crowd = Crowd(tuple(party(n, Priority.NORMAL) for n in range(2)))
    crowd.play(HOUR, INTERVAL)
    calm = len(crowd.writes)
    crowd.play(2 * HOUR, INTERVAL)
    assert turns(crowd, calm) == []
    with monkeypatch.context() as patch:
        patch.setattr(facts, "share_of", restless)
        crowd.play(2 * HOUR + 300, INTERVAL)
    crowd.play(3 * HOUR, INTERVAL)
    assert turns(crowd, calm) != []


def test_the_check_of_the_sum_sees_a_ledger_that_forgets_surge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = tuple(party(n, Priority.NORMAL, surge="50%") for n in range(2))
    crowd = Crowd(both)
    crowd.play(HOUR, INTERVAL)
    assert crowd.broken == []
    others = ConnectionLedger.others

    def bare(ledger: ConnectionLedger, server: str, policy: str) -> tuple[Claim, ...]:
        claims = others(ledger, server, policy)
        return tuple(replace(c, connections=c.connections * 2 // 3) for c in claims)

    monkeypatch.setattr(ConnectionLedger, "others", bare)
    monkeypatch.setattr(facts, "share_of", lambda *_: Share(0, MANY, 0, (), {}))
    careless = Crowd(both)
    careless.play(HOUR, INTERVAL)
    assert careless.broken != []
