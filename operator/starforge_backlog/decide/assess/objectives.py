"""Is it bad? Each queue against what its policy calls healthy (runbook, *Key signals*)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import Queue
from starforge_backlog.api.queue import Objectives
from starforge_backlog.decide.assess.need import reported
from starforge_backlog.snapshot import Confidence, Count, Known, QueueReading

# Below this many ended jobs a ratio is noise: one failure of three is not 33 % (Trip.minSamples).
MIN_SAMPLES = 20


class Objective(StrEnum):
    """What a policy asks of a queue."""

    WAITING = "waiting"
    OLDEST = "oldest"
    OLDEST_HELD = "oldest held back"  # by a pause of ours
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Miss:
    """An objective that is missed at this moment."""

    objective: Objective
    value: float  # jobs, seconds or percent
    limit: float  # the same
    text: str  # the number as it was read
    bound: str  # the limit in words
    also: str = ""  # what counts besides, for example jobs that are held back

    def __str__(self) -> str:
        return f"{self.objective} {self.text}{self.also} > {self.bound}"


def missed(queue: Queue, reading: QueueReading) -> tuple[Miss, ...]:
    """The objectives that are missed at this moment, each with its numbers.

    Unknown readings miss nothing and meet nothing (P2); `readable` says whether there are any.
    What a pause of ours holds back is not done: it misses them like what waits.
    """
    found = []
    held, most = reading.held, queue.oldest_age
    objectives = queue.objectives
    match reading.waiting:
        case Known(count) if count.value + _held(reading) > objectives.waiting:
            also = f" and {held.count} held back" if held is not None else ""
            limit = objectives.waiting
            value = count.value + _held(reading)
            found.append(Miss(Objective.WAITING, value, limit, str(count), f"{limit}", also))
        case _:
            pass
    match reading.oldest_due_age:
        case Known(age) if age > most:
            found.append(_too_old(Objective.OLDEST, age, most))
        case _:
            pass
    if held is not None and held.oldest is not None and held.oldest > most:
        found.append(_too_old(Objective.OLDEST_HELD, held.oldest, most))
    match reading.outcomes:
        case Known(outcomes) if (
            outcomes.samples >= MIN_SAMPLES and outcomes.failed_percent > objectives.failed_percent
        ):
            percent, limit = outcomes.failed_percent, objectives.failed_percent
            found.append(Miss(Objective.FAILED, percent, limit, f"{percent:.1f}%", f"{limit}%"))
        case _:
            pass
    return tuple(found)


def lasting(objectives: Objectives, missed_since: datetime, now: datetime) -> bool:
    """Whether an objective is missed for as long as the policy bears it (runbook: *for 5 m*)."""
    return now - missed_since >= objectives.for_


def _too_old(objective: Objective, age: timedelta, most: timedelta) -> Miss:
    return Miss(
        objective,
        age.total_seconds(),
        most.total_seconds(),
        format_duration(age),
        format_duration(most),
    )


def _held(reading: QueueReading) -> int:
    return 0 if reading.held is None else reading.held.count.value


def readable(queue: Queue, reading: QueueReading) -> bool:
    """Whether backlog and age are known: without them nothing can be called healthy. An age that
    the policy names no source for is none to wait for; and a lower bound proves only that too
    many wait, never that few do."""
    aged = isinstance(reading.oldest_due_age, Known) or not reported(reading.oldest_due_age)
    match reading.waiting:
        case Known(Count(value, Confidence.AT_LEAST)):
            return aged and value > queue.objectives.waiting
        case waiting:
            return aged and isinstance(waiting, Known)
