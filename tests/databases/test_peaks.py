"""The tide mark of each role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from starforge_backlog.databases.peaks import Peaks
from starforge_backlog.decide.budget.formula import PEAK_WINDOW

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_each_role_has_its_own_peak() -> None:
    peaks = Peaks()
    assert peaks.add("a", {"web": 9, "etl": 1}, START) == ({"web": 9, "etl": 1}, timedelta())
    assert peaks.add("a", {"web": 2, "etl": 7}, START + MINUTE) == ({"web": 9, "etl": 7}, MINUTE)


def test_a_role_that_left_is_remembered_for_the_window() -> None:
    peaks = Peaks()
    peaks.add("a", {"web": 9}, START)
    peaks.add("a", {"etl": 1}, START + MINUTE)
    assert peaks.add("a", {}, START + PEAK_WINDOW) == ({"web": 9, "etl": 1}, PEAK_WINDOW)
    assert peaks.add("a", {}, START + PEAK_WINDOW + MINUTE) == ({"etl": 1}, PEAK_WINDOW)


def test_until_when_a_peak_counts() -> None:
    """From the last moment of that height on."""
    peaks = Peaks()
    peaks.add("a", {"web": 90}, START)
    peaks.add("a", {"web": 90}, START + MINUTE)
    peaks.add("a", {"etl": 1}, START + 2 * MINUTE)
    assert peaks.until == {
        "web": START + MINUTE + PEAK_WINDOW,
        "etl": START + 2 * MINUTE + PEAK_WINDOW,
    }


def test_another_server_starts_again() -> None:
    peaks = Peaks()
    peaks.add("a", {"web": 9}, START)
    assert peaks.add("b", {"web": 1}, START + MINUTE) == ({"web": 1}, timedelta())


def test_a_clock_set_back_forgets_nothing() -> None:
    peaks = Peaks()
    peaks.add("a", {"web": 9}, START)
    assert peaks.add("a", {"web": 1}, START - MINUTE) == ({"web": 9}, timedelta())
