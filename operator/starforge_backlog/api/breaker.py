"""`spec.breakers`: when to pause what, and when to resume it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import ConfigDict

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.queue import MOST_WAITING
from starforge_backlog.api.rules import Rule, exactly_one, rules
from starforge_backlog.api.terms import JobType, Name, ordered, span, whole, words

MOST_RULES = 8  # trip rules per breaker; there are four signals
MOST_NAMES = 16  # queues, producers and breakers of one policy

SIGNALS = ("waiting", "oldestAge", "failedPercent", "databaseUtilizationPercent")


class Trip(Model):
    """One rule that opens a breaker. Exactly one signal."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                exactly_one(*SIGNALS),
                "a trip rule needs exactly one of waiting, oldestAge, failedPercent and"
                " databaseUtilizationPercent: write a rule of its own for each signal",
            )
        )
    )

    waiting: Annotated[int, whole(1, MOST_WAITING)] | None = None
    """Signal: due jobs that wait, summed over the breaker's queues; trips at this number."""

    oldest_age: Annotated[Duration, span("1s", "720h")] | None = None
    """Signal: how long the oldest due job of these queues has waited; trips at this time."""

    failed_percent: Annotated[int, whole(1, 100)] | None = None
    """Signal: failed jobs in percent of those that ended; trips at this share, if at least
    minSamples jobs ended."""

    database_utilization_percent: Annotated[int, whole(1, 100)] | None = None
    """Signal: connections in use, in percent of the database's limit; trips at this share. The
    runbook pages above 90 % for 2 minutes. Needs spec.database."""

    for_: Annotated[Duration, span("1s", "24h")] = timedelta(minutes=5)
    """How long the signal must stay at or above its value before the breaker opens. Time without
    a reading does not count: unknown neither trips nor recovers."""

    min_samples: Annotated[int, whole(1, 1_000_000)] = 20
    """Jobs that must have ended for failedPercent to count: one failure of three is noise."""


class Recover(Model):
    """When an open breaker goes half-open, and for how long."""

    below_percent: Annotated[int, whole(1, 99)] = 50
    """Every signal must be below this percentage of its trip value before producers are
    resumed (half-open). Well below 100 keeps the breaker from flapping. databaseUtilizationPercent
    counts as recovered below the database's pressure threshold: pools stay open when the work is
    done."""

    for_: Annotated[Duration, span("1s", "24h")] = timedelta(minutes=2)
    """How long the signals must have stayed that low. Doubles with each probe that failed."""

    probe_for: Annotated[Duration, span("2s", "24h")] = timedelta(minutes=5)
    """How long producers run half-open, evaluated by fresh readings only, before the
    breaker closes. A trip in that time opens it again."""


class Scope(Model):
    """Which readings the rules of a breaker evaluate."""

    queues: Annotated[tuple[Name, ...], words(MOST_NAMES)] = ()
    """Queues, by their names; all queues if empty."""

    type: JobType | None = None
    """One job type of these queues (runbook: if the failure rate for a job type exceeds a
    threshold, pause that type): waiting, oldestAge and failedPercent then count its jobs alone."""


class Breaker(Model):
    """Pauses producers when any of its rules holds for its time."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "size(self.pause) > 0",
                "a breaker that pauses nothing has no effect: list at least one of spec.producers"
                " in pause",
                path=".pause",
                reason="FieldValueRequired",
            )
        )
    )

    name: Name
    """Name of the breaker in status, Events and metrics. Once only."""

    scope: Scope = Scope()
    """What the rules evaluate: all queues by default, some of them, or one job type."""

    pause: Annotated[tuple[Name, ...], words(MOST_NAMES)] = ()
    """Producers that are paused while the breaker is open, by their names; at least one."""

    trip: Annotated[tuple[Trip, ...], ordered(1, MOST_RULES)]
    """Rules that open the breaker: any one of them, sustained for its time, is enough."""

    recover: Recover = Recover()
    """When paused producers are resumed: first half-open, then permanently."""
