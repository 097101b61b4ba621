"""Random histories of every way to pause: people, leaks, locks, faults, and kills between any two
writes. Nothing is resumed under unknown (P2), nobody else's pause is resumed and ours is never
forgotten (P4), whatever a kill leaves in status (P6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.given import Policy, later, queue, seen, spec, through_json, unknown
from tests.simulator.parts import Deaf, Line, Marked, Model, Rows
from tests.thorough import THOROUGH

from starforge_backlog.api.policy import Mode, QueueBacklogPolicySpec
from starforge_backlog.api.status import BreakerState, PauseState, QueueBacklogPolicyStatus
from starforge_backlog.decide import decision
from starforge_backlog.decide.breakers.breaker import LONGEST_OPEN
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses import items
from starforge_backlog.decide.pauses.outcome import locate
from starforge_backlog.decide.pauses.pausing import release_all
from starforge_backlog.decide.plan import Action, Pause, Plan, Resume
from starforge_backlog.decide.results import Failed, Paused, Result, Resumed
from starforge_backlog.snapshot import ProducerReading, QueueReading, Reading, Why

INTERVAL = 15.0
HIGH, LOW = 9000, 10
WAYS: list[dict[str, Any]] = [
    {"name": "flag", "featureFlag": {}},
    {"name": "backfills", "backfillJobs": {}},
    {"name": "audited", "backfillJobs": {"table": "b", "auditTable": "audit_logs"}},
    {"name": "types", "jobTypes": {"types": ["backfill_range"]}},
    {"name": "hook", "webhook": {"url": "https://api.example.org/", "readable": False}},
]
NAMES = [each["name"] for each in WAYS]
# An entry of these states keeps a pause of ours from being forgotten: we release it, or people do.
REMEMBERED = frozenset(
    {PauseState.INTENDED, PauseState.HELD, PauseState.CHANGED, PauseState.FOREIGN}
)


def policy_spec(mode: Mode = Mode.ENFORCE) -> QueueBacklogPolicySpec:
    breakers = [
        {
            "name": name,
            "pause": pauses,
            "trip": [{"waiting": 5000, "for": "15s"}],
            "recover": {"belowPercent": 50, "for": "15s", "probeFor": "15s"},
        }
        for name, pauses in (("all", NAMES), ("some", ["types", "backfills"]))
    ]
    return spec(
        mode=mode.value,
        producers=WAYS,
        breakers=breakers,
        scaling={"observeFor": "15s"},
        target={"name": "etl-worker", "maxReplicas": 4, "minReplicas": 4},
    )


@dataclass(frozen=True)
class Pass:
    """One pass of the operator, and what happens around it."""

    waiting: int | None = LOW  # None: cannot be read
    unread: frozenset[str] = frozenset()  # producers that cannot be read
    faults: frozenset[str] = frozenset()  # producers whose writes fail
    happened: bool = True  # such a write happened all the same
    killed: int | None = None  # after so many writes, the first of them that of the intent
    lost: bool = False  # the final status is lost
    person: tuple[str, bool, int] | None = None
    more: tuple[str, int] | None = None


@dataclass
class History:
    """Policy and producers over time. Status lives only as JSON."""

    models: dict[str, Model] = field(
        default_factory=lambda: {
            "flag": Marked(),
            "backfills": Rows(audited=False),
            "audited": Rows(audited=True),
            "types": Line(),
            "hook": Deaf(),
        }
    )
    policy: Policy = field(
        default_factory=lambda: Policy(policy_spec(), QueueBacklogPolicyStatus())
    )
    clock: float = 0.0

    def go(self, one: Pass) -> Plan:
        """One pass; checks the promises."""
        self.clock += INTERVAL
        now = later(self.clock)
        if one.person is not None:
            name, pauses, number = one.person
            self.models[name].person(pauses, number)
        if one.more is not None:
            name, number = one.more
            self.models[name].more(number)
        before = self.policy.status
        plan = self.policy.decide(
            seen(at=now, queues=self._queue(one, now), producers=self._read(one, now))
        )
        if one.waiting is None and self.policy.spec.mode is Mode.ENFORCE:
            assert not [a for a in plan.actions if isinstance(a, Resume)], "P2"
        self._carry_out(one, plan, before, now)
        for name, model in self.models.items():
            assert model.stolen() == 0, f"P4: a person's pause of {name} was resumed"
            if model.ours():
                states = {e.state for e in self.policy.status.paused if e.producer == name}
                assert states & REMEMBERED, f"P4: our pause of {name} is forgotten: {states}"
        return plan

    def _queue(self, one: Pass, now: datetime) -> QueueReading:
        return queue(unknown() if one.waiting is None else one.waiting, at=now)

    def _read(self, one: Pass, now: datetime) -> dict[str, Reading[ProducerReading]]:
        entries = {entry.producer: entry for entry in self.policy.status.paused}
        return {
            name: unknown() if name in one.unread else model.read(now, entries.get(name))
            for name, model in self.models.items()
        }

    def _carry_out(
        self, one: Pass, plan: Plan, before: QueueBacklogPolicyStatus, now: datetime
    ) -> None:
        """As `reconcile.py` does: intent, effects, result; killed after any of them."""
        intent = through_json(locate(plan.status, self.policy.spec))
        if one.killed == 0 or (one.lost and not plan.actions):
            self.policy.status = before
            return
        self.policy.status = intent
        results: list[Result] = []
        for number, action in enumerate(plan.actions, 1):
            if one.killed == number:
                return
            result = self._do(one, action)
            if result is not None:
                results.append(result)
        if not one.lost and one.killed is None:
            self.policy.status = through_json(merge(intent, tuple(results), now))

    def _do(self, one: Pass, action: Action) -> Result | None:
        got: Paused | Resumed | Failed
        match action:
            case Pause(producer=name, token=token, plan=plan):
                entry = next((e for e in self.policy.status.paused if e.producer == name), None)
                if name in one.faults and not one.happened:
                    return Result(action, Failed(Why.UNREACHABLE, "connection refused"))
                got = self.models[name].pause(token, plan, entry)
            case Resume(held):
                name = held.producer
                if name in one.faults and not one.happened:
                    return Result(action, Failed(Why.UNREACHABLE, "connection refused"))
                got = self.models[name].resume(held)
            case _:
                return None
        if name in one.faults:
            got = Failed(Why.TIMEOUT, "no answer in time")
        return Result(action, got)


passes = st.builds(
    Pass,
    waiting=st.sampled_from((HIGH, HIGH, LOW, LOW, None)),
    unread=st.frozensets(st.sampled_from(NAMES), max_size=2),
    faults=st.frozensets(st.sampled_from(NAMES), max_size=2),
    happened=st.booleans(),
    killed=st.sampled_from((None, None, None, 0, 1, 2, 3, 4)),
    lost=st.sampled_from((False, False, True)),
    person=st.none() | st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers(0, 5)),
    more=st.none() | st.tuples(st.sampled_from(NAMES), st.integers(1, 9)),
)
search = settings(max_examples=4000 if THOROUGH else 60)


def calm(history: History) -> None:
    """Little work, nobody interferes, until nothing has changed for longer than anything waits."""
    unlock(history)
    still = 0
    # The longest that a breaker stays open.
    while history.clock < 4 * 3600 and still <= LONGEST_OPEN.total_seconds() / INTERVAL:
        before = history.policy.status
        history.go(Pass())
        closed = all(b.state is BreakerState.CLOSED for b in history.policy.status.breakers)
        same = history.policy.status.paused == before.paused
        still = still + (8 if closed else 1) if same else 0


def unlock(history: History) -> None:
    for model in history.models.values():
        if isinstance(model, Rows):
            model.locked = ""


@search
@given(st.lists(passes, max_size=25))
def test_no_history_breaks_a_promise_and_in_the_end_all_of_ours_runs(story: list[Pass]) -> None:
    history = History()
    for one in story:
        history.go(one)
    calm(history)
    left = {name for name, model in history.models.items() if model.ours()}
    entries = {entry.producer: entry for entry in history.policy.status.paused}
    for name in left:
        # Written over by a person, or killed where nothing proves it: reported, and left to people.
        assert entries[name].state in {PauseState.CHANGED, PauseState.FOREIGN}, name
        assert entries[name].message
    at_rest = {BreakerState.CLOSED, BreakerState.HALF_OPEN}
    assert {b.state for b in history.policy.status.breakers} <= at_rest


@search
@given(st.lists(passes, max_size=15))
def test_without_people_and_kills_all_of_ours_runs_in_the_end(story: list[Pass]) -> None:
    history = History()
    for one in story:
        history.go(Pass(waiting=one.waiting, unread=one.unread, more=one.more))
    calm(history)
    assert [name for name, model in history.models.items() if model.ours()] == []
    assert history.policy.status.paused == ()
    assert {b.state for b in history.policy.status.breakers} == {BreakerState.CLOSED}


@search
@given(st.lists(passes, max_size=15))
def test_while_a_storm_lasts_all_of_it_is_paused(story: list[Pass]) -> None:
    """Also what was half resumed, what was locked, and what began or arrived since."""
    history = History()
    for one in story:
        history.go(Pass(waiting=one.waiting, unread=one.unread, more=one.more))
    unlock(history)
    for _ in range(20):
        history.go(Pass(waiting=HIGH))
    assert [name for name, model in history.models.items() if model.runs()] == []


@search
@given(st.lists(passes, max_size=15), st.booleans())
def test_the_end_of_a_policy_and_observe_release_the_same(story: list[Pass], observe: bool) -> None:
    history = History()
    for one in story:
        history.go(one)
    unlock(history)
    if observe:
        history.policy.spec = policy_spec(Mode.OBSERVE)
        for _ in range(20):
            history.go(Pass(waiting=None))  # not even a reading is waited for
    else:
        for _ in range(20):
            status = history.policy.status
            plan = release_all(status.paused, "the policy is deleted")
            got = [history._do(Pass(), action) for action in plan.actions]
            results = tuple(result for result in got if result is not None)
            history.policy.status = through_json(merge(status, results, later(history.clock)))
    entries = {entry.producer: entry for entry in history.policy.status.paused}
    for name, model in history.models.items():
        assert model.stolen() == 0
        if model.ours():
            assert entries[name].state in {PauseState.CHANGED, PauseState.FOREIGN}, name
            assert entries[name].message


# --- the histories can fail --------------------------------------------------------------------


def test_the_watch_sees_a_pause_that_is_forgotten() -> None:
    history = History()
    for _ in range(3):
        history.go(Pass(waiting=HIGH))
    assert all(model.ours() for model in history.models.values())
    history.policy.status = QueueBacklogPolicyStatus()
    with pytest.raises(AssertionError, match="forgotten"):
        history.go(Pass(waiting=None, unread=frozenset(NAMES)))


def test_the_watch_sees_a_leak_that_loses_what_was_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def story() -> History:
        history = History()
        for _ in range(3):
            history.go(Pass(waiting=HIGH))
        history.go(Pass(waiting=HIGH, more=("backfills", 1)))
        history.go(Pass(waiting=HIGH))
        calm(history)
        return history

    assert not any(model.ours() for model in story().models.values())
    monkeypatch.setattr(items, "extended", lambda _, plan: plan)
    with pytest.raises(AssertionError, match="our pause of backfills is forgotten"):
        story()


def test_the_watch_sees_a_release_without_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def story() -> None:
        history = History()
        for _ in range(3):
            history.go(Pass(waiting=HIGH))
        for _ in range(10):
            history.go(Pass(waiting=LOW))
            history.go(Pass(waiting=None))

    story()
    monkeypatch.setattr(decision, "decisive", lambda *_: True)
    with pytest.raises(AssertionError, match="P2"):
        story()
