"""Where a pause is, after the spec was changed (P4): each row of the table in `pauses/moved.py`."""

from __future__ import annotations

from typing import Any

import pytest
from tests.simulator.given import NOW, OWNER, later, spec, unknown

from starforge_backlog.api.policy import QueueBacklogPolicySpec
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
from starforge_backlog.decide.order import in_order, one_release_per_window
from starforge_backlog.decide.pauses.moved import database_of, follow_places, formerly, is_former
from starforge_backlog.decide.pauses.pausing import Pausing, Producers, decide_producers
from starforge_backlog.decide.plan import Pause, Resume
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading

TOKEN = f"{OWNER}/ingestion/2026-01-01T00:00:00.000+00:00"
HERE, THERE = "system 1/db at a:5432", "system 2/db at b:5432"
PAUSED, RUNNING = FlagValue.PAUSED, FlagValue.RUNNING


def with_flag(*, secret: str = "db", **flags: dict[str, Any]) -> QueueBacklogPolicySpec:
    """Flags by the names of their producers, all of them under one breaker."""
    return spec(
        database={"url": {"secretKeyRef": {"name": secret, "key": "url"}}},
        producers=[{"name": name, "featureFlag": flag} for name, flag in flags.items()],
        breakers=[{"name": "storm", "pause": list(flags), "trip": [{"waiting": 5}]}],
    )


OLD = with_flag(ingestion={})


def held(state: PauseState = PauseState.HELD, **changes: Any) -> PauseStatus:
    entry = PauseStatus(
        producer="ingestion",
        by=PausedBy.US,
        state=state,
        since=later(-60),
        token=TOKEN,
        version="5",
        server=HERE,
        locator=OLD.locator(OLD.producers[0]),
    )
    return entry.model_copy(update=changes)


def says(value: FlagValue, where: str, token: str | None = None) -> Reading[ProducerReading]:
    return Known(ProducerReading(value, token, "5", where=ServerPlace.parse(where)), NOW)


ANOTHER_ROW = with_flag(ingestion={"name": "other"})
OTHER_WORDS = with_flag(ingestion={"table": "public.feature_flags"})
ANOTHER_SECRET = with_flag(secret="db-2", ingestion={})


@pytest.mark.parametrize(
    ("now", "reading", "moved"),
    [
        (OLD, says(RUNNING, THERE), False),
        (OLD, unknown(), False),
        (ANOTHER_SECRET, says(PAUSED, HERE, TOKEN), False),
        (ANOTHER_SECRET, says(RUNNING, HERE), False),  # resumed by a person, there
        (ANOTHER_SECRET, unknown(), False),
        (ANOTHER_SECRET, says(RUNNING, THERE), True),
        (ANOTHER_SECRET, says(PAUSED, THERE, TOKEN), True),  # a copy
        (ANOTHER_SECRET, says(RUNNING, "database db at a:5432"), True),  # cannot be compared
        (ANOTHER_SECRET, says(PAUSED, "database db at a:5432", TOKEN), False),
        (OTHER_WORDS, says(PAUSED, HERE, TOKEN), False),
        (ANOTHER_ROW, says(RUNNING, HERE), True),
        (ANOTHER_ROW, says(PAUSED, HERE, "uid-2/a/2026"), True),
        (ANOTHER_ROW, unknown(), True),
    ],
)
def test_the_table(
    now: QueueBacklogPolicySpec, reading: Reading[ProducerReading], moved: bool
) -> None:
    (entry,), readings = follow_places(now, (held(),), {"ingestion": reading}, NOW)
    assert (is_former(entry), formerly(entry)) == (moved, "ingestion")
    if moved:
        assert entry.locator == held().locator
        assert not isinstance(readings["ingestion"], Known), "made for another place"
    elif isinstance(reading, Known):
        assert entry.locator == now.locator(now.producers[0])


def test_an_intent_without_a_reading_is_settled_where_it_was_made() -> None:
    intended = held(PauseState.INTENDED, server="", version="")
    (entry,), _ = follow_places(ANOTHER_SECRET, (intended,), {"ingestion": unknown()}, NOW)
    assert is_former(entry)


@pytest.mark.parametrize("state", [PauseState.FOREIGN, PauseState.CHANGED, PauseState.OVERRIDDEN])
def test_what_others_did_at_the_old_place_is_forgotten(state: PauseState) -> None:
    reading = {"ingestion": says(RUNNING, HERE)}
    assert follow_places(ANOTHER_ROW, (held(state),), reading, NOW)[0] == ()


def decided(now: QueueBacklogPolicySpec, *entries: PauseStatus) -> Producers:
    open_ = (BreakerStatus(name="storm", state=BreakerState.OPEN, message="9 waiting"),)
    kept, readings = follow_places(now, entries, {}, NOW)
    return decide_producers(now, open_, kept, readings, Pausing(OWNER, None, None, NOW))


def test_the_old_place_first_and_then_the_new_one() -> None:
    first = decided(ANOTHER_ROW, held())
    assert [type(action) for action in first.actions] == [Resume]
    then = decided(ANOTHER_ROW)
    assert [type(action) for action in then.actions] == [Pause]


def test_what_cannot_be_released_keeps_nobody_waiting() -> None:
    (former,) = decided(ANOTHER_ROW, held()).entries
    found = decided(ANOTHER_ROW, former.model_copy(update={"failed": True}))
    assert {type(action) for action in found.actions} == {Pause, Resume}
    window = OLD.scaling.observe_for
    just_now = QueueBacklogPolicyStatus(released_at=NOW)
    kept = one_release_per_window(found, just_now, window, NOW)
    assert {type(action) for action in kept.actions} == {Pause, Resume}, "no window for a move"
    assert isinstance(in_order(kept, None)[-1], Resume), "tried last"


def test_a_release_at_the_old_place_that_goes_on_resumes_nothing_at_the_new_one() -> None:
    """It failed first, so the new place was paused; then the old one came back, and is released
    in batches while the breaker is open."""
    (old,), _ = follow_places(ANOTHER_ROW, (held(),), {}, NOW)
    old = old.model_copy(update={"progress": PauseProgress.RESUMING})
    here = ANOTHER_ROW.locator(ANOTHER_ROW.producers[0])
    new = held(since=NOW, token=f"{TOKEN}1", locator=here)
    plan = decided(ANOTHER_ROW, old, new)
    assert [a.held.producer for a in plan.actions if isinstance(a, Resume)] == [old.producer]
    assert plan.entries == (new, old)


def test_a_producer_that_takes_over_a_name_takes_no_pause_with_it() -> None:
    """The one before has another name now; its pause is its own."""
    now = with_flag(crawler={}, ingestion={"name": "other"})
    found = decided(now, held())
    assert [e.token for e in found.entries if e.producer == "crawler"] == [TOKEN]
    (pause,) = found.actions
    assert isinstance(pause, Pause)
    assert pause.producer == "ingestion"


def test_the_way_to_the_database_is_kept() -> None:
    kept = database_of(held())
    assert kept is not None
    assert kept.secret_key_ref.name == "db"
    assert database_of(held(locator={"featureFlag": "{}"})) is None
