"""What an answer is worth (P2): pure, from the answer and what is known of its series.

| the series behind the answer                          | then                                     |
|-------------------------------------------------------|------------------------------------------|
| none at all, though the expression names some         | EmptyResult, even where `or vector(0)`   |
|                                                       | makes a number of it                     |
| a range answers, its newest sample is gone            | Stale: the source ended                  |
| newest sample older than `staleAfter`                 | Stale                                    |
| of a range: older than half of it                     | Stale: a rate would be half of the truth |
| a target that had some of them is down                | Partial                                  |
| some have no target (a recording rule, pushed samples)| known, and said: nothing shows that a   |
|                                                       | part of them is dead                     |
| the expression names none (a constant)                | known                                    |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starforge_backlog.api.base import format_duration
from starforge_backlog.prometheus.faults import PrometheusFault, another_shape
from starforge_backlog.prometheus.series import PART, Selector
from starforge_backlog.snapshot import Why

# Of a range, this part of it may have passed since its newest sample. Prometheus' own rule is four
# scrapes per window, so one that failed is forgiven and two are not.
FRESH_PART_OF_RANGE = 0.5
# No number of jobs or connections, no rate and no age in seconds is greater; beyond it a status
# could not be stored, and no date be computed.
MOST = 1e12
_PAIR = 2  # a sample is [time, value]


@dataclass(frozen=True, slots=True)
class Worth:
    """What the series behind an answer say of it."""

    age: timedelta  # of the oldest of the newest samples; 0 for an expression without series
    without_target: tuple[str, ...] = ()  # selectors with series that have no `up`


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer."""

    labels: Mapping[str, str]
    value: float


def series_of(result: Any) -> tuple[Series, ...]:
    """The series of a `result`, a scalar as one without labels.

    Raises PrometheusFault for what holds no numbers of now, and for NaN and ±Inf.
    """
    if not isinstance(result, list):
        raise another_shape()
    if result and not isinstance(result[0], Mapping):  # [time, text]: a scalar or a string
        return (Series({}, _number(result)),)
    found = []
    for one in result:
        if not isinstance(one, Mapping) or "values" in one or "histograms" in one:
            raise _no_number("a range of samples; take its rate() or its last_over_time()")
        if "value" not in one:
            raise _no_number("a histogram; take a number of it, as with histogram_count()")
        metric = one.get("metric", {})
        if not isinstance(metric, Mapping):
            raise another_shape()
        labels = {str(k): str(v) for k, v in metric.items()}
        found.append(Series(labels, _number(one["value"])))
    return tuple(found)


def one_number(series: tuple[Series, ...], expression: str) -> float:
    """The number of an expression. Raises PrometheusFault for none and for several."""
    if not series:
        raise PrometheusFault(
            Why.EMPTY_RESULT,
            "Prometheus has no series for it: correct the expression, or check the targets of"
            " Prometheus.",
        )
    if len(series) > 1:
        raise PrometheusFault(
            Why.SEVERAL_SERIES,
            f"{len(series)} series where one number is wanted: wrap it, as in sum({expression}).",
        )
    return series[0].value


def judge(wanted: tuple[Selector, ...], answer: Any, *, stale_after: timedelta) -> Worth:
    """What an answer is worth.

    `answer` is the `result` of `series.age_question`. Raises PrometheusFault when the value of the
    expression must not be believed.
    """
    if not wanted:
        return Worth(timedelta(0))
    nameless = next((one.text for one in wanted if not one.named), None)
    if nameless is not None:
        raise PrometheusFault(
            Why.QUERY_ERROR,
            f"{nameless} names no single metric, so the age of its samples is not known: write the"
            " metric's name before the braces, and add several with + or or.",
        )
    given = _parts(answer)
    ages: list[timedelta] = []
    for number, selector in enumerate(wanted):
        newest = given.get(f"newest{number}")
        if newest is None:
            if f"past{number}" in given:
                raise _stale(f"{selector.text} has no new samples, only earlier ones")
            continue  # absent: `or` may have another series for it
        ages.append(_fresh(selector, newest, stale_after))
        down = given.get(f"down{number}")
        if down is not None:
            raise PrometheusFault(
                Why.PARTIAL,
                f"{down[1]:g} targets that had {selector.text} are down (up == 0), so the answer"
                " would be of the others alone; fix them, or remove them from Prometheus'"
                " targets.",
            )
    if not ages:
        raise PrometheusFault(
            Why.EMPTY_RESULT,
            f"no series exists for it ({', '.join(one.text for one in wanted)}): correct the names,"
            " or check the targets of Prometheus. A constant in their place is no reading.",
        )
    alone = (one.text for number, one in enumerate(wanted) if f"alone{number}" in given)
    return Worth(max(ages), tuple(alone))


def _parts(answer: Any) -> Mapping[str, tuple[float, float]]:
    """Time and value of each part of `series.age_question`. Raises PrometheusFault.

    Checked to the last number: NaN as the newest sample would pass for one of this moment.
    """
    if not isinstance(answer, list):
        raise another_shape()
    given: dict[str, tuple[float, float]] = {}
    for one in answer:
        part = one.get("metric") if isinstance(one, Mapping) else None
        pair = one.get("value") if isinstance(one, Mapping) else None
        if not isinstance(part, Mapping) or not isinstance(pair, list) or len(pair) != _PAIR:
            raise another_shape()
        try:
            at, value = float(pair[0]), float(pair[1])
        except (TypeError, ValueError, OverflowError):
            raise another_shape() from None
        if not (abs(at) < MOST and abs(value) < MOST):
            raise another_shape()
        given[str(part.get(PART, ""))] = at, value
    return given


def _fresh(selector: Selector, newest: tuple[float, float], stale_after: timedelta) -> timedelta:
    """The age of the newest sample by the server's own clock. Raises PrometheusFault."""
    age = timedelta(seconds=max(0.0, newest[0] - newest[1]))
    if age > stale_after:
        raise _stale(
            f"the newest sample of {selector.text} is older than {format_duration(stale_after)}"
            " (staleAfter)"
        )
    if selector.range is not None and age > selector.range * FRESH_PART_OF_RANGE:
        raise _stale(
            f"the newest sample of {selector.text} is older than half of the"
            f" {format_duration(selector.range)} that it is averaged over; a window"
            " (scaling.observeFor) holds four scrapes or more"
        )
    return age


def _stale(what: str) -> PrometheusFault:
    return PrometheusFault(Why.STALE, f"{what}; check the targets of Prometheus.")


def _no_number(what: str) -> PrometheusFault:
    return PrometheusFault(Why.NOT_A_NUMBER, f"the expression gives {what}.")


def _number(pair: Any) -> float:
    try:
        value = float(pair[1])
    except (TypeError, ValueError, IndexError, KeyError):
        raise _no_number("text, not a number") from None
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise _no_number("NaN or Inf, which is not a number of anything (a division by 0?)")
    if abs(value) > MOST:
        raise _no_number(f"{value:g}, which is more than there is of anything; correct it")
    return value
