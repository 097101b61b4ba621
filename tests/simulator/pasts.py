"""A policy with a past, and the two kinds of moment it meets: a storm and a calm."""

from __future__ import annotations

from typing import Any

from tests.simulator.given import (
    OWNER,
    Policy,
    later,
    queue,
    seconds,
    seen,
)

from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    RuleStatus,
    ScalingStatus,
)
from starforge_backlog.decide.plan import Plan, ScaleTo
from starforge_backlog.snapshot import (
    Snapshot,
)

WINDOW = seconds(90)
TOKEN = f"{OWNER}/ingestion/2026"
UID = "workload-1"


def kinds(plan: Plan) -> list[str]:
    """What the plan does, in order."""
    return [a.kind.value if isinstance(a, ScaleTo) else type(a).__name__ for a in plan.actions]


def reason(plan: Plan) -> str:
    return plan.assessment.scaling_reason


def held(**changes: Any) -> PauseStatus:
    whole: dict[str, Any] = {
        "producer": "ingestion",
        "by": "Us",
        "state": PauseState.HELD,
        "since": later(-600),
        "token": TOKEN,
        "version": "5",
    }
    return PauseStatus(**{**whole, **changes})


def remembering(
    policy: Policy,
    *,
    breaker: BreakerState = BreakerState.CLOSED,
    breaker_since: float = -600,
    recovering_since: float | None = None,
    paused: tuple[PauseStatus, ...] = (),
    released_at: float | None = None,
    **scaling: Any,
) -> Policy:
    """The policy with a past."""
    memory = {"target_uid": UID, "applied_replicas": 4, "throughput_per_replica": 1.0, **scaling}
    recovered = later(recovering_since) if recovering_since is not None else None
    rule = RuleStatus(signal="waiting>=5000", recovered_since=recovered)
    policy.status = QueueBacklogPolicyStatus(
        scaling=ScalingStatus(**memory),
        breakers=(
            BreakerStatus(
                name="ingestion", state=breaker, since=later(breaker_since), rules=(rule,), trips=1
            ),
        ),
        paused=paused,
        released_at=later(released_at) if released_at is not None else None,
    )
    return policy


def storm(at: float = 0, waiting: int = 9000, **changes: Any) -> Snapshot:
    """A backlog over four replicas, with room for more."""
    reading = queue(waiting, oldest=300, arrivals=20.0, throughput=4.0, at=later(at))
    return seen(at=later(at), queues=reading, **changes)


def calm(at: float = 0, **changes: Any) -> Snapshot:
    """Hardly any work."""
    reading = queue(10, oldest=5, arrivals=3.5, throughput=3.5, at=later(at))
    return seen(at=later(at), queues=reading, **changes)
