"""The spec names another place while a pause is held (GitOps, in the middle of an incident): it is
released where it was made, and then the new place counts (P4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.producers.places import PLACES, STANDS, Make, Operator, braked, two_queues
from tests.producers.table import Hands

from starforge_backlog.api.status import (
    PauseState,
)
from starforge_backlog.decide.results import (
    ResumeOutcome,
)

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


@pytest.fixture
def hands(redis_url: str) -> Iterator[Any]:
    with two_queues(redis_url) as client:
        yield client


# --- the spec names another place (GitOps, in the middle of an incident) -------------------------

QUEUE = "queue"
ELSEWHERE_OF: dict[str, dict[str, Any]] = {
    "featureFlag": {"name": "other_control"},
    "backfillJobs": {"table": "other_backfills", "auditTable": "audit_of_pauses"},
    "jobTypes": {"types": ["other_type"]},
    QUEUE: {"name": "other"},
}
OTHER_ROWS = (
    "CREATE TABLE audit_of_pauses (action text, metadata jsonb)",
    "INSERT INTO feature_flags (name) VALUES ('other_control')",
    "CREATE TABLE other_backfills (LIKE backfill_jobs INCLUDING ALL)",
    "INSERT INTO other_backfills VALUES (1, 'running', 0)",
    "INSERT INTO queue_jobs (type) SELECT 'other_type' FROM generate_series(1, 5)",
)
OTHERS: dict[str, str] = {
    "featureFlag": STANDS["featureFlag"] + " WHERE name = 'other_control'",
    "backfillJobs": "SELECT bool_and(status = 'paused') FROM other_backfills",
    "jobTypes": STANDS["jobTypes"] + " AND type = 'other_type'",
}
FIRSTS: dict[str, str] = {
    "featureFlag": STANDS["featureFlag"] + " WHERE name = 'ingest_control'",
    "backfillJobs": STANDS["backfillJobs"],
    "jobTypes": STANDS["jobTypes"] + " AND type = 'backfill_range'",
}


@dataclass
class Both:
    """Two places of one kind, and who checks that they are stopped."""

    operator: Operator
    way: str
    hands: Any
    person: Hands

    def stands(self) -> tuple[bool, bool]:
        """The first place, and the other."""
        if self.way == QUEUE:
            return braked(self.hands), braked(self.hands, "other")
        return bool(self.person.one(FIRSTS[self.way])), bool(self.person.one(OTHERS[self.way]))

    def move(self) -> None:
        """As a pipeline does, without asking."""
        self.operator.place = ELSEWHERE_OF[self.way]


@pytest.fixture(params=ELSEWHERE_OF)
def both(
    request: pytest.FixtureRequest,
    make: Make,
    hands: Any,
    redis_url: str,
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
) -> Both:
    way: str = request.param
    databases[0].run(*OTHER_ROWS)
    if way == QUEUE:
        return Both(make(redis_url, way, name="etl-backfill"), way, hands, databases[0])
    # Without it nothing proves a pause whose status was never written.
    audit = {"auditTable": "audit_of_pauses"} if way == "backfillJobs" else {}
    return Both(make(pair[0], way, **PLACES[way], **audit), way, hands, databases[0])


async def test_a_changed_place_is_released_first_and_then_the_new_one_counts(both: Both) -> None:
    await both.operator.run(wanted=True)
    assert both.stands() == (True, False)
    both.move()
    await both.operator.run(wanted=True)
    assert (both.stands(), both.operator.outcome()) == ((False, False), ResumeOutcome.RESUMED)
    await both.operator.until(lambda: both.stands() == (False, True))
    assert both.operator.state is PauseState.HELD
    await both.operator.run(wanted=False)
    assert (both.stands(), both.operator.entry) == ((False, False), None)


@pytest.mark.parametrize("passes", [0, 1, 2])
@pytest.mark.parametrize("killed_in", ["pause", "release", "new pause"])
async def test_killed_on_the_way_to_another_place_and_deleted(
    both: Both, monkeypatch: pytest.MonkeyPatch, killed_in: str, passes: int
) -> None:
    """After the effect and before its status, each time; the next process goes on, or releases."""

    async def killed() -> None:
        with monkeypatch.context() as dies:
            dies.setattr("tests.producers.places.merge", lambda status, *_: status)
            await both.operator.run(wanted=True)

    await (killed() if killed_in == "pause" else both.operator.run(wanted=True))
    assert both.stands() == (True, False)
    both.move()
    await (killed() if killed_in == "release" else both.operator.run(wanted=True))
    if killed_in == "new pause":
        for _ in range(200):
            await killed()
            if both.stands() == (False, True):
                break
            await asyncio.sleep(0.1)
        assert both.stands() == (False, True)
    for _ in range(passes):
        await both.operator.run(wanted=True)
    await both.operator.delete()
    assert (both.stands(), both.operator.entry) == ((False, False), None)


async def test_a_place_is_deleted_right_after_it_was_changed(both: Both) -> None:
    await both.operator.run(wanted=True)
    both.move()
    await both.operator.delete()
    assert (both.stands(), both.operator.entry) == ((False, False), None)


async def test_another_kind_of_pause_under_the_same_name(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.way, operator.place = "jobTypes", PLACES["jobTypes"]
    await operator.until(lambda: bool(databases[0].one(STANDS["jobTypes"])))
    assert not databases[0].one(STANDS["featureFlag"])


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("way", PLACES)
async def test_another_database_url_releases_in_the_old_database_first(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands], way: str, deleted: bool
) -> None:
    here, there = databases
    operator = make(pair[0], way, **PLACES[way])
    await operator.run(wanted=True)
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    if deleted:
        await operator.delete()
    else:
        await operator.run(wanted=True)
        assert not here.one(STANDS[way])
        await operator.until(lambda: bool(there.one(STANDS[way])))
        await operator.run(wanted=False)
    assert operator.entry is None
    assert (here.one(STANDS[way]) or False, there.one(STANDS[way]) or False) == (False, False)


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("way", [*PLACES, QUEUE])
async def test_a_secret_that_is_named_again_with_each_version_moves_nothing(
    make: Make,
    hands: Any,
    redis_url: str,
    pair: tuple[str, str],
    databases: tuple[Hands, Hands],
    way: str,
    deleted: bool,
) -> None:
    """A secretGenerator's: the one before is pruned."""
    url = redis_url if way == QUEUE else pair[0]
    place = {"name": "etl-backfill"} if way == QUEUE else PLACES[way]
    operator = make("", way, **place)
    operator.secret, operator.secrets = "starforge-db-5f2", {"starforge-db-5f2": url}
    await operator.run(wanted=True)
    assert operator.state is PauseState.HELD
    operator.secret, operator.secrets = "starforge-db-8c1", {"starforge-db-8c1": url}
    if deleted:
        await operator.delete()
    else:
        for _ in range(2):
            await operator.run(wanted=True)
            assert (operator.state, operator.last) == (PauseState.HELD, ())
        assert "starforge-db-8c1" in str(operator.held.locator)
        await operator.run(wanted=False)
    assert (operator.entry, operator.outcome()) == (None, ResumeOutcome.RESUMED)
    assert not (braked(hands) if way == QUEUE else databases[0].one(STANDS[way]))


