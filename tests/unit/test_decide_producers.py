"""Pause and release: each row of the table in `pauses/pausing.py`, and whose pause it is (P4)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tests.simulator.given import NOW, OWNER, flag, later, spec, unknown

from starforge_backlog.api.policy import FeatureFlag
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseState,
    PauseStatus,
)
from starforge_backlog.decide.pauses.pausing import (
    Pausing,
    Producers,
    decide_producers,
    release_all,
)
from starforge_backlog.decide.pauses.standing import stopped, with_unrecorded
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Why

PAUSED, RUNNING = FlagValue.PAUSED, FlagValue.RUNNING
INTENDED, HELD, FOREIGN = PauseState.INTENDED, PauseState.HELD, PauseState.FOREIGN
CHANGED, OVERRIDDEN, REFUSED = PauseState.CHANGED, PauseState.OVERRIDDEN, PauseState.REFUSED
UNRECORDED = PauseState.UNRECORDED
TOKEN = f"{OWNER}/ingestion/2026"
THEIRS = "uid-2/ingestion/2026"


def entry(state: PauseState, **changes: Any) -> PauseStatus:
    """An entry of a minute ago; a pause of ours has version 5."""
    whole: dict[str, Any] = {
        "producer": "ingestion",
        "by": PausedBy.OTHER if state in {FOREIGN, OVERRIDDEN} else PausedBy.US,
        "state": state,
        "since": later(-60),
        "token": TOKEN,
        "version": "5" if state is not INTENDED else "",
        "breaker": "ingestion",
    }
    return PauseStatus(**{**whole, **changes})


AT = Pausing(OWNER, None, None, NOW)


def says(
    value: FlagValue, token: str | None = None, version: str = "5"
) -> Reading[ProducerReading]:
    return flag(value, token=token, version=version)


def left(token: str | None) -> Reading[ProducerReading]:
    """It runs, and a person who lifts a pause leaves its token: a queue of BullMQ."""
    return Known(ProducerReading(RUNNING, token, "", leaves_token=True), NOW)


def decided(
    before: PauseStatus | None,
    reading: Reading[ProducerReading] | None,
    *,
    wanted: bool,
    released_at: datetime | None = None,
    **more: Any,
) -> Producers:
    parts = more.pop("parts", {})
    state = BreakerState.OPEN if wanted else BreakerState.HALF_OPEN
    return decide_producers(
        spec(**parts),
        (BreakerStatus(name="ingestion", state=state, message="5200 waiting"),),
        () if before is None else (before,),
        {} if reading is None else {"ingestion": reading},
        Pausing(OWNER, 12.3, released_at, NOW, more.pop("abandon", False)),
        **more,
    )


def state(found: Producers) -> PauseState | None:
    """The one entry's state; None: no entry."""
    assert len(found.entries) <= 1
    return found.entries[0].state if found.entries else None


NOTHING, PAUSES, RESUMES = (), (Pause,), (Resume,)


