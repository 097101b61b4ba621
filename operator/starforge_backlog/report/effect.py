"""Whether a pause does what it should: verified by its effect, where there is one to see. Pure.

| producer                         | what must follow                                        |
|----------------------------------|---------------------------------------------------------|
| featureFlag, configMap, webhook, | arrivals fall, once all that feeds the queues is paused |
| workload                         |                                                         |
| backfillJobs                     | the same; and its reading says whether any still runs   |
| queue, jobTypes                  | its reading: they hold work back, and jobs still arrive |
"""

from __future__ import annotations

from datetime import datetime, timedelta

from starforge_backlog.api.policy import Producer, QueueBacklogPolicySpec
from starforge_backlog.api.status import PauseState, PauseStatus, QueueBacklogPolicyStatus
from starforge_backlog.snapshot import FlagValue, Known, Snapshot

# A pause that works is seen in arrivals within this time: caches of flags live for seconds.
EFFECT_WITHIN = timedelta(seconds=30)
# Arrivals must fall to this part of what they were; another client may still enqueue a little.
EFFECTIVE_SHARE = 0.5


def feeds(producer: Producer) -> bool:
    """Whether jobs arrive because of it."""
    return not producer.background or producer.backfill_jobs is not None


def useless(
    spec: QueueBacklogPolicySpec,
    seen: Snapshot,
    status: QueueBacklogPolicyStatus,
    entry: PauseStatus,
    now: datetime,
) -> bool:
    """The pause is in force, its effect had time, everything else that feeds the queues is paused
    as well, and as much arrives as before."""
    producer = spec.producer(entry.producer)
    if producer is None or not feeds(producer) or not entry.arrivals_before:
        return False
    if not all(_paused(other.name, seen, status) for other in spec.producers if feeds(other)):
        return False  # what arrives may well be theirs
    # Rates are averages over a window, which has to lie within the pause.
    covered = EFFECT_WITHIN + spec.rate_window
    if now - entry.since < covered:
        return False
    arrivals = [queue.arrivals_per_second for queue in seen.queues.values()]
    known = [a.value for a in arrivals if isinstance(a, Known) and a.at - entry.since >= covered]
    return len(known) == len(arrivals) and sum(known) > EFFECTIVE_SHARE * entry.arrivals_before


def _paused(name: str, seen: Snapshot, status: QueueBacklogPolicyStatus) -> bool:
    reading = seen.producers.get(name)
    if isinstance(reading, Known):
        return reading.value.value is FlagValue.PAUSED and not reading.value.leaking
    return any(e.producer == name and e.state is PauseState.HELD for e in status.paused)
