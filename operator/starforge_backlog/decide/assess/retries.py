"""Retry storms: far more attempts than jobs (runbook, cause 4). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from starforge_backlog.decide.assess.need import TOLERANCE
from starforge_backlog.decide.assess.objectives import MIN_SAMPLES
from starforge_backlog.decide.numbers import about
from starforge_backlog.decide.plan import Cause, Finding
from starforge_backlog.snapshot import Known, QueueReading

# Failed attempts per job that ends, well or badly. StarForge allows five attempts: a job in trouble
# makes at most five, so two on the average of all jobs is a queue that mostly works for nothing.
STORM_RATIO = 2


def retry_storm(
    queues: Mapping[str, QueueReading], missed: Mapping[str, tuple[object, ...]], window: timedelta
) -> Finding | None:
    """The first queue whose workers fail the same jobs again and again while its backlog grows or
    an objective is missed. `window` is that of the rates. Queues that do not report attempts, or
    not now, prove nothing (P2)."""
    for name, queue in queues.items():
        failed, ended = queue.failed_attempts_per_second, queue.throughput_per_second
        if not isinstance(failed, Known) or not isinstance(ended, Known):
            continue
        arrivals = queue.arrivals_per_second
        grows = isinstance(arrivals, Known) and arrivals.value > ended.value * (1 + TOLERANCE)
        enough = failed.value * window.total_seconds() >= MIN_SAMPLES
        if enough and failed.value >= STORM_RATIO * ended.value and (grows or missed.get(name)):
            return Finding(
                Cause.RETRY_STORM,
                f"queue {name}: {about(failed.value)} attempts/s fail while"
                f" {about(ended.value)} jobs/s end: the same jobs fail again and again",
            )
    return None