@pytest.mark.parametrize(
    ("before", "reading", "when_wanted", "does", "when_not", "does_not"),
    [
        (None, says(RUNNING), INTENDED, PAUSES, None, NOTHING),
        (None, unknown(), INTENDED, PAUSES, None, NOTHING),
        (None, None, INTENDED, PAUSES, None, NOTHING),
        (None, says(PAUSED), FOREIGN, NOTHING, FOREIGN, NOTHING),
        (None, says(PAUSED, THEIRS), FOREIGN, NOTHING, FOREIGN, NOTHING),
        (None, says(PAUSED, TOKEN), UNRECORDED, NOTHING, UNRECORDED, NOTHING),
        (INTENDED, says(RUNNING), INTENDED, PAUSES, None, NOTHING),
        (INTENDED, unknown(), INTENDED, PAUSES, INTENDED, NOTHING),
        (INTENDED, says(PAUSED, TOKEN), INTENDED, PAUSES, HELD, RESUMES),
        (INTENDED, says(PAUSED), INTENDED, PAUSES, None, NOTHING),
        (INTENDED, says(PAUSED, THEIRS), INTENDED, PAUSES, None, NOTHING),
        (HELD, says(RUNNING), OVERRIDDEN, NOTHING, None, NOTHING),
        (HELD, left(TOKEN), OVERRIDDEN, NOTHING, None, NOTHING),
        # A failover took it along; what an earlier pause left there says nothing.
        (HELD, left(None), INTENDED, PAUSES, None, NOTHING),
        (HELD, left(f"{OWNER}/ingestion/2025"), INTENDED, PAUSES, None, NOTHING),
        (HELD, says(PAUSED, TOKEN), HELD, NOTHING, HELD, RESUMES),
        (HELD, says(PAUSED, TOKEN, "6"), CHANGED, NOTHING, CHANGED, NOTHING),
        (HELD, says(PAUSED, THEIRS), FOREIGN, NOTHING, FOREIGN, NOTHING),
        # Without a mark (`writeOwner: false`) the version alone shows it.
        (HELD, says(PAUSED, None), HELD, NOTHING, HELD, RESUMES),
        (HELD, says(PAUSED, None, "6"), CHANGED, NOTHING, CHANGED, NOTHING),
        # A release is a compare-and-set: it may be tried where the reading is missing.
        (HELD, unknown(), HELD, NOTHING, HELD, RESUMES),
        (FOREIGN, says(PAUSED), FOREIGN, NOTHING, FOREIGN, NOTHING),
        (FOREIGN, unknown(), FOREIGN, NOTHING, FOREIGN, NOTHING),
        (FOREIGN, says(RUNNING), OVERRIDDEN, NOTHING, None, NOTHING),
        (CHANGED, says(PAUSED, TOKEN, "6"), CHANGED, NOTHING, CHANGED, NOTHING),
        (CHANGED, says(RUNNING), OVERRIDDEN, NOTHING, None, NOTHING),
        (OVERRIDDEN, says(RUNNING), OVERRIDDEN, NOTHING, None, NOTHING),
        (OVERRIDDEN, says(PAUSED), FOREIGN, NOTHING, FOREIGN, NOTHING),
        # Read too early, it seemed resumed: forgotten now, it would be paused for ever.
        (OVERRIDDEN, says(PAUSED, TOKEN), HELD, NOTHING, HELD, RESUMES),
        (OVERRIDDEN, says(PAUSED, TOKEN, "6"), CHANGED, NOTHING, CHANGED, NOTHING),
        (UNRECORDED, says(PAUSED, TOKEN), UNRECORDED, NOTHING, UNRECORDED, NOTHING),
        (UNRECORDED, says(PAUSED, None), UNRECORDED, NOTHING, UNRECORDED, NOTHING),
        (UNRECORDED, says(PAUSED, THEIRS), FOREIGN, NOTHING, FOREIGN, NOTHING),
        (UNRECORDED, says(RUNNING), OVERRIDDEN, NOTHING, None, NOTHING),
        (UNRECORDED, unknown(), UNRECORDED, NOTHING, UNRECORDED, NOTHING),
        (REFUSED, unknown(), REFUSED, PAUSES, None, NOTHING),
    ],
)
def test_the_table(
    before: PauseState | None,
    reading: Reading[ProducerReading] | None,
    when_wanted: PauseState | None,
    does: tuple[type, ...],
    when_not: PauseState | None,
    does_not: tuple[type, ...],
) -> None:
    remembered = entry(before) if before is not None else None
    wanted = decided(remembered, reading, wanted=True)
    assert (state(wanted), tuple(map(type, wanted.actions))) == (when_wanted, does)
    unwanted = decided(remembered, reading, wanted=False)
    assert (state(unwanted), tuple(map(type, unwanted.actions))) == (when_not, does_not)


@pytest.mark.parametrize("before", [HELD, INTENDED])
@pytest.mark.parametrize(
    ("reading", "when_wanted", "when_not"),
    [
        (says(PAUSED, TOKEN), UNRECORDED, UNRECORDED),
        (says(PAUSED, None), UNRECORDED, UNRECORDED),
        (says(PAUSED, THEIRS), FOREIGN, FOREIGN),
        (unknown(), UNRECORDED, UNRECORDED),
        (None, UNRECORDED, UNRECORDED),
        (says(RUNNING), OVERRIDDEN, None),
        (left(None), OVERRIDDEN, None),
    ],
)
def test_without_memory_nothing_is_paused_again_and_nothing_resumed(
    before: PauseState,
    reading: Reading[ProducerReading] | None,
    when_wanted: PauseState | None,
    when_not: PauseState | None,
) -> None:
    """`status.memory` was cleared: the entry has no token."""
    cleared = entry(before, token="", version="", breaker="ingestion")
    for wanted, then in ((True, when_wanted), (False, when_not)):
        found = decided(cleared, reading, wanted=wanted)
        assert (state(found), found.actions) == (then, ())
    released = release_all((cleared,), "the policy is deleted")
    assert released.actions == ()
    assert [kept.state for kept in released.entries] == [UNRECORDED]


