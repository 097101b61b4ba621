"""The four stories: what the clients do, who else is there, and what goes wrong when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from demo.schedule import Schedule

MAX_CONNECTIONS = 100
"""PostgreSQL's default, so that the numbers are those of a default server."""

PER_REPLICA = 4
"""`PG_POOL_MAX` of the workers' Deployment."""

HEADROOM = 20
"""`database.headroom` of the policy: the design's default."""

SURGE = 1
"""`maxSurge` of the workers' Deployment."""

JOB_MS = 400
"""Mean time of a job: 4 slots make about 10 jobs per second and replica."""


class Trouble(StrEnum):
    """What happens to the database in the middle of the story."""

    NONE = "none"
    STRANGER = "stranger"
    FREEZE = "freeze"  # twice: while a step is tempting, and while a resume is


class Stack(StrEnum):
    """Where the jobs are."""

    TABLE = "table"  # queue_jobs in PostgreSQL, workers in Python
    BULLMQ = "bullmq"  # BullMQ on Redis, workers in Node.js, watched by a Prometheus


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story."""

    name: str
    title: str
    schedule: Schedule
    web_connections: int
    trip_waiting: int
    stack: Stack = Stack.TABLE
    trouble: Trouble = Trouble.NONE
    trouble_seconds: float = 20.0
    ends_at_smallest: bool = False
    """Whether to wait until the operator has stepped down again, or only for an empty queue."""
    job_ms: int = JOB_MS
    most_seconds: float = 240.0
    """The story ends by then, whatever has happened; a promise that was not kept is said."""

    @property
    def stranger_connections(self) -> int:
        """60 % of all connections."""
        return MAX_CONNECTIONS * 60 // 100


SCENARIOS = {
    story.name: story
    for story in (
        Scenario(
            name="main",
            title="A storm of clients outruns the workers",
            schedule=Schedule.parse("12s@12,60s@110,90s@12"),
            # 100 − 3 reserved − 49 others − 20 headroom = 28: 7 pods, so 6 replicas and a surge.
            web_connections=43,
            trip_waiting=2000,
            ends_at_smallest=True,
        ),
        Scenario(
            name="pressure",
            title="Another client takes 60 % of the connections while a step is being observed",
            schedule=Schedule.parse("10s@12,30s@50,80s@5"),
            # Beside 4 replicas the other client gets its connections: pressure, and no refusals.
            web_connections=10,
            trip_waiting=4000,
            trouble=Trouble.STRANGER,
            trouble_seconds=25.0,
        ),
        Scenario(
            name="unreadable",
            title="PostgreSQL stops answering, in the storm and in the pause",
            schedule=Schedule.parse("10s@12,75s@110,60s@12"),
            web_connections=43,
            trip_waiting=2000,
            trouble=Trouble.FREEZE,
            trouble_seconds=15.0,
        ),
        Scenario(
            name="bullmq",
            title="A storm on BullMQ: the API is paused and a background queue stopped",
            schedule=Schedule.parse("12s@12,60s@110,90s@12"),
            # As in the main story, less 2 connections of the backfill's worker.
            web_connections=41,
            trip_waiting=2000,
            stack=Stack.BULLMQ,
            ends_at_smallest=True,
        ),
    )
}
"""By name."""
