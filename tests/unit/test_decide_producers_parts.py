"""Pauses that are carried out in parts: leaks, batches, plans, unreadable producers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.simulator.given import NOW, OWNER, later, spec, unknown

from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.order import in_order, one_release_per_window
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses.pausing import (
    Pausing,
    Producers,
    decide_producers,
    release_all,
)
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.decide.results import (
    Failed,
    Paused,
    PauseOutcome,
    Result,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why

PAUSED, RUNNING = FlagValue.PAUSED, FlagValue.RUNNING
INTENDED, HELD, FOREIGN = PauseState.INTENDED, PauseState.HELD, PauseState.FOREIGN
CHANGED, OVERRIDDEN = PauseState.CHANGED, PauseState.OVERRIDDEN
TOKEN = f"{OWNER}/it/2026"

FLAG: dict[str, Any] = {"featureFlag": {}}
UNMARKED: dict[str, Any] = {"featureFlag": {"writeOwner": False}}
TYPES: dict[str, Any] = {"jobTypes": {"types": ["backfill_range"]}}
BACKFILLS: dict[str, Any] = {"backfillJobs": {}}
AUDITED: dict[str, Any] = {"backfillJobs": {"auditTable": "audit_logs"}}
HOOK: dict[str, Any] = {"webhook": {"url": "https://api.example.org/pause"}}
DEAF_HOOK: dict[str, Any] = {"webhook": {**HOOK["webhook"], "readable": False}}
MAP: dict[str, Any] = {"configMap": {"name": "api"}}


def entry(state: PauseState = HELD, **changes: Any) -> PauseStatus:
    whole: dict[str, Any] = {
        "producer": "it",
        "by": PausedBy.US,
        "state": state,
        "since": later(-600),
        "token": TOKEN,
        "version": "5" if state is HELD else "",
        "breaker": "it",
    }
    return PauseStatus(**{**whole, **changes})


def says(
    value: FlagValue, *, leaking: bool = False, plan: Any = None, token: str | None = TOKEN
) -> Reading[ProducerReading]:
    text = None if plan is None else json.dumps(plan)
    return Known(ProducerReading(value, token, "5", leaking, text), NOW)


def decided(
    before: PauseStatus | None,
    reading: Reading[ProducerReading] | None,
    *,
    wanted: bool,
    way: dict[str, Any] = FLAG,
    unreadable: frozenset[str] = frozenset(),
) -> Producers:
    policy = spec(
        producers=[{"name": "it", **way}],
        breakers=[{"name": "it", "pause": ["it"], "trip": [{"waiting": 9}]}],
    )
    state = BreakerState.OPEN if wanted else BreakerState.HALF_OPEN
    return decide_producers(
        policy,
        (BreakerStatus(name="it", state=state, message="5200 waiting"),),
        () if before is None else (before,),
        {} if reading is None else {"it": reading},
        Pausing(OWNER, None, None, NOW),
        unreadable=unreadable,
    )


def after(found: Producers, *got: Paused | Resumed | Failed) -> PauseStatus | None:
    """The entry once the actions were carried out."""
    status = QueueBacklogPolicyStatus(paused=found.entries)
    results = tuple(Result(a, g) for a, g in zip(found.actions, got, strict=True))
    left = merge(status, results, NOW).paused
    return left[0] if left else None


def the_pause(found: Producers) -> Pause:
    (action,) = found.actions
    assert isinstance(action, Pause)
    return action


def the_entry(found: Producers) -> PauseStatus:
    (kept,) = found.entries
    return kept


# --- leaks and batches -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "reading", "when_wanted", "when_not"),
    [
        (entry(), says(PAUSED), (), (Resume,)),
        (entry(), says(PAUSED, leaking=True), (Pause,), (Resume,)),
        (entry(progress=PauseProgress.PARTIAL), says(PAUSED), (Pause,), (Resume,)),
        (entry(progress=PauseProgress.PARTIAL), unknown(), (Pause,), (Resume,)),
        (entry(progress=PauseProgress.RESUMING), says(PAUSED), (Pause,), (Resume,)),
        (entry(progress=PauseProgress.RESUMING), unknown(), (Pause,), (Resume,)),
        # Whose it is comes before how much of it there is.
        (entry(progress=PauseProgress.PARTIAL), says(PAUSED, token="uid-2/it/2026"), (), ()),
        (entry(), says(PAUSED, leaking=True, token="uid-2/it/2026"), (), ()),
        # A person resumed all of it in the middle of a batch.
        (entry(progress=PauseProgress.PARTIAL), says(RUNNING), (), ()),
    ],
)
def test_a_pause_goes_on_under_the_same_token(
    before: PauseStatus,
    reading: Reading[ProducerReading],
    when_wanted: tuple[type, ...],
    when_not: tuple[type, ...],
) -> None:
    found = decided(before, reading, wanted=True, way=TYPES)
    assert tuple(map(type, found.actions)) == when_wanted
    if when_wanted:
        assert the_pause(found).token == TOKEN
        assert the_pause(found).again is not (before.progress is PauseProgress.RESUMING)
        assert the_entry(found) == before  # nothing to write
    unwanted = decided(before, reading, wanted=False, way=TYPES)
    assert tuple(map(type, unwanted.actions)) == when_not


def test_a_changed_version_is_somebodys_write_also_where_something_leaks() -> None:
    changed = Known(ProducerReading(PAUSED, TOKEN, "6", leaking=True), NOW)
    found = decided(entry(), changed, wanted=True, way=MAP)
    assert (the_entry(found).state, found.actions) == (CHANGED, ())


def test_a_batch_is_held_and_the_next_one_completes_it() -> None:
    first = decided(None, says(RUNNING, token=None), wanted=True, way=TYPES)
    part = Paused(PauseOutcome.PAUSED, "5", '{"held": 9}', "9 jobs so far", complete=False)
    held = after(first, part)
    assert held is not None
    assert (held.state, held.progress, held.message) == (
        HELD,
        PauseProgress.PARTIAL,
        "9 jobs so far",
    )
    again = decided(held, says(PAUSED, token=held.token), wanted=True, way=TYPES)
    assert the_pause(again).again
    done = after(again, Paused(PauseOutcome.PAUSED, "5", '{"held": 12}'))
    assert done is not None
    assert (done.progress, done.message, done.previous) == (
        PauseProgress.COMPLETE,
        "",
        '{"held": 12}',
    )


def test_a_batch_is_released_when_the_breaker_lets_go_in_between() -> None:
    found = decided(entry(progress=PauseProgress.PARTIAL), says(PAUSED), wanted=False, way=TYPES)
    assert [type(action) for action in found.actions] == [Resume]
    assert after(found, Resumed(ResumeOutcome.RESUMED)) is None


def test_a_release_in_part_is_held_until_the_last_of_it() -> None:
    found = decided(entry(), says(PAUSED), wanted=False, way=TYPES)
    part = after(found, Resumed(ResumeOutcome.PARTLY, "50000 jobs were released"))
    assert part is not None
    assert (part.state, part.progress, part.message) == (
        HELD,
        PauseProgress.RESUMING,
        "50000 jobs were released",
    )
    stopped = decided(part, says(PAUSED), wanted=False, unreadable=frozenset({"it"}), way=TYPES)
    assert (stopped.entries, stopped.actions) == ((part,), ()), "P2: nothing more while unknown"
    paused_again = decided(part, says(PAUSED), wanted=True, way=TYPES)
    whole = after(paused_again, Paused(PauseOutcome.PAUSED, "5", '{"held": 1}'))
    assert whole is not None
    assert whole.progress is PauseProgress.COMPLETE


def test_what_others_paused_of_the_rest_does_not_make_ours_theirs() -> None:
    found = decided(entry(progress=PauseProgress.PARTIAL), says(PAUSED), wanted=True, way=TYPES)
    left = after(found, Paused(PauseOutcome.ALREADY_PAUSED))
    assert left is not None
    assert (left.state, left.by, left.token, left.progress) == (
        HELD,
        PausedBy.US,
        TOKEN,
        PauseProgress.COMPLETE,
    )


# --- plans -----------------------------------------------------------------------------------


def test_what_a_plan_covers_is_stored_before_the_write() -> None:
    found = decided(None, says(RUNNING, plan={"7": None}, token=None), wanted=True, way=BACKFILLS)
    assert json.loads(the_entry(found).previous or "") == {"7": None}
    assert the_pause(found).plan == the_entry(found).previous


@pytest.mark.parametrize("way", [BACKFILLS, AUDITED])
def test_what_runs_since_is_stored_before_it_is_paused_as_well(way: dict[str, Any]) -> None:
    mark = ["1", "a", "b"]
    before = entry(previous=json.dumps({"7": mark}))
    leak = says(PAUSED, plan={"9": None}, leaking=True)
    found = decided(before, leak, wanted=True, way=way)
    assert json.loads(the_entry(found).previous or "") == {"7": mark, "9": None}
    assert the_pause(found).plan == the_entry(found).previous
    # The producer answers without a plan of its own, or not at all: what is ours is not forgotten.
    for got in (Paused(PauseOutcome.PAUSED, "5"), Failed(Why.TIMEOUT, "no answer in time")):
        left = after(found, got)
        assert left is not None
        assert left.state is HELD
        assert json.loads(left.previous or "") == {"7": mark, "9": None}


def test_what_a_person_resumed_keeps_its_proof_and_is_not_paused_again() -> None:
    """It runs, so it is in the plan; its mark says that it was paused under this token."""
    mark = ["1", "a", "b"]
    before = entry(previous=json.dumps({"7": mark}))
    both = says(PAUSED, plan={"7": None, "9": None}, leaking=True)
    found = decided(before, both, wanted=True, way=BACKFILLS)
    assert json.loads(the_pause(found).plan or "") == {"7": mark, "9": None}


def test_what_we_resumed_ourselves_is_paused_again() -> None:
    mark = ["1", "a", "b"]
    before = entry(previous=json.dumps({"7": mark, "8": mark}), progress=PauseProgress.RESUMING)
    found = decided(before, says(PAUSED, plan={"7": None}), wanted=True, way=BACKFILLS)
    assert json.loads(the_pause(found).plan or "") == {"7": None, "8": mark}


def test_a_plan_that_was_edited_by_hand_covers_what_runs() -> None:
    before = entry(INTENDED, previous="not json")
    found = decided(before, says(RUNNING, plan={"7": None}), wanted=True, way=BACKFILLS)
    assert json.loads(the_pause(found).plan or "") == {"7": None}


def test_a_retry_without_a_reading_stays_within_the_plan() -> None:
    before = entry(INTENDED, previous='{"7": null}')
    found = decided(before, unknown(), wanted=True, way=BACKFILLS)
    assert the_pause(found).plan == '{"7": null}'


def test_only_producers_with_a_plan_get_one() -> None:
    before = entry(INTENDED, previous="false")
    assert the_pause(decided(before, unknown(), wanted=True, way=FLAG)).plan is None


# --- settling: killed between intent and write -----------------------------------------------

GONE = unknown()
BY_DESIGN = unknown(Why.NOT_CONFIGURED)
OURS, NOBODYS = says(PAUSED), says(PAUSED, token=None)
THEIRS = says(PAUSED, token="uid-2/it/2026")


Then = tuple[PauseState | None, tuple[type, ...]]
# By the way: a pause without any token in it, and a reading that is missing by design.
SETTLED: tuple[tuple[dict[str, Any], Then, Then], ...] = (
    (FLAG, (None, ()), (INTENDED, ())),
    (MAP, (None, ()), (INTENDED, ())),
    (TYPES, (None, ()), (INTENDED, ())),
    (UNMARKED, (CHANGED, ()), (INTENDED, ())),
    (HOOK, (CHANGED, ()), (INTENDED, ())),
    # Only a resume under our token shows it.
    (BACKFILLS, (INTENDED, (Resume,)), (INTENDED, ())),
    (AUDITED, (INTENDED, (Resume,)), (INTENDED, ())),
    (DEAF_HOOK, (INTENDED, (Resume,)), (INTENDED, (Resume,))),
)


def settles(of_nobody: Then, by_design: Then) -> list[tuple[Reading[ProducerReading] | None, Then]]:
    return [
        (OURS, (HELD, (Resume,))),
        (THEIRS, (None, ())),
        (says(RUNNING, token=None), (None, ())),
        (NOBODYS, of_nobody),
        (BY_DESIGN, by_design),
        # P2: never for a reading that is missing for any other reason.
        (GONE, (INTENDED, ())),
        (None, (INTENDED, ())),
    ]


@pytest.mark.parametrize(
    ("way", "reading", "then"),
    [(way, seen, then) for way, *cases in SETTLED for seen, then in settles(*cases)],
)
def test_settling(
    way: dict[str, Any], reading: Reading[ProducerReading] | None, then: Then
) -> None:
    state, does = then
    found = decided(entry(INTENDED), reading, wanted=False, way=way)
    assert [kept.state for kept in found.entries] == ([] if state is None else [state])
    assert tuple(map(type, found.actions)) == does


@pytest.mark.parametrize("reading", [BY_DESIGN, None])
def test_a_pause_that_cannot_be_read_is_held_and_released(
    reading: Unknown | None,
) -> None:
    """No person's decision can be seen, so none is taken for one."""
    held = decided(entry(), reading, wanted=True, way=DEAF_HOOK)
    assert (held.entries, held.actions) == ((entry(),), ())
    released = decided(entry(), reading, wanted=False, way=DEAF_HOOK)
    assert [type(action) for action in released.actions] == [Resume]