def test_a_pause_without_a_record_names_what_releases_it() -> None:
    by_person = "When it is safe, in the database run: UPDATE ..."
    reading = Known(ProducerReading(PAUSED, TOKEN, "5", release=by_person), NOW)
    (found,) = decided(None, reading, wanted=False).entries
    assert found.by is PausedBy.US
    assert found.message.endswith(by_person)
    (again,) = decided(found, reading, wanted=True).entries
    assert again == found, "a steady status is written once"


def test_a_pause_of_ours_that_met_the_new_one_is_not_called_anothers() -> None:
    """The status was lost, and the producer not read before it was to be paused again."""
    met = entry(FOREIGN, token=f"{OWNER}/ingestion/2027", foreign_token="")
    found = decided(met, says(PAUSED, TOKEN), wanted=False)
    assert (state(found), found.entries[0].by, found.actions) == (UNRECORDED, PausedBy.US, ())


def test_a_pause_without_a_record_of_a_producer_that_is_gone_waits_for_a_person() -> None:
    gone = entry(HELD, producer="old", token="", version="")
    first = decided(gone, None, wanted=False)
    assert state(first) is UNRECORDED
    assert decided(first.entries[0], None, wanted=False).entries == first.entries
    assert decided(first.entries[0], None, wanted=False, abandon=True).entries == ()


def test_a_pause_without_a_record_that_cannot_be_read_waits_for_a_person() -> None:
    api = {"name": "ingestion", "webhook": {"url": "https://api", "readable": False}}
    unread = unknown(Why.NOT_CONFIGURED)
    kept = entry(UNRECORDED, token="", version="")
    for wanted in (True, False):
        found = decided(kept, unread, wanted=wanted, parts={"producers": [api]})
        assert (found.entries, found.actions) == ((kept,), ())
    given_up = decided(kept, unread, wanted=False, parts={"producers": [api]}, abandon=True)
    assert (given_up.entries, given_up.actions) == ((), ())
    flag_kept = decided(kept, says(PAUSED, TOKEN), wanted=False, abandon=True)
    assert state(flag_kept) is UNRECORDED, "what can be read is paused, whatever is annotated"


def test_a_refused_pause_without_memory_is_made_under_a_new_token() -> None:
    """Never under none: it could not be released."""
    refused = entry(REFUSED, token="", version="")
    found = decided(refused, says(RUNNING), wanted=True)
    (action,) = found.actions
    assert isinstance(action, Pause)
    assert action.token == found.entries[0].token
    assert action.token.startswith(f"{OWNER}/")


def test_a_version_that_is_lost_is_that_of_our_token() -> None:
    lost = entry(HELD, version="")
    found = decided(lost, says(PAUSED, TOKEN, "9"), wanted=True)
    assert (state(found), found.entries[0].version) == (HELD, "9")
    assert state(decided(lost, says(PAUSED, None, "9"), wanted=True)) is CHANGED


@pytest.mark.parametrize("way", ["backfillJobs", "jobTypes"])
def test_a_pause_of_rows_without_what_it_covers_has_no_record(way: str) -> None:
    lost = entry(HELD, locator={way: "{}"}, previous=None)
    assert [kept.state for kept in with_unrecorded((lost,))] == [UNRECORDED]
    whole = lost.model_copy(update={"previous": "{}"})
    intended = lost.model_copy(update={"state": INTENDED})
    assert with_unrecorded((whole, intended)) == (whole, intended)


def test_what_was_lost_is_paused_again_once() -> None:
    """Another client may take a pause away with all its traces; that is not fought (P9)."""
    again = decided(entry(HELD), left(None), wanted=True)
    assert [action.token for action in again.actions if isinstance(action, Pause)] == [TOKEN]
    assert "lost" in again.entries[0].message
    held = again.entries[0].model_copy(update={"state": HELD})
    assert state(decided(held, left(None), wanted=True)) is OVERRIDDEN


def test_the_intent_names_a_token_before_it_is_written() -> None:
    found = decided(None, says(RUNNING), wanted=True)
    (action,) = found.actions
    (intent,) = found.entries
    assert isinstance(action, Pause)
    assert action.token == intent.token == f"{OWNER}/ingestion/2026-01-01T01:00:00.000+00:00"
    assert action.why == "5200 waiting"
    assert intent.arrivals_before == 12.0


def test_a_pause_is_tried_again_under_the_same_token() -> None:
    again = decided(entry(INTENDED), unknown(), wanted=True)
    (action,) = again.actions
    assert isinstance(action, Pause)
    assert action.token == TOKEN


