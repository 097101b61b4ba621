"""Two policies pause one flag: the second one is neither overruled nor fooled by the first (P4)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.flag import Flag
from tests.simulator.given import Policy, later, queue, seconds, seen, spec
from tests.simulator.pasts import kinds

from starforge_backlog.api.status import BreakerState, PauseState, QueueBacklogPolicyStatus
from starforge_backlog.decide.breakers.breaker import LONGEST_OPEN
from starforge_backlog.decide.plan import Pause, Plan, Resume
from starforge_backlog.decide.results import Result

INTERVAL = 15
HIGH, LOW = 9000, 10
QUICK = {"belowPercent": 50, "for": "30s", "probeFor": "1m"}
BREAKER = {
    "name": "b",
    "pause": ["ingestion"],
    "trip": [{"waiting": 5000, "for": "15s"}],
    "recover": QUICK,
}


class Two:
    """Policies a and b, each with a backlog of its own, before one flag."""

    def __init__(self) -> None:
        parts = spec(breakers=[BREAKER], scaling={"observeFor": "2s"})
        self.flag = Flag(write_owner=True)
        self.a, self.b = (
            Policy(parts, QueueBacklogPolicyStatus(), owner=owner) for owner in ("uid-a", "uid-b")
        )
        self.clock = 0.0

    def one(self, policy: Policy, waiting: int) -> Plan:
        """One pass of one policy, carried out on the flag."""
        self.clock += INTERVAL / 2
        now = later(self.clock)
        reading = queue(waiting, at=now)
        plan = policy.decide(seen(at=now, queues=reading, producers=self.flag.read(now)))
        for action in plan.actions:
            match action:
                case Pause(token=token):
                    policy.happened([Result(action, self.flag.pause(token))], now)
                case Resume(held):
                    got = self.flag.resume(held.token, held.version)
                    policy.happened([Result(action, got)], now)
                case _:
                    pass
        return plan

    def both(self, waiting_a: int, waiting_b: int, *, times: int) -> None:
        for _ in range(times):
            self.one(self.a, waiting_a)
            self.one(self.b, waiting_b)


def entry(policy: Policy) -> PauseState | None:
    return policy.status.paused[0].state if policy.status.paused else None


def breaker(policy: Policy) -> BreakerState:
    return policy.status.breakers[0].state


def both_open() -> Two:
    """Policy a holds the flag; the breaker of b is open as well."""
    two = Two()
    two.both(HIGH, HIGH, times=4)
    assert (entry(two.a), entry(two.b)) == (PauseState.HELD, PauseState.FOREIGN)
    assert breaker(two.b) is BreakerState.OPEN
    return two


def test_the_second_policy_pauses_when_the_first_lets_go() -> None:
    two = both_open()
    while entry(two.a) is not None:
        two.one(two.a, LOW)
    assert not two.flag.paused
    assert "Pause" in kinds(two.one(two.b, HIGH))
    assert (entry(two.b), two.flag.paused) == (PauseState.HELD, True)
    # ... and the first one sees another client's pause, which is not a person's either.
    two.both(LOW, HIGH, times=20)
    assert (entry(two.a), entry(two.b)) == (PauseState.FOREIGN, PauseState.HELD)


def test_in_the_end_nobody_holds_it() -> None:
    two = both_open()
    two.both(LOW, HIGH, times=10)
    two.both(LOW, LOW, times=20)
    assert not two.flag.paused
    assert {breaker(two.a), breaker(two.b)} == {BreakerState.CLOSED}
    assert two.a.status.paused == two.b.status.paused == ()


def test_a_probe_under_the_others_pause_is_none() -> None:
    two = both_open()
    two.both(HIGH, LOW, times=30)
    assert two.flag.paused
    assert breaker(two.b) is BreakerState.HALF_OPEN
    while entry(two.a) is not None:
        two.one(two.a, LOW)
    began = two.clock
    while breaker(two.b) is not BreakerState.CLOSED:
        two.one(two.b, LOW)
    assert 60 <= two.clock - began <= 60 + 2 * INTERVAL


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 8)), max_size=12))
def test_while_one_breaker_is_open_the_flag_is_paused_and_in_the_end_it_is_not(
    storm: list[tuple[bool, bool, int]],
) -> None:
    two = Two()
    two.both(LOW, LOW, times=1)
    for high_a, high_b, times in storm:
        for policy, high in ((two.a, high_a), (two.b, high_b)) * times:
            two.one(policy, HIGH if high else LOW)
            if breaker(policy) is BreakerState.OPEN:
                assert two.flag.paused
    for _ in range(LONGEST_OPEN // seconds(INTERVAL) + 40):
        two.both(LOW, LOW, times=1)
        if {breaker(two.a), breaker(two.b)} == {BreakerState.CLOSED}:
            break
    two.both(LOW, LOW, times=1)
    assert not two.flag.paused
    assert two.flag.stolen == 0
    assert {breaker(two.a), breaker(two.b)} == {BreakerState.CLOSED}
    assert two.a.status.paused == two.b.status.paused == ()


def test_a_person_who_resumes_is_not_overruled() -> None:
    two = both_open()
    two.flag.person_pauses()
    two.flag.runbook_resumes()
    two.both(HIGH, HIGH, times=10)
    assert not two.flag.paused
    assert (entry(two.a), entry(two.b)) == (PauseState.OVERRIDDEN, PauseState.OVERRIDDEN)
