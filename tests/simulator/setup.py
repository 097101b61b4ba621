"""The fixed part of a simulated world, and the events that happen in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

# Virtual time counts seconds from here; any moment would do.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """Virtual seconds as the moment that the operator sees."""
    return EPOCH + timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Setup:
    """What does not change during a run. Times in seconds, rates in jobs per second."""

    # database
    max_connections: int = 200
    superuser_reserved: int = 3
    headroom: int = 20
    others: int = 40  # connections of other clients at the start
    pressure_percent: int = 80
    # Worker connections beyond which the database gets slower for everybody; None: never.
    knee: int | None = None
    knee_power: float = 1.5  # above 1: more workers than the knee finish less in total
    shared_role: bool = False  # the operator logs in as the workers do
    # workers
    role: str = "worker"  # the database user of the pods
    pool: int = 4
    surge: str = "25%"
    start_replicas: int = 2
    min_replicas: int = 1
    max_replicas: int | None = None
    per_pod: float = 1.0  # what one busy pod finishes
    start_delay: float = 10.0  # from creation to Ready
    grace: float = 20.0  # from deletion to gone; connections are held meanwhile
    rest: float = 0.0  # the database's sample is used again until it is this old
    pool_fills_in: float = 60.0  # time constant: pools open connections as work arrives
    # queue and producers
    arrivals: float = 1.0
    backlog: int = 0
    background: float = 0.0  # arrivals of a queue of its own, that no flag pauses
    counted_to: int | None = None  # more waiting jobs than this are "at least so many"
    noisy: bool = False  # arrivals scatter like independent clients (Poisson), or not at all
    honour_delay: float = 5.0  # producers notice the flag this late
    write_owner: bool = True
    # policy
    interval: float = 15.0
    jitter: float = 0.0  # share of the interval by which a pass comes early or late
    observe_for: float = 90.0
    step_up: int = 2
    step_down: int = 1
    scale_down_after: float = 600.0
    drain_within: float = 900.0
    yield_for: float = 300.0
    slow_start: bool = True
    trips: tuple[tuple[str, int, float], ...] = ()  # signal, value (seconds for an age), for
    second_trips: tuple[tuple[str, int, float], ...] = ()  # of a second breaker on the same flag
    recover_for: float = 120.0
    probe_for: float = 300.0


class What(StrEnum):
    """Kinds of events. `amount` and `lasts` mean what the comment says."""

    ARRIVALS = "arrivals"  # amount: jobs per second from now on
    OTHERS = "others"  # amount: connections of other clients from now on
    LOCKS = "locks"  # amount: sessions that wait for locks, for `lasts`; work halves
    OUTAGE = "outage"  # the operator cannot reach the database for `lasts`; amount 1: nobody can
    STALE = "stale"  # readings stay as they are now for `lasts`, with their old time
    UNREADABLE = (
        "unreadable"  # one part of the readings is unknown for `lasts`; amount: which (PARTS)
    )
    API_OUTAGE = "api outage"  # the operator cannot reach the API server for `lasts`
    CRASH = "crash"  # pods that start loop for `lasts`; amount: how many running ones crash now
    ROLLOUT = "rollout"  # somebody restarts the workload
    REPLICAS = "replicas"  # another writer sets replicas to `amount`
    PAUSE = "pause"  # a person pauses (or writes over our pause)
    ROW_GONE = "row gone"  # the flag's row is missing for `lasts`
    RESUME = "resume"  # a person resumes
    FAILING = "failing"  # amount: percent of jobs that fail, for `lasts`
    SLOW = "slow"  # jobs take `amount` times as long, for `lasts`
    KILL = "kill"  # the operator dies in its next pass; amount: where (KILLED); down for `lasts`
    LOSE_STATUS = "lose status"  # the final write of status of the next pass is lost
    CONFLICT = "conflict"  # the next write of replicas meets a conflict
    UNSURE = "unsure"  # the next write of replicas happens, but its answer is lost
    PURGE = "purge"  # a person deletes the newest waiting jobs, all but `amount`
    CLOCK = "clock"  # the operator's clock is off by `amount` seconds for `lasts`


# Which readings `UNREADABLE` hides.
PARTS = ("workload", "connections", "health", "waiting", "oldest", "rates", "outcomes", "flag")
# Where `KILL` strikes: before the intent is stored, after it, after the first effect, after all.
KILLED = ("before intent", "after intent", "after one effect", "after all effects")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at a virtual second."""

    at: float
    what: What
    amount: float = 0.0
    lasts: float = 0.0