def test_what_settles_knows_its_version() -> None:
    found = decided(entry(INTENDED), says(PAUSED, TOKEN, "9"), wanted=False)
    (action,) = found.actions
    assert isinstance(action, Resume)
    assert action.held.version == "9"


def test_without_a_mark_a_kill_leaves_the_pause_to_a_person_and_says_so() -> None:
    unmarked = {"producers": [{"name": "ingestion", "featureFlag": {"writeOwner": False}}]}
    found = decided(entry(INTENDED), says(PAUSED), wanted=False, parts=unmarked)
    assert (state(found), found.actions) == (CHANGED, ())
    assert "by hand" in found.entries[0].message


@pytest.mark.parametrize("late", [0, 60])
def test_a_reading_of_before_our_write_says_nothing_about_it(late: float) -> None:
    then = later(-60 - late)
    found = decided(entry(HELD), flag(RUNNING, at=then), wanted=True)
    assert state(found) is HELD
    changed = decided(entry(HELD), flag(PAUSED, token=TOKEN, version="4", at=then), wanted=False)
    assert [type(action) for action in changed.actions] == [Resume]


def test_a_reading_of_before_our_release_is_not_somebodys_pause() -> None:
    old = flag(PAUSED, token=TOKEN, at=later(-30))
    assert state(decided(None, old, wanted=False, released_at=later(-15))) is None
    assert state(decided(None, old, wanted=False, released_at=later(-45))) is UNRECORDED


@pytest.mark.parametrize("before", [HELD, INTENDED])
def test_nothing_is_released_while_a_signal_cannot_be_read(before: PauseState) -> None:
    unreadable = frozenset({"ingestion"})
    found = decided(entry(before), says(PAUSED, TOKEN), wanted=False, unreadable=unreadable)
    assert (state(found), found.actions) == (before, ())


def test_one_open_breaker_is_enough_to_keep_a_pause() -> None:
    two = [{"name": name, "pause": ["ingestion"], "trip": [{"waiting": 9}]} for name in ("a", "b")]
    found = decide_producers(
        spec(breakers=two),
        (
            BreakerStatus(name="a", state=BreakerState.CLOSED),
            BreakerStatus(name="b", state=BreakerState.OPEN),
        ),
        (entry(HELD),),
        {"ingestion": says(PAUSED, TOKEN)},
        AT,
    )
    assert (state(found), found.actions) == (HELD, ())


@pytest.mark.parametrize(
    ("before", "does"), [(HELD, RESUMES), (INTENDED, RESUMES), (FOREIGN, NOTHING)]
)
def test_a_producer_that_the_spec_forgot_is_released(
    before: PauseState, does: tuple[type, ...]
) -> None:
    gone: dict[str, Any] = {"producers": [], "breakers": []}
    found = decided(entry(before), None, wanted=False, parts=gone)
    assert tuple(map(type, found.actions)) == does


RENAMED: dict[str, Any] = {
    "producers": [{"name": "intake", "featureFlag": {}}],
    "breakers": [{"name": "ingestion", "pause": ["intake"], "trip": [{"waiting": 9}]}],
}
PLACE = {"featureFlag": FeatureFlag().model_dump_json(by_alias=True)}


@pytest.mark.parametrize(
    ("before", "reading"),
    [
        (entry(HELD, previous="false"), says(PAUSED, TOKEN)),
        (entry(HELD, previous="false", locator=PLACE), unknown()),
        (entry(HELD, previous="false", locator=PLACE), says(PAUSED, None)),  # no mark is written
    ],
)
def test_a_producer_that_is_renamed_under_its_pause_stays_paused(
    before: PauseStatus, reading: Reading[ProducerReading]
) -> None:
    open_ = (BreakerStatus(name="ingestion", state=BreakerState.OPEN),)
    readings = {"intake": reading}
    found = decide_producers(spec(**RENAMED), open_, (before,), readings, AT)
    assert found.actions == ()
    assert found.entries == (before.model_copy(update={"producer": "intake"}),)
    # ... and is released once, under its new name, with the value of before.
    let_go = decide_producers(spec(**RENAMED), (), found.entries, readings, AT)
    (action,) = let_go.actions
    assert isinstance(action, Resume)
    assert (action.held.producer, action.held.previous) == ("intake", "false")


def test_two_entries_of_one_pause_release_nothing_while_it_is_wanted() -> None:
    """As older versions left them in status."""
    open_ = (BreakerStatus(name="ingestion", state=BreakerState.OPEN),)
    both = (entry(HELD), entry(HELD, producer="intake"))
    readings = {"intake": says(PAUSED, TOKEN)}
    found = decide_producers(spec(**RENAMED), open_, both, readings, AT)
    assert (found.actions, found.entries) == ((), both[1:])


