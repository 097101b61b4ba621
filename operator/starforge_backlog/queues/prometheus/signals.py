"""Expressions of a queue, asked all at once, and their numbers as readings of a queue."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from starforge_backlog.api.prometheus import PrometheusServer
from starforge_backlog.policy_access import Deadline, PolicyAccess
from starforge_backlog.prometheus.hub import PrometheusHub, QueryResult
from starforge_backlog.prometheus.numbers import rate
from starforge_backlog.prometheus.question import Question
from starforge_backlog.prometheus.server import invalidate, resolve
from starforge_backlog.snapshot import Count, Known, Outcomes, Reading, Unknown, Why

# Of the pass' deadline: what is late is said of one expression, before it would be said of all.
SECONDS_BEFORE_DEADLINE = 0.1
# A note names as many series; the rest is in the spec.
SERIES_NAMED = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """The number of each expression by its name, or why there is none."""

    readings: Mapping[str, Reading[float]]
    notes: tuple[str, ...] = ()  # what a person should know of the series behind them


async def ask(
    spec: PrometheusServer,
    expressions: Mapping[str, str],
    *,
    at: str,
    window: timedelta,
    access: PolicyAccess,
    hub: PrometheusHub,
) -> Asked:
    """The number of each expression, or why there is none.

    `expressions` by the field's name; `at` is where the fields are: queues[jobs].prometheus.
    """
    server = await resolve(spec, access, at)
    if isinstance(server, Unknown):
        return Asked(dict.fromkeys(expressions, server))
    prometheus = hub.get(server, owner=access.policy)
    soon = Deadline(access.deadline.at - SECONDS_BEFORE_DEADLINE)

    async def one(name: str, expression: str) -> QueryResult[float]:
        question = Question(f"{at}.{name}", expression, window, spec.stale_after)
        late = Unknown(Why.TIMEOUT, question.sentence(access.late.message), access.late.at)
        return await soon.keep(prometheus.query(question), QueryResult(late))

    found = await asyncio.gather(*(one(*item) for item in expressions.items()))
    for result in found:
        invalidate(spec, access, result.reading)
    readings = {name: result.reading for name, result in zip(expressions, found, strict=True)}
    return Asked(readings, _without_target(at, found))


def _without_target(at: str, found: list[QueryResult[float]]) -> tuple[str, ...]:
    """One sentence for all series of the queue that nothing vouches for."""
    series = list(dict.fromkeys(one for result in found for one in result.without_target))
    if not series:
        return ()
    named = ", ".join(series[:SERIES_NAMED]) + (" and others" if len(series) > SERIES_NAMED else "")
    note = (
        f"{at}: it is not known whether a part of {named} is down, because no target of Prometheus"
        " exports it (a recording rule, or samples that are pushed); name the scraped metric"
        " itself where there is one"
    )
    return (note,)


def count(reading: Reading[float], where: str) -> Reading[Count]:
    """Jobs. As exact as the exporter, at the time of its sample; a part of a job is one, so that
    no average is ever rounded to an empty queue (P2)."""
    checked = rate(reading, where)
    if isinstance(checked, Unknown):
        return checked
    return Known(Count(math.ceil(checked.value)), checked.at, checked.lasts)


def outcomes(
    completed: Reading[float], failed: Reading[float], window: timedelta
) -> Reading[Outcomes]:
    """Jobs that ended within the window: its rates are jobs per second."""
    if isinstance(failed, Unknown):
        return failed
    if isinstance(completed, Unknown):
        return completed
    seconds = window.total_seconds()
    ended_badly = round(failed.value * seconds)
    ended = max(round(completed.value * seconds), ended_badly)  # scraped moments apart
    found = Outcomes(ended - ended_badly, ended_badly, window)
    return Known(found, min(completed.at, failed.at), min(completed.lasts, failed.lasts))
