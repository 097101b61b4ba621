"""Circuit breakers: every transition, over gaps, restarts and clocks (runbook, *Add breakers*)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.simulator.given import NOW, at_least, later, queue, seconds, spec, unknown
from tests.unit.breakers import CLOSED, HALF_OPEN, OPEN, Story, breaker, half_open, moved, opened

from starforge_backlog.decide.breakers.breaker import (
    CALM,
    LONGEST_OPEN,
    Limits,
    Producing,
    step,
    stop_clocks,
)
from starforge_backlog.decide.breakers.signals import Level, name, signal, signals
from starforge_backlog.snapshot import (
    Known,
    Outcomes,
    QueueReading,
    Unknown,
    Why,
)

# --- closed → open ---------------------------------------------------------------------------


def test_a_rule_trips_when_it_held_for_its_time() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    for _ in range(5):
        story.see(queue(1000), after=15)
    assert story.states == [CLOSED, CLOSED, CLOSED, CLOSED, OPEN]
    assert story.status is not None
    assert story.status.message == "1000 waiting (trips at 1000) for 1m"
    assert story.status.trips == 1


def test_one_good_reading_starts_the_time_again() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    for waiting in (1000, 1000, 1000, 1000, 999, 1000, 1000, 1000, 1000):
        story.see(queue(waiting), after=15)
    assert OPEN not in story.states


def test_an_unknown_time_counts_as_nothing() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    story.see(queue(1000))
    story.see(queue(1000), after=30)  # 30 s so far, 45 s at the first pass without a reading
    for _ in range(20):
        story.see(queue(unknown()), after=15)
    story.see(queue(1000), after=15)
    assert OPEN not in story.states
    assert story.see(queue(1000), after=15).state is OPEN


def test_unknown_readings_alone_never_trip() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    for _ in range(100):
        story.see(queue(unknown()), after=60)
    assert set(story.states) == {CLOSED}
    assert story.status is not None
    assert story.status.rules[0].unknown_since is None  # nothing to remember, nothing to write


def test_any_rule_is_enough_and_each_has_its_own_time() -> None:
    story = Story(breaker({"waiting": 1000, "for": "10m"}, {"oldestAge": "5m", "for": "30s"}))
    story.see(queue(2000, oldest=400))
    assert story.see(queue(2000, oldest=400), after=30).message.startswith("oldest job 6m40s")


def test_a_steady_closed_breaker_writes_nothing() -> None:
    story = Story(breaker())
    first = story.see(queue(10))
    for waiting in (400, 600, 10, 999):
        assert story.see(queue(waiting), after=15) == first


def test_a_changed_value_starts_the_time_again() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    story.see(queue(5000))
    story.breaker = breaker({"waiting": 2000, "for": "1m"})
    assert story.see(queue(5000), after=90).state is CLOSED
    assert name(story.breaker.trip[0]) == "waiting>=2000"


# --- open → half-open ------------------------------------------------------------------------


@pytest.mark.parametrize(("waiting", "recovers"), [(500, True), (501, False)])
def test_an_open_breaker_dares_a_probe_at_or_below_its_level(waiting: int, recovers: bool) -> None:
    story = opened()
    story.see(queue(waiting), after=15)
    assert story.see(queue(waiting), after=119).state is OPEN
    assert (story.see(queue(waiting), after=1).state is HALF_OPEN) is recovers


def test_an_unknown_reading_never_recovers() -> None:
    story = opened()
    for _ in range(100):
        story.see(queue(unknown()), after=60)
    assert set(story.states[2:]) == {OPEN}


def test_a_gap_does_not_count_as_recovered() -> None:
    story = opened()
    story.see(queue(10), after=15)
    for _ in range(20):
        story.see(queue(unknown()), after=15)
    story.see(queue(10), after=15)
    assert story.see(queue(10), after=90).state is OPEN
    assert story.see(queue(10), after=15).state is HALF_OPEN


def test_a_count_that_stopped_at_a_cap_is_no_recovery() -> None:
    story = opened()
    for _ in range(20):
        story.see(queue(at_least(10)), after=60)
    assert story.states[-1] is OPEN


def test_every_rule_must_have_recovered() -> None:
    story = opened({"waiting": 1000, "for": "1m"}, {"oldestAge": "5m", "for": "1m"})
    for _ in range(5):
        story.see(queue(10, oldest=200), after=60)
    assert story.states[-1] is OPEN
    for _ in range(3):
        story.see(queue(10, oldest=150), after=60)
    assert story.states[-1] is HALF_OPEN


@pytest.mark.parametrize("outcome", [queue(0, finished=3), queue(0, outcomes=unknown())])
def test_a_drained_queue_ends_nothing_and_recovers(outcome: QueueReading) -> None:
    """Under a pause nothing ends: waiting for samples would be a pause that never ends."""
    if isinstance(outcome.outcomes, Unknown):
        outcome = replace(outcome, outcomes=Unknown(Why.NO_SAMPLES, "nothing ended", NOW))
    story = Story(breaker({"failedPercent": 5, "for": "1m"}))
    story.see(queue(failed=50))
    assert story.see(queue(failed=50), after=60).state is OPEN
    story.see(outcome, after=15)
    assert story.see(outcome, after=120).state is HALF_OPEN


@pytest.mark.parametrize(
    ("pressure_percent", "used", "recovers"),
    [(80, 79.0, True), (80, 80.0, False), (0, 45.0, True), (0, 46.0, False), (100, 81.0, True)],
)
def test_connections_recover_below_the_pressure_threshold(
    pressure_percent: int, used: float, recovers: bool
) -> None:
    """Open pools and other clients hold more than half of the trip value in a calm database."""
    story = Story(
        breaker({"databaseUtilizationPercent": 90, "for": "1m"}), pressure_percent=pressure_percent
    )
    story.see(queue(), used=95)
    assert story.see(queue(), used=95, after=60).state is OPEN
    story.see(queue(), used=used, after=15)
    assert (story.see(queue(), used=used, after=120).state is HALF_OPEN) is recovers


def test_connections_do_not_recover_next_to_their_trip_value() -> None:
    story = Story(breaker({"databaseUtilizationPercent": 70, "for": "1m"}), pressure_percent=100)
    story.see(queue(), used=75)
    assert story.see(queue(), used=75, after=60).state is OPEN
    for _ in range(5):
        story.see(queue(), used=64, after=60)
    assert story.states[-1] is OPEN


# --- half-open → closed, or open again -------------------------------------------------------


def test_a_probe_that_passes_closes_the_breaker() -> None:
    story = half_open()
    for _ in range(4):
        story.see(queue(900), after=60)
    assert story.states[-1] is HALF_OPEN
    assert story.see(queue(900), after=60).state is CLOSED


def test_a_trip_within_the_probe_opens_it_again() -> None:
    story = half_open()
    again = story.see(queue(1000), after=15)
    assert (again.state, again.trips) == (OPEN, 2)
    assert "the probe failed" in again.message


def test_unknown_never_closes_a_breaker() -> None:
    story = half_open()
    for _ in range(20):
        story.see(queue(unknown()), after=60)
    assert story.states[-1] is HALF_OPEN
    assert story.see(queue(10), after=15).state is CLOSED


def test_a_window_of_before_the_probe_neither_condemns_nor_acquits_it() -> None:
    story = Story(breaker({"failedPercent": 5, "for": "1m"}, recover={"probeFor": "1m"}))
    story.see(queue(failed=50))
    story.see(queue(failed=50), after=60)
    story.see(queue(finished=0), after=15)
    assert story.see(queue(finished=0), after=120).state is HALF_OPEN
    # The window is 90 s: at 75 s it still holds failures of before the probe.
    story.see(queue(failed=50), after=75)
    assert story.states[-1] is HALF_OPEN
    assert story.see(queue(failed=50), after=15).state is OPEN


def test_a_probe_begins_when_producers_really_run() -> None:
    story = half_open()
    story.held = True
    story.see(queue(10), after=600)
    assert story.states[-1] is HALF_OPEN  # nothing was probed yet
    story.held, story.released_at = False, later(story.clock)
    story.see(queue(10), after=299)
    assert story.states[-1] is HALF_OPEN
    assert story.see(queue(10), after=1).state is CLOSED


def test_a_probe_begins_when_others_let_go() -> None:
    story = half_open()
    story.held = True
    story.see(queue(10), after=600)
    story.held, story.freed = False, True
    assert story.see(queue(10), after=15).state is HALF_OPEN
    story.freed = False
    story.see(queue(10), after=299)
    assert story.states[-1] is HALF_OPEN
    assert story.see(queue(10), after=1).state is CLOSED


def test_a_reading_of_before_the_probe_is_not_fresh() -> None:
    story = half_open()
    assert story.status is not None
    old = {"jobs": moved(queue(5000), story.status.since or NOW)}
    seen = signals(story.breaker, old, Known(0.0, NOW))
    now, limits = later(story.clock + 15), Limits(story.interval)
    found = step(story.breaker, story.status, seen, Producing(), limits, now)
    assert found.state is HALF_OPEN


# --- flapping --------------------------------------------------------------------------------


def test_each_failed_probe_makes_the_next_one_wait_longer() -> None:
    story = opened()
    waits = []
    for _ in range(6):
        since = story.clock
        while story.see(queue(10), after=15).state is OPEN:
            pass
        waits.append(story.clock - since)
        story.see(queue(5000), after=15)
    assert waits == sorted(waits)
    assert waits[1] >= 2 * waits[0] - 30
    assert waits[-1] == LONGEST_OPEN.total_seconds()


@pytest.mark.parametrize(
    ("closed_for", "trips"), [(timedelta(minutes=10), 2), (CALM, 1), (2 * CALM, 1)]
)
def test_a_calm_time_makes_the_next_opening_the_first(closed_for: timedelta, trips: int) -> None:
    story = half_open()
    story.see(queue(10), after=300)
    assert story.states[-1] is CLOSED
    story.see(queue(5000), after=closed_for.total_seconds() - 60)
    assert story.see(queue(5000), after=60).trips == trips


def test_a_clock_that_went_back_trips_no_later() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    story.see(queue(1000))
    story.see(queue(1000), after=-3600)
    assert story.see(queue(1000), after=60).state is OPEN


def test_stopped_clocks_are_a_gap() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}))
    story.see(queue(1000))
    status = story.see(queue(1000), after=30)
    stopped = stop_clocks(status, story.interval, later(story.clock + 15))
    again = stop_clocks(stopped, story.interval, later(story.clock + 30))
    assert again == stopped  # nothing to write twice
    story.status = stopped
    assert story.see(queue(1000), after=3600).state is CLOSED
    assert story.see(queue(1000), after=30).state is OPEN


# --- no pass ran ----------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [15, 60])
def test_hours_without_the_operator_are_not_sustained(interval: float) -> None:
    """One reading on either side of two hours is no evidence for two hours."""
    story = Story(breaker({"waiting": 1000, "for": "2h"}), interval=seconds(interval))
    for _ in range(10):
        story.see(queue(1000), after=interval)
    began = interval
    assert story.see(queue(1000), after=7200).state is CLOSED
    while story.see(queue(1000), after=interval).state is CLOSED:
        pass
    watched = story.clock - began - 7200
    assert 7200 <= watched <= 7200 + 30 + interval


def test_hours_before_an_unknown_reading_are_not_sustained_either() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}), interval=seconds(15))
    story.see(queue(1000))
    story.see(queue(unknown()), after=7200)
    story.see(queue(1000), after=15)
    assert story.see(queue(1000), after=30).state is CLOSED
    assert story.see(queue(1000), after=30).state is OPEN


def test_a_restart_or_a_slow_pass_costs_no_time() -> None:
    story = Story(breaker({"waiting": 1000, "for": "3m"}), interval=seconds(15))
    for after in (0, 15, 45, 30, 45, 30):
        story.see(queue(1000), after=after)
    assert story.see(queue(1000), after=15).state is OPEN


def test_hours_without_the_operator_do_not_recover() -> None:
    story = opened()
    story.interval = seconds(15)
    story.see(queue(10), after=15)
    assert story.see(queue(10), after=7200).state is OPEN
    for _ in range(7):
        assert story.see(queue(10), after=15).state is OPEN
    assert story.see(queue(10), after=15).state is HALF_OPEN


def test_what_is_noted_while_a_time_runs() -> None:
    """Twice a minute and no more; and nothing while no time runs."""
    story = Story(breaker({"waiting": 1000, "for": "1h"}, {"oldestAge": "5m", "for": "1h"}))
    noted = [story.see(queue(1000), after=5).seen_at for _ in range(24)]
    assert len(set(noted)) == 4
    assert story.see(queue(10), after=5).seen_at is None
    late = opened({"waiting": 1000, "for": "1m"}, {"oldestAge": "5m", "for": "1m"})
    # One of two has recovered: nothing happens, however long that lasts.
    states = [late.see(queue(10, oldest=400), after=15) for _ in range(20)]
    assert {state.seen_at for state in states} == {None}
    assert late.see(queue(10), after=15).seen_at is not None
    late.see(queue(10), after=60)
    assert late.see(queue(10), after=60).seen_at is None  # half-open


def test_stopped_clocks_do_not_count_hours_before_they_were_stopped() -> None:
    story = Story(breaker({"waiting": 1000, "for": "1m"}), interval=seconds(15))
    status = story.see(queue(1000))
    story.status = stop_clocks(status, story.interval, later(7200))
    assert story.see(queue(1000), after=7215).state is CLOSED


def test_outcomes_are_summed_before_the_ratio() -> None:
    queues = [{"name": "a", "postgres": {}}, {"name": "b", "postgres": {}}]
    whole = {"name": "b", "pause": ["ingestion"], "trip": [{"failedPercent": 5}]}
    two = spec(queues=queues, breakers=[whole]).breakers[0]
    readings = {
        "a": replace(queue(), outcomes=Known(Outcomes(90, 10, seconds(90)), NOW)),
        "b": replace(queue(), outcomes=Known(Outcomes(900, 0, seconds(90)), NOW)),
    }
    found = signal(two.trip[0], two, readings, unknown())
    assert isinstance(found, Level)
    assert found.text.startswith("1.0% of 1000 jobs failed")
