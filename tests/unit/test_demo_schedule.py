"""How many requests are due, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.schedule import Phase, Schedule

phases = st.lists(
    st.builds(Phase, st.floats(2, 60), st.floats(0, 200)), min_size=1, max_size=4
).map(tuple)


def test_reads_what_it_writes() -> None:
    text = "15s@12,60s@90,30s@12.5"
    assert str(Schedule.parse(text)) == text


@pytest.mark.parametrize("text", ["", "15@12", "15s@", "15s@-1", "1s@5", "15s@12,,30s@12"])
def test_refuses_with_the_fix(text: str) -> None:
    with pytest.raises(ValueError, match="write phases like"):
        Schedule.parse(text)


def test_a_steady_rate_is_rate_times_time() -> None:
    assert Schedule.parse("10s@12").due(5) == pytest.approx(60)


def test_a_storm_rises_over_the_ramp() -> None:
    schedule = Schedule.parse("10s@10,10s@100")
    assert schedule.rate(10) == pytest.approx(10)
    assert schedule.rate(11) == pytest.approx(55)
    assert schedule.rate(12) == pytest.approx(100)


def test_the_last_rate_goes_on() -> None:
    schedule = Schedule.parse("10s@10,10s@20")
    assert schedule.rate(500) == 20
    assert schedule.due(30) - schedule.due(25) == pytest.approx(100)


@given(phases, st.floats(0, 200), st.floats(0.001, 1))
def test_due_is_the_integral_of_rate(parts: tuple[Phase, ...], at: float, step: float) -> None:
    schedule = Schedule(parts)
    grown = schedule.due(at + step) - schedule.due(at)
    rates = [schedule.rate(at + step * i / 50) for i in range(51)]
    highest, lowest = max(rates), min(rates)
    slack = 1e-6 + (highest - lowest) * step / 10
    assert lowest * step - slack <= grown <= highest * step + slack
