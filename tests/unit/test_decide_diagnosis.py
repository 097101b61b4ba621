"""Is it bad, why, and how many replicas does it need? Objectives, diagnosis, need, freshness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    at_least,
    later,
    queue,
    seconds,
    seen,
    spec,
    unknown,
    workload,
)

from starforge_backlog.api.status import ScalingStatus, Step, StepFailure, StepVerdict
from starforge_backlog.decide.assess.diagnosis import diagnose
from starforge_backlog.decide.assess.freshness import fresh, judged
from starforge_backlog.decide.assess.need import (
    chance,
    demand,
    load,
    measured_per_replica,
    need,
    steady_need,
)
from starforge_backlog.decide.assess.objectives import missed
from starforge_backlog.decide.assess.retries import retry_storm
from starforge_backlog.decide.plan import Cause
from starforge_backlog.snapshot import Consumers, Known, QueueReading, Unknown, Why

JOBS = spec().queues[0]
BACKFILL = spec(queues=[{"name": "backfill", "priority": "Background", "postgres": {}}]).queues[0]
WINDOW = seconds(90)


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (queue(500), ()),
        (queue(501), ("waiting 501 > 500",)),
        (queue(at_least(10_000)), ("waiting ≥10000 > 500",)),
        (queue(oldest=1800), ()),
        (queue(oldest=1801), ("oldest 30m1s > 30m",)),
        (queue(failed=1, finished=99), ()),
        (queue(failed=2, finished=98), ("failed 2.0% > 1%",)),
        # One failure of three is noise, not 33 %.
        (queue(failed=1, finished=2), ()),
        (queue(failed=10, finished=9), ()),
        (queue(failed=10, finished=10), ("failed 50.0% > 1%",)),
        # Unknown misses nothing.
        (queue(unknown(), oldest=unknown(), outcomes=unknown()), ()),
    ],
)
def test_objectives(reading: QueueReading, words: tuple[str, ...]) -> None:
    assert tuple(map(str, missed(JOBS, reading))) == words


def test_backfills_may_wait_for_a_day() -> None:
    assert missed(BACKFILL, queue(oldest=24 * 3600)) == ()
    assert missed(BACKFILL, queue(oldest=24 * 3600 + 1)) != ()


KNOWN_RATE = ScalingStatus(throughput_per_replica=1.0)
FAILED_STEP = ScalingStatus(
    last_step=Step(
        from_=4,
        to=6,
        message="",
        at=NOW,
        verdict=StepVerdict.FAILED,
        verdict_message="throughput 4 -> 4 jobs/s: the step added nothing",
        failed_by=StepFailure.THROUGHPUT,
    )
)


def works(
    throughput: float,
    *,
    live: int | None = 1,
    held: int = 0,
    orphaned: int = 0,
    paused_by: str = "",
    limited_by: str = "",
    oldest: float = 60,
    waiting: int = 9,
) -> QueueReading:
    """A queue that reports its workers."""
    consumers = Consumers(live, orphaned, 0, paused_by, held, limited_by)
    reading = queue(waiting, throughput=throughput, oldest=oldest)
    return replace(reading, consumers=Known(consumers, NOW))


@pytest.mark.parametrize(
    ("reading", "pods", "scaling", "signs", "causes"),
    [
        (queue(0), workload(), KNOWN_RATE, (), []),
        # Nothing waits: pods that are down hurt nobody.
        (queue(0), workload(4, ready=0), KNOWN_RATE, (), []),
        (queue(9), workload(4, ready=0), KNOWN_RATE, (), [Cause.CONSUMER_OUTAGE]),
        (queue(9), workload(4, crash_looping=1), KNOWN_RATE, (), [Cause.CONSUMER_OUTAGE]),
        (queue(9), workload(4, oom_killed=1), KNOWN_RATE, (), [Cause.CONSUMER_OUTAGE]),
        # Some crash, but work is done.
        (queue(9, throughput=1.0), workload(4, crash_looping=1), KNOWN_RATE, (), []),
        (queue(9), workload(), KNOWN_RATE, ("5 wait",), [Cause.DATABASE_PRESSURE]),
        (queue(9), workload(), KNOWN_RATE, None, []),
        (queue(9, arrivals=4.5), workload(), KNOWN_RATE, (), [Cause.PRODUCER_STORM]),
        (queue(9, arrivals=4.3), workload(), KNOWN_RATE, (), []),
        (queue(9, arrivals=9.0), workload(), ScalingStatus(), (), []),
        (queue(9, arrivals=unknown()), workload(), KNOWN_RATE, (), []),
        (queue(9), workload(), FAILED_STEP, (), [Cause.SLOW_PROCESSING]),
        (queue(0), workload(), FAILED_STEP, (), []),
        # Workers that are connected and hang, or that work on another queue.
        (works(0, live=3, orphaned=2), workload(), KNOWN_RATE, (), [Cause.CONSUMER_OUTAGE]),
        (works(0, live=0), workload(), KNOWN_RATE, (), [Cause.CONSUMER_OUTAGE]),
        (works(0, live=3, held=1), workload(), KNOWN_RATE, (), []),
        (works(1, live=3), workload(), KNOWN_RATE, (), []),
        (works(0, live=3, oldest=29), workload(), KNOWN_RATE, (), []),
        (works(0, live=3, waiting=0), workload(), KNOWN_RATE, (), []),
        (works(0, live=None), workload(), KNOWN_RATE, (), []),
        (works(0, live=3, paused_by="a person"), workload(), KNOWN_RATE, (), []),
        # A limit of the queue itself.
        (works(2, limited_by="its limit"), workload(), KNOWN_RATE, (), [Cause.QUEUE_LIMIT]),
        (works(2, limited_by="its limit", waiting=0), workload(), KNOWN_RATE, (), []),
        # Several hold: what is down comes first, the storm after the database.
        (
            queue(9, arrivals=9.0),
            workload(4, ready=3, crash_looping=1),
            KNOWN_RATE,
            ("5 wait",),
            [Cause.CONSUMER_OUTAGE, Cause.DATABASE_PRESSURE, Cause.PRODUCER_STORM],
        ),
    ],
)
def test_causes(
    reading: QueueReading,
    pods: Any,
    scaling: ScalingStatus,
    signs: tuple[str, ...] | None,
    causes: list[Cause],
) -> None:
    found = diagnose(load([("jobs", reading)]), Known(pods, NOW), scaling, signs)
    assert [finding.cause for finding in found] == causes
    assert all(finding.evidence for finding in found)


def test_an_unread_workload_is_no_outage() -> None:
    assert diagnose(load([("jobs", queue(9))]), unknown(), KNOWN_RATE, ()) == ()


def test_a_part_that_is_missing_makes_the_sum_unknown() -> None:
    whole = load([("a", queue(3, arrivals=1.0)), ("b", queue(4, arrivals=2.0))])
    assert (whole.waiting, whole.arrivals, whole.missing) == (7, 3.0, ())
    part = load([("a", queue(3)), ("b", queue(unknown()))])
    assert part.waiting is None
    assert part.missing == ("queue b: waiting: connection refused",)
    assert demand(part, seconds(900)) is None


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        (Why.TIMEOUT, True),
        (Why.NOT_YET, True),
        (Why.COUNTER_RESET, True),
        # This table never has it: the runbook's small steps go on without.
        (Why.NOT_IN_TABLE, False),
        (Why.NO_INDEX, False),
    ],
)
def test_rates_that_will_come_are_waited_for(reason: Why, waits: bool) -> None:
    found = load([("jobs", queue(9, throughput=unknown(reason)))])
    assert bool(found.missing) is waits
    assert found.throughput is None


@pytest.mark.parametrize(
    ("waiting", "arrivals", "throughput", "in_time"),
    [
        (900, 0.0, 1.0, True),
        (901, 0.0, 1.0, False),
        (900, 1.0, 2.0, True),
        (1, 1.0, 1.0, False),
        (0, 1.0, 1.0, True),
        (9, unknown(), 1.0, False),
    ],
)
def test_drains_within(waiting: int, arrivals: Any, throughput: float, in_time: bool) -> None:
    found = load([("jobs", queue(waiting, arrivals=arrivals, throughput=throughput))])
    assert found.drains_within(seconds(900)) is in_time


@pytest.mark.parametrize(
    ("wanted", "each", "replicas"),
    [(10.0, 1.0, 10), (10.1, 1.0, 11), (0.0, 1.0, 0), (None, 1.0, None), (10.0, None, None)],
)
def test_need(wanted: float | None, each: float | None, replicas: int | None) -> None:
    assert need(wanted, each) == replicas


@pytest.mark.parametrize(
    ("wanted", "before", "wobble", "shown"),
    [
        (4.0, None, 0, 4),
        (4.3, 4, 0, 4),
        (4.5, 4, 0, 5),
        (4.5, 4, 0.2, 4),
        (2.8, 4, 0, 4),
        (2.6, 4, 0, 3),
        (2.6, 4, 0.2, 4),
        (None, 4, 0, None),
    ],
)
def test_the_need_that_is_shown_does_not_flicker(
    wanted: float | None, before: int | None, wobble: float, shown: int | None
) -> None:
    assert steady_need(wanted, 1.0, before, wobble) == shown


@pytest.mark.parametrize(
    ("rate", "window", "off"),
    [(1.0, 225, 0.1), (100.0, 225, 1.0), (0.0, 50, 0.02), (0.01, 50, pytest.approx(0.0212, 0.01))],
)
def test_what_a_rate_is_off_by_chance(rate: float, window: float, off: float) -> None:
    assert chance(rate, seconds(window)) == off


@pytest.mark.parametrize(
    ("reading", "ready", "remembered", "measured"),
    [
        (queue(100, throughput=8.0, oldest=90), 4, None, 2.0),
        (queue(100, throughput=8.0, oldest=90), 4, 1.0, 2.0),
        # Within the tolerance: nothing to write.
        (queue(100, throughput=8.0, oldest=90), 4, 1.9, 1.9),
        # Idle workers measure arrivals, not themselves.
        (queue(7, throughput=8.0, oldest=90), 4, 5.0, 5.0),
        # ... but what they do finish, they can finish.
        (queue(7, throughput=28.0, oldest=90), 4, 5.0, 7.0),
        (queue(7, throughput=28.0, oldest=90), 4, None, None),
        # Idle for a part of the window: a smaller number proves nothing ...
        (queue(100, throughput=8.0, oldest=89), 4, 5.0, 5.0),
        # ... a larger one does, and any is better than none.
        (queue(100, throughput=8.0, oldest=1), 4, 1.0, 2.0),
        (queue(100, throughput=8.0, oldest=1), 4, None, 2.0),
        (queue(100, throughput=0.0, oldest=90), 4, 5.0, 5.0),
        (queue(100, throughput=unknown(), oldest=90), 4, 5.0, 5.0),
        (queue(100, throughput=8.0, oldest=90), 0, 5.0, 5.0),
    ],
)
def test_what_one_busy_replica_finishes(
    reading: QueueReading, ready: int, remembered: float | None, measured: float | None
) -> None:
    assert measured_per_replica(load([("jobs", reading)]), ready, remembered, WINDOW) == measured


@pytest.mark.parametrize(
    ("age", "interval", "kept"),
    [(0, 15, True), (45, 15, True), (46, 15, False), (15, 2, True), (16, 2, False)],
)
def test_a_late_reading_is_a_missing_reading(age: float, interval: float, kept: bool) -> None:
    then = later(-age)
    found = fresh(seen(at=then), seconds(interval), NOW)
    parts: list[object] = [
        found.workload,
        found.queues["jobs"].waiting,
        found.producers["ingestion"],
    ]
    assert found.database is not None
    parts += [found.database.connections, found.database.health]
    assert [isinstance(part, Known) for part in parts] == [kept] * 5
    # A fact of the pod template does not age.
    assert isinstance(found.per_replica, Known)


def test_a_reading_from_the_future_is_none() -> None:
    found = fresh(seen(at=later(46)), seconds(15), NOW)
    assert isinstance(found.workload, Unknown)
    assert "future" in found.workload.message
    assert isinstance(fresh(seen(at=later(1)), seconds(15), NOW).workload, Known)


def test_why_a_reading_is_late_is_the_same_text_in_the_next_pass() -> None:
    texts = set()
    for age in (50, 65):
        reading = fresh(seen(at=later(-age)), seconds(15), NOW).workload
        assert isinstance(reading, Unknown)
        texts.add(reading.message)
    assert len(texts) == 1


def test_what_the_spec_names_and_nobody_read_is_unknown() -> None:
    two = spec(queues=[{"name": "jobs", "postgres": {}}, {"name": "more", "postgres": {}}])
    found = judged(two, seen(queues={"jobs": queue(3), "gone": queue(9)}), NOW)
    assert set(found.queues) == {"jobs", "more"}
    assert isinstance(found.queues["more"].waiting, Unknown)


def test_a_database_without_a_reading_is_not_a_policy_without_one() -> None:
    snapshot = seen()
    found = judged(spec(), replace(snapshot, database=None), NOW)
    assert found.database is not None
    assert isinstance(found.database.connections, Unknown)
    assert isinstance(found.database.health, Unknown)


def test_how_a_reading_was_obtained_survives_the_judgement() -> None:
    reading = replace(queue(3), how="index: queue_jobs_claim")
    found = fresh(seen(queues=reading), seconds(15), NOW)
    assert found.queues["jobs"] == reading


# --- retry storms ------------------------------------------------------------------------------


def retrying(
    failed: float | Unknown | None, ended: float | Unknown, arrivals: float | Unknown = 0.0
) -> QueueReading:
    attempts = Known(failed, NOW) if isinstance(failed, float) else failed
    whole = queue(1000, arrivals=arrivals, throughput=ended)
    return replace(whole, failed_attempts_per_second=attempts)


@pytest.mark.parametrize(
    ("reading", "missed_now", "storm"),
    [
        (retrying(20.0, 10.0), ("waiting 1000 > 500",), True),
        (retrying(20.0, 10.0, arrivals=12.0), (), True),  # it grows
        (retrying(20.0, 0.0), ("waiting 1000 > 500",), True),  # nothing but retries
        (retrying(19.0, 10.0), ("waiting 1000 > 500",), False),
        # Healthy, however often it tries: neither backlog nor growth.
        (retrying(20.0, 10.0, arrivals=10.5), (), False),
        # A few attempts are chance: 20 in a window of 90 s are enough.
        (retrying(0.2, 0.0), ("waiting 1000 > 500",), False),
        (retrying(0.3, 0.0), ("waiting 1000 > 500",), True),
        # Unknown is not zero, and a table does not report it.
        (retrying(20.0, unknown()), ("waiting 1000 > 500",), False),
        (retrying(unknown(), 0.0), ("waiting 1000 > 500",), False),
        (retrying(None, 0.0), ("waiting 1000 > 500",), False),
        (retrying(20.0, 10.0, arrivals=unknown()), (), False),
    ],
)
def test_a_retry_storm(reading: QueueReading, missed_now: tuple[str, ...], storm: bool) -> None:
    found = retry_storm({"calm": queue(), "jobs": reading}, {"jobs": missed_now}, WINDOW)
    assert (found is not None) is storm
    if found is not None:
        assert found.cause is Cause.RETRY_STORM
        assert found.evidence.startswith("queue jobs: ")


def test_a_retry_storm_of_another_queue_is_not_this_ones_growth() -> None:
    """The queue that misses its objective is not the one that fails."""
    both = {"jobs": queue(9000), "etl": retrying(20.0, 10.0, arrivals=1.0)}
    assert retry_storm(both, {"jobs": ("waiting 9000 > 500",), "etl": ()}, WINDOW) is None


def test_retries_come_after_what_stops_the_storm_and_before_slow_jobs() -> None:
    pods = Known(workload(4), NOW)
    storm = load([("jobs", queue(5000, arrivals=20.0, throughput=4.0))])
    failing = FAILED_STEP.model_copy(update={"throughput_per_replica": 1.0})
    retries = retry_storm({"jobs": retrying(20.0, 4.0)}, {"jobs": ("waiting",)}, WINDOW)
    causes = [finding.cause for finding in diagnose(storm, pods, failing, ("locks",), retries)]
    assert causes == [
        Cause.DATABASE_PRESSURE,
        Cause.PRODUCER_STORM,
        Cause.RETRY_STORM,
        Cause.SLOW_PROCESSING,
    ]


def test_a_limit_counts_where_it_holds_all_queues_with_work() -> None:
    limited = works(2, limited_by="its global rate limit of 2 jobs per 1 s")
    assert load([("a", limited), ("b", queue(0))]).limited == (
        "queue a is held by its global rate limit of 2 jobs per 1 s"
    )
    assert not load([("a", limited), ("b", queue(1))]).limited
    assert not load([("a", limited), ("b", queue(unknown()))]).limited
    assert not load([("b", queue(0))]).limited