ALICE = "alice, see ticket 7"


@pytest.mark.parametrize(
    ("stood_there", "reading", "expected"),
    [
        (THEIRS, says(RUNNING), INTENDED),  # another policy let go: nobody's decision
        (TOKEN, says(RUNNING), INTENDED),
        (THEIRS, says(RUNNING, "uid-3/ingestion/2026"), INTENDED),
        # The runbook's UPDATE leaves the mark where it stands: a person lifted that pause.
        (THEIRS, says(RUNNING, THEIRS), OVERRIDDEN),
        ("", says(RUNNING), OVERRIDDEN),
        (ALICE, says(RUNNING), OVERRIDDEN),
    ],
)
def test_who_let_go_of_somebody_elses_pause(
    stood_there: str, reading: Reading[ProducerReading], expected: PauseState
) -> None:
    theirs = entry(FOREIGN, foreign_token=stood_there, token="")
    found = decided(theirs, reading, wanted=True)
    assert state(found) is expected
    if expected is INTENDED:
        (action,) = found.actions
        assert isinstance(action, Pause)
        assert action.token == found.entries[0].token != stood_there
    assert decided(theirs, reading, wanted=False).entries == ()


@pytest.mark.parametrize(
    "before",
    [None, entry(HELD), entry(OVERRIDDEN), entry(FOREIGN), entry(FOREIGN, foreign_token=ALICE)],
)
def test_whose_pause_it_is_is_remembered(before: PauseStatus | None) -> None:
    found = decided(before, says(PAUSED, THEIRS), wanted=True)
    assert (state(found), found.entries[0].foreign_token) == (FOREIGN, THEIRS)
    again = decided(found.entries[0], says(PAUSED, THEIRS), wanted=True)
    assert again.entries == found.entries  # nothing to write twice
    older = found.entries[0].model_copy(update={"since": later(-60)})
    by_hand = decided(older, says(PAUSED, None, "6"), wanted=True)
    assert by_hand.entries[0].foreign_token == ""


@pytest.mark.parametrize(
    ("before", "reading", "paused", "freed"),
    [
        (None, says(RUNNING), False, False),
        (None, None, False, False),
        (None, unknown(), False, False),
        (None, says(PAUSED, THEIRS), True, False),
        (HELD, says(RUNNING), True, False),
        (INTENDED, unknown(), True, False),
        (FOREIGN, says(PAUSED), True, False),
        (FOREIGN, unknown(), True, False),
        (FOREIGN, says(RUNNING), False, True),
        (CHANGED, says(RUNNING), False, True),
        (CHANGED, None, True, False),
        (OVERRIDDEN, says(RUNNING), False, False),
        (OVERRIDDEN, says(PAUSED), True, False),
        (REFUSED, unknown(), False, False),
    ],
)
def test_what_does_not_run(
    before: PauseState | None,
    reading: Reading[ProducerReading] | None,
    paused: bool,
    freed: bool,
) -> None:
    entries = () if before is None else (entry(before),)
    readings = {} if reading is None else {"ingestion": reading}
    found = stopped(entries, readings, None)
    assert (found.paused, found.freed) == (
        frozenset({"ingestion"} if paused else ()),
        frozenset({"ingestion"} if freed else ()),
    )


def test_what_we_released_just_now_is_not_paused_by_an_older_reading() -> None:
    old = flag(PAUSED, token=TOKEN, at=later(-30))
    assert stopped((), {"ingestion": old}, later(-15)).paused == frozenset()


def test_deletion_releases_ours_and_only_ours() -> None:
    states = (HELD, INTENDED, FOREIGN, CHANGED, OVERRIDDEN, REFUSED)
    entries = tuple(entry(each, producer=each.value) for each in states)
    found = release_all(entries, "the policy is deleted")
    released = [action.held.state for action in found.actions if isinstance(action, Resume)]
    assert released == [HELD, INTENDED]
    assert found.entries == entries


def test_what_could_not_be_released_before_comes_last() -> None:
    stuck = entry(HELD, producer="stuck", message="permission denied", failed=True)
    healthy = entry(HELD, message="20 jobs are held back")
    found = release_all((stuck, healthy), "the policy is deleted")
    released = [a.held.producer for a in found.actions if isinstance(a, Resume)]
    assert released == ["ingestion", "stuck"]
