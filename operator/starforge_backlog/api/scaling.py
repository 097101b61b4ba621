"""`spec.scaling`: how steps are taken."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from starforge_backlog.api.base import Duration, Model
from starforge_backlog.api.terms import span, whole

# The runbook says 1–2 replicas at a time. Ten is what a large pool may need; more at once can no
# longer be called a small step, and SlowStart gets there after steps that were seen to help.
MOST_PER_STEP = 10


class Growth(StrEnum):
    """How up-steps grow: always `stepUp`, or doubled after each passed step."""

    FIXED = "Fixed"
    SLOW_START = "SlowStart"


class Scaling(Model):
    """How steps are taken."""

    step_up: Annotated[int, whole(1, MOST_PER_STEP)] = 2
    """Replicas that one up-step adds at most. The runbook says 1–2, then observe: a step that
    adds no throughput or brings pressure on the database is taken back."""

    observe_for: Annotated[Duration, span("2s", "1h")] = timedelta(seconds=90)
    """How long a step is observed, from the moment its pods are Ready, before its verdict and
    before the next step. The runbook says 1–2 minutes. Rates are averaged over this time, or over
    spec.interval where that is longer."""

    step_down: Annotated[int, whole(1, MOST_PER_STEP)] = 1
    """Replicas that one down-step removes when the work is done."""

    scale_down_after: Annotated[Duration, span("2s", "24h")] = timedelta(minutes=10)
    """How long fewer replicas must have been enough, without a break, before the first
    down-step. Protects from flapping between storms."""

    growth: Growth = Growth.FIXED
    """How up-steps grow: Fixed adds stepUp each time; SlowStart doubles the step after each one
    that passed, and falls back to stepUp after one that failed."""

    drain_within: Annotated[Duration, span("10s", "24h")] = timedelta(minutes=15)
    """Time in which a backlog should be gone: replicas needed = (arrivals + backlog ÷ this time)
    ÷ throughput of one replica. Shorter asks for more replicas, never for more than the budget."""

    yield_for: Annotated[Duration, span("2s", "24h")] = timedelta(minutes=5)
    """How long a change of replicas by another client (an autoscaler, GitOps, a person) is
    respected after their last write. Meanwhile the condition Scaling is False, with the reason
    ReplicaConflict and the name of the writer. A writer that comes back within this time after it
    was respected is respected for twice as long, up to an hour (or yieldFor, if that is more)."""
