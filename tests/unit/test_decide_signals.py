"""What the rules of a breaker see: each signal, of a queue, a type or the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.given import NOW, later, queue, seconds, spec, unknown
from tests.unit.breakers import CLOSED, HALF_OPEN, OPEN, Story, breaker

from starforge_backlog.api.policy import Scope
from starforge_backlog.api.status import BreakerStatus
from starforge_backlog.decide.breakers.breaker import (
    Limits,
    Producing,
    step,
    with_owners,
)
from starforge_backlog.decide.breakers.signals import Level, signal, signals
from starforge_backlog.snapshot import (
    Known,
    QueueReading,
    TypeReading,
    Unknown,
    Why,
)

# --- what a rule sees ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trip", "reading", "used", "percent"),
    [
        ({"waiting": 1000}, queue(1000), 0.0, 100),
        ({"waiting": 1000}, queue(250), 0.0, 25),
        ({"oldestAge": "10m"}, queue(oldest=300), 0.0, 50),
        ({"failedPercent": 5}, queue(failed=10, finished=90), 0.0, 200),
        ({"databaseUtilizationPercent": 90}, queue(), 45.0, 50),
    ],
)
def test_signals(trip: dict[str, Any], reading: QueueReading, used: float, percent: float) -> None:
    one = breaker(trip)
    found = signal(one.trip[0], one, {"jobs": reading}, Known(used, NOW))
    assert isinstance(found, Level)
    assert found.percent_of_trip == pytest.approx(percent)
    assert found.exceeds is (percent >= 100)


@pytest.mark.parametrize(
    ("trip", "reading"),
    [
        ({"waiting": 1000}, queue(unknown())),
        ({"oldestAge": "10m"}, queue(oldest=unknown())),
        ({"failedPercent": 5}, queue(outcomes=unknown())),
        ({"databaseUtilizationPercent": 90}, queue()),
    ],
)
def test_an_unknown_reading_is_an_unknown_signal(
    trip: dict[str, Any], reading: QueueReading
) -> None:
    one = breaker(trip)
    assert isinstance(signal(one.trip[0], one, {"jobs": reading}, unknown()), Unknown)


def test_waiting_is_the_sum_of_the_breakers_queues() -> None:
    queues = [{"name": "a", "postgres": {}}, {"name": "b", "postgres": {}}]
    two = spec(queues=queues).breakers[0]
    readings = {"a": queue(400), "b": queue(700)}
    whole = signal(two.trip[0], two, readings, unknown())
    assert isinstance(whole, Level)
    assert whole.text.startswith("1100 waiting")
    one = two.model_copy(update={"scope": Scope(queues=("b",))})
    part = signal(one.trip[0], one, readings, unknown())
    assert isinstance(part, Level)
    assert part.text.startswith("700 waiting")
    half = signal(two.trip[0], two, {**readings, "a": queue(unknown())}, unknown())
    assert isinstance(half, Unknown)


def test_too_few_samples_are_no_failure() -> None:
    one = breaker({"failedPercent": 5, "minSamples": 20})
    few = signal(one.trip[0], one, {"jobs": queue(failed=9, finished=10)}, unknown())
    assert isinstance(few, Level)
    assert not few.exceeds
    enough = signal(one.trip[0], one, {"jobs": queue(failed=10, finished=10)}, unknown())
    assert isinstance(enough, Level)
    assert enough.exceeds


def test_a_breaker_over_a_queue_that_is_gone_neither_trips_nor_crashes() -> None:
    one = breaker().model_copy(update={"scope": Scope(queues=("gone",))})
    assert isinstance(signal(one.trip[0], one, {"jobs": queue(9999)}, unknown()), Unknown)


def types(**parts: TypeReading) -> QueueReading:
    """A queue of which some types are reported one by one."""
    return replace(queue(9000), by_type=parts)


def part(
    waiting: int | Unknown = 0, *, failed: int = 0, finished: int = 100, oldest: float = 0
) -> TypeReading:
    whole = queue(waiting, oldest=oldest, failed=failed, finished=finished)
    return TypeReading(whole.waiting, whole.oldest_due_age, whole.outcomes)


BACKFILL = {"scope": {"type": "backfill_range"}}


@pytest.mark.parametrize(
    ("trip", "readings", "text"),
    [
        ({"waiting": 5000}, {"a": types(backfill_range=part(40))}, "40 backfill_range waiting"),
        (
            {"waiting": 5000},
            {"a": types(backfill_range=part(40)), "b": types(backfill_range=part(2))},
            "42 backfill_range waiting",
        ),
        # A queue that cannot distinguish types is left out, however long it is.
        (
            {"waiting": 5000},
            {"a": types(backfill_range=part(40)), "b": queue(9000)},
            "40 backfill_range waiting",
        ),
        (
            {"oldestAge": "30m"},
            {"a": types(backfill_range=part(oldest=60), process=part(oldest=7200))},
            "oldest backfill_range job 1m",
        ),
        (
            {"failedPercent": 5},
            {"a": types(backfill_range=part(failed=30, finished=10), process=part())},
            "75.0% of 40 backfill_range jobs failed",
        ),
    ],
)
def test_a_breaker_over_a_type_counts_its_jobs_alone(
    trip: dict[str, Any], readings: dict[str, QueueReading], text: str
) -> None:
    one = breaker(trip, **BACKFILL)
    found = signal(one.trip[0], one, readings, unknown())
    assert isinstance(found, Level), found
    assert found.text.startswith(text)


def test_a_type_in_a_queue_that_cannot_be_read_now_is_unknown_not_zero() -> None:
    one = breaker({"waiting": 5000}, **BACKFILL)
    readings = {"a": types(backfill_range=part(40)), "b": queue(unknown())}
    found = signal(one.trip[0], one, readings, unknown())
    assert isinstance(found, Unknown)
    assert found.why is Why.UNREACHABLE
    # ... but a queue that never reports what waits is none to wait for.
    never = {**readings, "b": queue(unknown(Why.NOT_IN_TABLE))}
    assert isinstance(signal(one.trip[0], one, never, unknown()), Level)


def test_a_type_that_no_queue_knows_says_what_to_do() -> None:
    one = breaker({"waiting": 5000}, **BACKFILL)
    found = signal(one.trip[0], one, {"a": queue(9000), "b": types(process=part(1))}, unknown())
    assert isinstance(found, Unknown)
    assert found.why is Why.NO_SOURCE
    assert "backfill_range" in found.message
    assert "scope.type" in found.message


def test_utilization_has_no_type() -> None:
    one = breaker({"databaseUtilizationPercent": 90}, **BACKFILL)
    found = signal(one.trip[0], one, {"a": queue()}, Known(95.0, NOW))
    assert isinstance(found, Level)
    assert found.exceeds


def test_one_failing_type_trips_its_own_breaker_only() -> None:
    """Runbook: if the failure rate for a job type exceeds a threshold, pause that type."""
    rule = {"failedPercent": 20, "for": "1m"}
    mine, others = Story(breaker(rule, **BACKFILL)), Story(breaker(rule, scope={"type": "process"}))
    bad = types(backfill_range=part(failed=30, finished=10), process=part())
    for story in (mine, others):
        story.see(bad)
        story.see(bad, after=60)
    assert (mine.states[-1], others.states[-1]) == (OPEN, CLOSED)
    assert mine.status is not None
    assert "backfill_range" in mine.status.message


OWNERS: list[dict[str, Any]] = [
    {"name": "etl", "contact": "#team-etl", "queues": ["a"]},
    {"name": "backfill", "contact": "#team-backfill", "types": ["backfill_range"]},
    {"name": "rest", "contact": "#starforge-ops"},
]


@pytest.mark.parametrize(
    ("scope", "contacts"),
    [
        ({"type": "backfill_range"}, ("#team-backfill",)),
        ({"queues": ["a"], "type": "backfill_range"}, ("#team-backfill",)),
        ({"queues": ["a"], "type": "unheard_of"}, ("#team-etl",)),
        ({"queues": ["a"]}, ("#team-etl",)),
        ({"queues": ["b"]}, ("#starforge-ops",)),
        ({}, ("#team-etl", "#starforge-ops")),
    ],
)
def test_whom_a_breaker_concerns(scope: dict[str, Any], contacts: tuple[str, ...]) -> None:
    queues = [{"name": n, "postgres": {"table": n}} for n in "ab"]
    whole = {"name": "b", "pause": ["ingestion"], "trip": [{"waiting": 9}], "scope": scope}
    policy = spec(queues=queues, owners=OWNERS, breakers=[whole])
    assert policy.owners_of(policy.breakers[0]) == contacts


def test_owners_are_named_while_it_is_not_closed() -> None:
    rule = breaker({"waiting": 1000, "for": "1m"})
    status: BreakerStatus | None = None
    named = []
    for at, waiting in ((0, 9000), (60, 9000), (120, 10), (300, 10), (900, 10)):
        reading = {"jobs": queue(waiting, at=later(at))}
        found = signals(rule, reading, unknown())
        after = step(rule, status, found, Producing(), Limits(seconds(300)), later(at))
        status = with_owners(after, ("#etl",))
        named.append((status.state, status.owners))
    assert named == [
        (CLOSED, ()),
        (OPEN, ("#etl",)),
        (OPEN, ("#etl",)),
        (HALF_OPEN, ("#etl",)),
        (CLOSED, ()),
    ]