# --- order -----------------------------------------------------------------------------------

SEVERAL: list[dict[str, Any]] = [
    {"name": "backfills", **BACKFILLS},
    {"name": "api", **FLAG},
    {"name": "types", **TYPES},
    {"name": "cron", "workload": {"kind": "CronJob", "name": "cron"}},
]
NAMES = [each["name"] for each in SEVERAL]


def several(*, wanted: bool, entries: tuple[PauseStatus, ...] = ()) -> Producers:
    whole = {"name": "it", "pause": NAMES, "trip": [{"waiting": 9}]}
    state = BreakerState.OPEN if wanted else BreakerState.CLOSED
    return decide_producers(
        spec(producers=SEVERAL, breakers=[whole]),
        (BreakerStatus(name="it", state=state),),
        entries,
        {},
        Pausing(OWNER, None, None, NOW),
    )


def named(*actions: object) -> list[str]:
    return [
        a.producer if isinstance(a, Pause) else a.held.producer
        for a in actions
        if isinstance(a, Pause | Resume)
    ]


def test_sources_are_paused_before_what_runs_in_the_background() -> None:
    found = several(wanted=True)
    assert named(*found.actions) == ["api", "cron", "backfills", "types"]
    assert [kept.producer for kept in found.entries] == NAMES  # status keeps the spec's order
    stuck = tuple(e.model_copy(update={"failed": e.producer == "api"}) for e in found.entries)
    retried = several(wanted=True, entries=stuck)
    assert named(*in_order(retried, None)) == ["cron", "backfills", "types", "api"]