@pytest.mark.parametrize("way", PLACES)
async def test_an_old_place_out_of_reach_keeps_nobody_waiting_and_is_said(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands], way: str
) -> None:
    here, there = databases
    operator = make("", way, **PLACES[way])
    operator.secret, operator.secrets = "old", {"old": pair[0]}
    await operator.run(wanted=True)
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    await operator.until(lambda: bool(there.one(STANDS[way])))
    await operator.run(wanted=True)
    former, new = sorted(operator.status.paused, key=lambda entry: "@" not in entry.producer)
    assert (new.producer, new.state, there.one(STANDS[way])) == ("bg", PauseState.HELD, True)
    assert (former.failed, former.producer.startswith("bg@")) == (True, True)
    said = former.message
    assert "there is no Secret old" in said
    statement = said[said.index("UPDATE") : said.rindex("; then annotate")]
    operator.secrets["old"] = pair[0]
    if way == "jobTypes":
        operator.secrets.pop("old")
        here.run(statement)  # what the message says to run does it
        assert not here.one(STANDS[way])
        operator.secrets["old"] = pair[0]
    await operator.run(wanted=True)
    assert [entry.producer for entry in operator.status.paused] == ["bg"]
    assert (here.one(STANDS[way]) or False, there.one(STANDS[way])) == (False, True)


async def test_the_same_place_in_other_words_stays_paused(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    operator.place = {"table": "public.feature_flags"}
    await operator.run(wanted=True)
    assert (operator.state, operator.last) == (PauseState.HELD, ())
    await operator.run(wanted=False)
    assert (operator.entry, databases[0].one(STANDS["featureFlag"])) == (None, False)


async def test_a_database_that_was_copied_with_our_pause_in_it_is_released_in_both(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    here, there = databases
    operator = make(pair[0], "featureFlag")
    await operator.run(wanted=True)
    there.run(
        f"UPDATE feature_flags SET data = '{here.one('SELECT data::text FROM feature_flags')}'"
    )
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    for _ in range(2):
        await operator.run(wanted=True)
    stands = STANDS["featureFlag"]
    assert (here.one(stands), there.one(stands)) == (False, True)


async def test_a_place_that_is_named_again_is_held_as_before(
    make: Make, pair: tuple[str, str], databases: tuple[Hands, Hands]
) -> None:
    operator = make("", "featureFlag")
    operator.secret, operator.secrets = "old", {"old": pair[0]}
    await operator.run(wanted=True)
    token = operator.held.token
    operator.secret, operator.secrets = "new", {"new": pair[1]}
    await operator.run(wanted=True)
    operator.secret, operator.secrets = "old", {"old": pair[0]}
    await operator.run(wanted=True)
    assert (operator.held.producer, operator.held.token) == ("bg", token)
    assert databases[0].one(STANDS["featureFlag"])
