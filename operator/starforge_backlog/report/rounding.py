"""Numbers in status: two significant digits, and unmoved while they hardly move.

Exact numbers are metrics. A status that followed every wobble would write to the API server in
every pass of a healthy queue (P7, *nothing written when nothing changed*).
"""

from __future__ import annotations

from datetime import timedelta

from starforge_backlog.api.base import format_duration, parse_duration
from starforge_backlog.decide.assess.objectives import Miss, Objective
from starforge_backlog.decide.numbers import about, digits
from starforge_backlog.snapshot import Count, Known, Reading

UNKNOWN = "unknown"
# Below this a count is "a few": 3 or 7 waiting jobs call for nothing.
FEW = 10
# An age below this is no age: jobs that are claimed within it do not wait.
YOUNG = timedelta(seconds=10)
# The last published number stands while the new one is within this part of it.
STEADY_COUNT = 0.1
# Rates are counted over short windows and wobble more.
STEADY_RATE = 0.25


def count_text(reading: Reading[Count], before: str, *, idle: bool = False) -> str:
    """`5200`, `≥100000`, `~5200`, `<10`, `0`, or `unknown`.

    0 is shown where nothing arrives (`idle`), or stood there before: a queue whose workers keep up
    has none and a few in turn, and would be written with each pass.
    """
    if not isinstance(reading, Known):
        return UNKNOWN
    count = reading.value
    prefix = str(Count(0, count.confidence))[:-1]
    if count.value < FEW:
        none = count.value == 0 and (idle or before == f"{prefix}0")
        return f"{prefix}0" if none else f"<{FEW}"
    text = before.removeprefix(prefix) if before.startswith(prefix) else ""
    if text.isdecimal() and abs(int(text) - count.value) <= STEADY_COUNT * int(text):
        return before
    return f"{prefix}{int(digits(count.value, 2))}"


def rate_text(reading: Reading[float], before: str) -> str:
    """Jobs per second: `42`, `0.35`, `0`, or `unknown`."""
    if not isinstance(reading, Known):
        return UNKNOWN
    try:
        old = float(before)
    except ValueError:
        old = None
    if old and abs(old - reading.value) <= STEADY_RATE * old:
        return before
    return about(reading.value)


def age_text(reading: Reading[timedelta], before: str) -> str:
    """`<10s`, `40s`, `12m`, `2h10m`, or `unknown`: no finer than a tenth of itself."""
    if not isinstance(reading, Known):
        return UNKNOWN
    age = max(reading.value, timedelta(0))
    if age < YOUNG:
        return f"<{format_duration(YOUNG)}"
    try:
        old = parse_duration(before)
    except ValueError:
        old = timedelta(0)
    if abs(old - age) <= STEADY_COUNT * old:
        return before
    return coarse(age)


def miss_text(miss: Miss, shown: str) -> str:
    """`waiting 5200 > 500`, with the number as it is published beside it (`shown`); without one
    where that would say that the objective is met."""
    if miss.also or _number(miss.objective, shown) > miss.limit:
        return f"{miss.objective} {shown}{miss.also} > {miss.bound}"
    return f"{miss.objective} just above {miss.bound}"


def _number(objective: Objective, shown: str) -> float:
    """Jobs, seconds or percent; 0 for what is no number: `<10`, `unknown`."""
    try:
        match objective:
            case Objective.WAITING:
                return float(shown.lstrip("≥~≤"))
            case Objective.FAILED:
                return float(shown.removesuffix("%"))
            case Objective.OLDEST | Objective.OLDEST_HELD:
                return parse_duration(shown).total_seconds()
    except ValueError:
        return 0.0


def coarse(age: timedelta) -> str:
    """A duration for a sentence: tens of seconds, then minutes, then tens of minutes."""
    seconds = int(age.total_seconds())
    for limit, unit in ((60, 10), (3600, 60)):
        if seconds < limit:
            return format_duration(timedelta(seconds=seconds - seconds % unit))
    return format_duration(timedelta(seconds=seconds - seconds % 600))


def percent_text(value: float, before: str) -> str:
    """`0.4%`, `12%`; the last one stands while it is within a tenth."""
    try:
        old = float(before.removesuffix("%"))
    except ValueError:
        old = None
    if old and abs(old - value) <= STEADY_COUNT * old:
        return before
    return f"{about(value)}%"
