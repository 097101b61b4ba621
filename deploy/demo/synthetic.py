"""A made-up run, to work on the picture and the summary without a cluster.

Not a model of the operator: a list of moments, with a queue that follows from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from demo.recording import (
    About,
    Clients,
    Connections,
    Jobs,
    Operator,
    Recording,
    Sample,
    Workload,
)
from demo.schedule import Schedule

T = TypeVar("T")

STARTED = datetime(2026, 1, 5, 3, 0, tzinfo=UTC)
SCHEDULE = Schedule.parse("15s@12,63s@95,90s@12")
PER_REPLICA_PER_SECOND = 10.0
CONNECTIONS_PER_REPLICA = 4
BUDGET = 6
REPLICAS = [(0, 2), (22, 4), (36, 6), (132, 5), (142, 4), (152, 3), (162, 2)]
PAUSED = (64.0, 96.0)
BREAKER = [(0, "Closed"), (63, "Open"), (95, "HalfOpen"), (108, "Closed")]
SENTENCES = [
    (0, "Healthy: 3 jobs waiting, 2 replicas of a budget of 6."),
    (19, "ProducerStorm: 310 waiting, 95/s arrive, 20/s done; stepping up 2 → 4."),
    (24, "ProducerStorm: 720 waiting; observing the step 2 → 4 until 03:00:34."),
    (36, "ProducerStorm: the step passed (20 → 40/s); stepping up 4 → 6, the budget."),
    (48, "ProducerStorm: 2,100 waiting; budget exhausted at 6 replicas, trip in 12 s."),
    (64, "ProducerStorm: 2,700 waiting for 6 s; ingestion is paused, draining at 60/s."),
    (96, "Recovering: 1,180 waiting, below 50 % of the trip; ingestion resumes as a probe."),
    (108, "Recovering: the probe held; breaker closed, draining at 60/s."),
    (132, "Healthy: idle for 10 s; stepping down 6 → 5."),
    (165, "Healthy: 2 jobs waiting, 2 replicas of a budget of 6."),
]


def recording(seconds: int = 172) -> Recording:
    """The main story as it should be."""
    about = About(
        scenario="main",
        title="A storm of clients makes producers outrun workers",
        per_replica=CONNECTIONS_PER_REPLICA,
        headroom=20,
        surge=1,
        trip_waiting=2500,
        started=STARTED,
    )
    return Recording(about=about, samples=tuple(_samples(seconds)))


def _samples(seconds: int) -> Iterator[Sample]:
    waiting = 0.0
    done = accepted = refused = held = 0.0
    ready = 2.0
    for second in range(seconds):
        replicas = _at(REPLICAS, second)
        paused = PAUSED[0] <= second < PAUSED[1]
        wanted = SCHEDULE.due(second + 1) - SCHEDULE.due(second)
        new = 0.0 if paused else wanted
        accepted += new
        refused += wanted * 0.3 if paused else 0
        held += wanted * 0.7 if paused else 0
        ready = ready + min(1.0, replicas - ready) if replicas > ready else replicas
        worked = min(waiting + new, int(ready) * PER_REPLICA_PER_SECOND)
        waiting += new - worked
        done += worked
        # A pool fills under load and empties slowly.
        busy = min(1.0, 0.35 + waiting / 300)
        yield Sample(
            t=float(second),
            at=STARTED + timedelta(seconds=second),
            jobs=Jobs(
                waiting=int(waiting),
                running=0,
                done=int(accepted) - int(waiting),
                failed=0,
                oldest_seconds=round(waiting / max(1.0, worked), 1),
                repeated=0,
            ),
            connections=Connections(
                workers=round(int(ready) * CONNECTIONS_PER_REPLICA * busy),
                web=44,
                strangers=0,
                operator=1,
                rest=1,
                max_connections=100,
                reserved=3,
            ),
            flag_paused=paused,
            workload=Workload(replicas=replicas, ready=int(ready), terminating=0),
            operator=Operator(
                summary=_at(SENTENCES, second),
                budget=BUDGET if second >= 2 else None,
                breaker=_at(BREAKER, second),
            ),
            clients=Clients(
                seconds=float(second),
                wanted=int(SCHEDULE.due(second + 1)),
                sent=int(accepted + refused),
                accepted=int(accepted),
                refused=int(refused),
                held_back=int(held),
                unsure=0,
                skipped=0,
            ),
        )


def _at(moments: list[tuple[int, T]], second: int) -> T:
    return [value for since, value in moments if since <= second][-1]