def held(name: str, **changes: Any) -> PauseStatus:
    return entry(producer=name, token=f"{OWNER}/{name}/1", **changes)


def released(entries: tuple[PauseStatus, ...], *, released_at: float | None = None) -> list[str]:
    found = several(wanted=False, entries=entries)
    before = QueueBacklogPolicyStatus(
        paused=entries, released_at=None if released_at is None else later(released_at)
    )
    kept = one_release_per_window(found, before, later(90) - later(0), NOW)
    assert kept.entries == found.entries
    return named(*kept.actions)


def test_recovery_runs_backwards_one_thing_per_window() -> None:
    left = NAMES
    order = []
    while left:
        (name,) = released(tuple(held(each) for each in left))
        order.append(name)
        left = [each for each in left if each != name]
    assert order == ["types", "backfills", "cron", "api"]


def test_a_release_under_way_goes_on_without_a_window_of_its_own() -> None:
    entries = (held("api"), held("types", progress=PauseProgress.RESUMING, message="half of it"))
    assert released(entries, released_at=-15) == ["types"]
    assert released(entries, released_at=-90) == ["api", "types"]


def test_one_that_cannot_be_released_keeps_no_other_waiting() -> None:
    entries = (held("api"), held("types", failed=True))
    assert released(entries) == ["api"]


def test_each_part_of_a_release_begins_the_window_of_the_next() -> None:
    action = Resume(entry(), "recovered")
    status = QueueBacklogPolicyStatus(paused=(entry(),))
    for outcome, moment in (
        (ResumeOutcome.RESUMED, NOW),
        (ResumeOutcome.PARTLY, NOW),
        (ResumeOutcome.NOT_PAUSED, None),
        (ResumeOutcome.NOT_OURS, None),
    ):
        assert merge(status, (Result(action, Resumed(outcome)),), NOW).released_at == moment


def test_the_end_of_a_policy_releases_backwards_too() -> None:
    places = {each["name"]: next(way for way in each if way != "name") for each in SEVERAL}
    entries = tuple(held(name, locator={places[name]: "{}"}, previous="{}") for name in NAMES)
    found = release_all(entries, "the policy is deleted")
    assert named(*found.actions) == ["backfills", "types", "api", "cron"]
