"""What the entry of a pause says between its passes: the place and server of its last write,
whether that failed, and nothing that is over."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.given import NOW, OWNER, later, spec

from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PausedBy,
    PauseProgress,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.outcome import merge
from starforge_backlog.decide.pauses.moved import located
from starforge_backlog.decide.pauses.outcome import ended, entry_of, locate
from starforge_backlog.decide.pauses.pausing import Pausing, Producers, decide_producers
from starforge_backlog.decide.pauses.ways import failed_before
from starforge_backlog.decide.plan import Action, Pause, Resume
from starforge_backlog.decide.results import (
    Failed,
    NotDone,
    Paused,
    PauseOutcome,
    Result,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why

INTENDED, HELD, FOREIGN = PauseState.INTENDED, PauseState.HELD, PauseState.FOREIGN
CHANGED, OVERRIDDEN, REFUSED = PauseState.CHANGED, PauseState.OVERRIDDEN, PauseState.REFUSED
TOKEN = f"{OWNER}/it/2026"
WAYS: dict[str, dict[str, Any]] = {
    "featureFlag": {"name": "a"},
    "configMap": {"name": "a"},
    "webhook": {"url": "https://a.example/pause"},
    "workload": {"name": "a"},
    "queue": {"url": {"secretKeyRef": {"name": "redis", "key": "url"}}, "name": "a"},
    "backfillJobs": {"table": "a"},
    "jobTypes": {"table": "a", "types": ["x"]},
}
HERE = "system 1/app at db:5432"
THERE = "system 2/app at db:5432"


def whole(way: str, place: dict[str, Any]) -> Any:
    return spec(
        producers=[{"name": "it", way: place}],
        breakers=[{"name": "it", "pause": ["it"], "trip": [{"waiting": 9}]}],
    )


def entry(state: PauseState = HELD, **changes: Any) -> PauseStatus:
    given: dict[str, Any] = {
        "producer": "it",
        "by": PausedBy.US,
        "state": state,
        "since": later(-600),
        "token": TOKEN,
        "version": "5",
    }
    return PauseStatus(**{**given, **changes})


def says(
    value: FlagValue, *, token: str | None = TOKEN, version: str = "5", where: str = HERE
) -> Reading[ProducerReading]:
    return Known(ProducerReading(value, token, version, where=ServerPlace.parse(where)), NOW)


RUNS, STANDS = says(FlagValue.RUNNING, token=None), says(FlagValue.PAUSED)


def decided(
    before: PauseStatus,
    reading: Reading[ProducerReading],
    *,
    wanted: bool,
    way: str = "featureFlag",
) -> Producers:
    state = BreakerState.OPEN if wanted else BreakerState.CLOSED
    return decide_producers(
        whole(way, WAYS[way]),
        (BreakerStatus(name="it", state=state, message="x"),),
        (before,),
        {"it": reading},
        Pausing(OWNER, None, None, NOW),
    )


def after(before: PauseStatus, action: Action, got: Any) -> PauseStatus | None:
    status = merge(QueueBacklogPolicyStatus(paused=(before,)), (Result(action, got),), NOW)
    return status.paused[0] if status.paused else None


PAUSE = Pause("it", "it", TOKEN, "x")


# --- the place ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_pause_that_is_corrected_names_the_new_place(way: str) -> None:
    typo = whole(way, WAYS[way])
    other = {**WAYS[way], **{k: f"{v}b" for k, v in WAYS[way].items() if isinstance(v, str)}}
    corrected = whole(way, other)
    status = QueueBacklogPolicyStatus(paused=(entry(INTENDED),))
    status = locate(status, typo, (PAUSE,))
    status = merge(status, (Result(PAUSE, Paused(PauseOutcome.ROW_MISSING)),), NOW)
    assert status.paused[0].state is REFUSED
    found = decide_producers(
        corrected,
        (BreakerStatus(name="it", state=BreakerState.OPEN, message="x"),),
        status.paused,
        {},
        Pausing(OWNER, None, None, NOW),
    )
    status = locate(status.model_copy(update={"paused": found.entries}), corrected, found.actions)
    (intent,) = status.paused
    kept = located(intent)
    assert kept is not None
    assert kept.place == corrected.producers[0].place
    assert intent.state is INTENDED, "killed after the write, it is released"
    assert entry_of(corrected, corrected.producers[0], status.paused) is intent


def test_the_place_of_a_pause_that_is_held_or_not_written_now_stays() -> None:
    here, there = whole("configMap", {"name": "a"}), whole("configMap", {"name": "b"})
    for state, actions in ((HELD, (PAUSE,)), (REFUSED, ()), (INTENDED, ())):
        status = QueueBacklogPolicyStatus(paused=(entry(state),))
        status = locate(status, here, (PAUSE,))
        assert locate(status, there, actions) == status


def test_what_stays_refused_is_written_once() -> None:
    """Rows of a table are the same while they refuse; other places say so."""
    missing = Unknown(Why.ROW_MISSING, "no such row", NOW)
    for way, reading in (("featureFlag", missing), ("jobTypes", RUNS), ("backfillJobs", RUNS)):
        place = whole(way, WAYS[way])
        refused = QueueBacklogPolicyStatus(paused=(entry(REFUSED, server=HERE, message="no"),))
        refused = locate(refused, place, (PAUSE,))
        where = HERE if reading is RUNS else ""
        refused = refused.model_copy(
            update={"paused": (refused.paused[0].model_copy(update={"server": where}),)}
        )
        found = decided(refused.paused[0], reading, wanted=True, way=way)
        assert len(found.actions) == 1
        assert found.entries == refused.paused


def test_a_refused_pause_that_may_have_happened_this_time_is_intended() -> None:
    assert (got := after(entry(REFUSED), PAUSE, Failed(NotDone.CONFLICT, "late"))) is not None
    assert got.state is INTENDED
    assert (got := after(entry(REFUSED), PAUSE, Failed(Why.NO_PERMISSION, "no"))) is not None
    assert got.state is REFUSED


@pytest.mark.parametrize("outcome", [PauseOutcome.ROW_MISSING, PauseOutcome.BAD_SHAPE])
def test_what_is_held_is_not_forgotten_because_the_rest_is_refused(outcome: PauseOutcome) -> None:
    got = after(entry(HELD, previous="{}"), PAUSE, Paused(outcome, message="a CHECK refuses"))
    assert got is not None
    assert (got.state, got.previous, got.message) == (HELD, "{}", "a CHECK refuses")
    assert failed_before(got)


# --- the server --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [HELD, INTENDED])
@pytest.mark.parametrize("way", ["featureFlag", "queue", "backfillJobs", "jobTypes"])
@pytest.mark.parametrize("value", [FlagValue.RUNNING, FlagValue.PAUSED])
def test_another_server_says_nothing_about_a_pause(
    state: PauseState, way: str, value: FlagValue
) -> None:
    before = entry(state, server=HERE, progress=PauseProgress.PARTIAL)
    there = says(value, token=None, where=THERE)
    found = decided(before, there, wanted=True, way=way)
    assert found.actions == ()
    assert (found.entries[0].state, found.entries[0].server) == (state, HERE)
    assert "point the Secret back" in found.entries[0].message
    again = decided(found.entries[0], there, wanted=True, way=way)
    assert again.entries == found.entries, "nothing to write twice"
    (action,) = decided(before, there, wanted=False, way=way).actions
    assert isinstance(action, Resume)
    assert action.held.server == HERE


def test_our_token_proves_the_pause_at_any_server_where_it_can_be_read() -> None:
    moved = says(FlagValue.PAUSED, where=THERE)
    for way, found in (("featureFlag", True), ("queue", True), ("jobTypes", False)):
        got = decided(entry(server=HERE), moved, wanted=True, way=way)
        assert ("point" not in got.entries[0].message) is found


def test_the_intent_names_the_server_and_the_result_keeps_it() -> None:
    found = decide_producers(
        whole("featureFlag", {}),
        (BreakerStatus(name="it", state=BreakerState.OPEN, message="x"),),
        (),
        {"it": RUNS},
        Pausing(OWNER, None, None, NOW),
    )
    (intent,) = found.entries
    assert intent.server == HERE
    got = after(intent, PAUSE, Paused(PauseOutcome.PAUSED, "7"))
    assert got is not None
    assert got.server == HERE


def test_an_older_entry_learns_its_server_from_our_token_alone() -> None:
    assert decided(entry(), STANDS, wanted=True).entries[0].server == HERE
    unmarked = says(FlagValue.PAUSED, token=None)
    assert decided(entry(), unmarked, wanted=True).entries[0].server == ""
    assert decided(entry(), STANDS, wanted=True, way="jobTypes").entries[0].server == ""


# --- what failed, and what is over -------------------------------------------------------------


def test_a_message_is_no_failure() -> None:
    kept = after(entry(INTENDED), PAUSE, Paused(PauseOutcome.PAUSED, "5", message="2 stay paused"))
    assert kept is not None
    assert (kept.message, failed_before(kept)) == ("2 stay paused", False)
    stuck = after(kept, PAUSE, Failed(Why.NO_PERMISSION, "may not"))
    assert stuck is not None
    assert failed_before(stuck)
    assert failed_before(entry(REFUSED))


@pytest.mark.parametrize(
    ("before", "reading", "state"),
    [
        (OVERRIDDEN, STANDS, HELD),
        (HELD, RUNS, OVERRIDDEN),
        (HELD, says(FlagValue.PAUSED, version="6"), CHANGED),
        (HELD, says(FlagValue.PAUSED, token="other/it/2026"), FOREIGN),
        (OVERRIDDEN, says(FlagValue.PAUSED, token=None), FOREIGN),
    ],
)
def test_what_was_said_of_the_state_before_is_over(
    before: PauseState, reading: Reading[ProducerReading], state: PauseState
) -> None:
    old = entry(before, message="an old sentence", failed=True)
    (found,) = decided(old, reading, wanted=True).entries
    assert (found.state, found.failed) == (state, False)
    assert found.message != "an old sentence"


def test_a_release_that_failed_and_is_not_wanted_any_more_is_over() -> None:
    old = entry(message="may not", failed=True)
    (found,) = decided(old, STANDS, wanted=True).entries
    assert (found.message, found.failed) == ("", False)
    (kept,) = decided(old, STANDS, wanted=False).entries
    assert kept.failed, "tried again after the others"


def test_nothing_left_of_a_release_in_parts_was_ours() -> None:
    gone = Resumed(ResumeOutcome.NOT_PAUSED, "somebody released them")
    assert ended(entry(progress=PauseProgress.RESUMING), gone) == Resumed(ResumeOutcome.RESUMED)
    assert ended(entry(), gone) == gone
    theirs = Resumed(ResumeOutcome.NOT_OURS)
    assert ended(entry(progress=PauseProgress.RESUMING), theirs) == theirs
