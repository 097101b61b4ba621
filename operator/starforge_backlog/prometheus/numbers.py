"""Numbers of expressions as what they stand for, or what is wrong with the expression."""

from __future__ import annotations

from datetime import timedelta

from starforge_backlog.snapshot import Known, Reading, Unknown, Why

# By which the clocks of a source and of Prometheus may differ.
CLOCKS_APART = timedelta(seconds=5)
# Nothing waits or is open for years. A moment in place of an age ("min(created_seconds)") would be
# 56.
OLDEST = timedelta(days=3650)


def rate(reading: Reading[float], where: str, *, forgiven: float = 0.0) -> Reading[float]:
    """A number that cannot be below 0, such as jobs per second; a little below it is `forgiven`."""
    if isinstance(reading, Unknown) or reading.value >= -forgiven:
        return reading
    message = f"{where}: the expression gives a number below 0; correct it"
    return Unknown(Why.NOT_A_NUMBER, message, reading.at)


def age(reading: Reading[float], where: str) -> Reading[timedelta]:
    """An age in seconds."""
    checked = rate(reading, where, forgiven=CLOCKS_APART.total_seconds())
    if isinstance(checked, Unknown):
        return checked
    if checked.value > OLDEST.total_seconds():
        message = f"{where}: the expression gives {checked.value:g} s, as of a moment and not an"
        message += " age; subtract it from time()"
        return Unknown(Why.NOT_A_NUMBER, message, checked.at)
    return Known(timedelta(seconds=max(0.0, checked.value)), checked.at, checked.lasts)
