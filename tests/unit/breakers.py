"""A breaker over passes, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulator.given import later, queue, spec, through_json

from starforge_backlog.api.policy import Breaker
from starforge_backlog.api.status import BreakerState, BreakerStatus, QueueBacklogPolicyStatus
from starforge_backlog.decide.breakers.breaker import (
    Limits,
    Producing,
    step,
)
from starforge_backlog.decide.breakers.signals import signals
from starforge_backlog.snapshot import (
    Known,
    QueueReading,
    Reading,
    Unknown,
)

OPEN, HALF_OPEN, CLOSED = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED


def breaker(*trips: dict[str, Any], **parts: Any) -> Breaker:
    whole = {
        "name": "b",
        "pause": ["ingestion"],
        "trip": list(trips) or [{"waiting": 1000, "for": "1m"}],
        "recover": {"belowPercent": 50, "for": "2m", "probeFor": "5m"},
        **parts,
    }
    return spec(breakers=[whole]).breakers[0]


@dataclass(slots=True)
class Story:
    """A breaker over time. Its status goes through JSON between any two passes (P6)."""

    breaker: Breaker
    status: BreakerStatus | None = None
    held: bool = False
    freed: bool = False
    released_at: datetime | None = None
    pressure_percent: int = 0
    clock: float = 0.0
    interval: timedelta = timedelta(minutes=1)
    states: list[BreakerState] = field(default_factory=list)

    def see(
        self, reading: QueueReading, *, after: float = 0, used: float | Unknown = 0.0
    ) -> BreakerStatus:
        """The next pass, that many seconds later, with readings of that moment."""
        self.clock += after
        now = later(self.clock)
        level: Reading[float] = used if isinstance(used, Unknown) else Known(used, now)
        found = step(
            self.breaker,
            self.status,
            signals(self.breaker, {"jobs": moved(reading, now)}, level),
            Producing(self.held, self.freed, self.released_at),
            Limits(self.interval, self.pressure_percent),
            now,
        )
        stored = through_json(QueueBacklogPolicyStatus(breakers=(found,))).breakers[0]
        assert stored == found
        self.status = stored
        self.states.append(stored.state)
        return stored


def moved(reading: QueueReading, now: datetime) -> QueueReading:
    """The same readings, read at that moment."""

    def at(part: Reading[Any]) -> Reading[Any]:
        return replace(part, at=now)

    return replace(
        reading,
        waiting=at(reading.waiting),
        oldest_due_age=at(reading.oldest_due_age),
        outcomes=at(reading.outcomes),
    )


def opened(*trips: dict[str, Any], **parts: Any) -> Story:
    """A breaker that has just opened on 2000 waiting jobs."""
    story = Story(breaker(*trips, **parts))
    story.see(queue(2000))
    story.see(queue(2000), after=60)
    assert story.states[-1] is OPEN
    return story


def half_open() -> Story:
    """A breaker that has just begun its probe."""
    story = opened()
    story.see(queue(100), after=15)
    story.see(queue(100), after=120)
    assert story.states[-1] is HALF_OPEN
    return story
