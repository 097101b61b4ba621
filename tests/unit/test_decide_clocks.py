"""Memory of a clock that ran ahead holds nothing up."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.simulator.given import (
    NOW,
    fresh_policy,
)
from tests.simulator.pasts import UID, WINDOW, held, kinds, storm

from starforge_backlog.api.status import (
    BreakerStatus,
    ExternalWriter,
    OldPool,
    QueueBacklogPolicyStatus,
    RuleStatus,
    ScalingStatus,
    Step,
    Surplus,
)
from starforge_backlog.decide.assess.clocks import SKEW, not_from_the_future


def from_the_future(ahead: timedelta) -> QueueBacklogPolicyStatus:
    """A status that another node wrote whose clock ran ahead."""
    then = NOW + ahead
    step = Step(from_=2, to=4, message="", at=then, ready_at=then, verdict_at=then)
    return QueueBacklogPolicyStatus(
        scaling=ScalingStatus(
            target_uid=UID,
            applied_replicas=4,
            last_step=step,
            idle_since=then,
            next_step_not_before=then + WINDOW,
            hold_down_until=then + timedelta(minutes=30),
            external=ExternalWriter(manager="hpa", replicas=4, since=then),
            surplus=Surplus(connections=9, gone_since=then),
            old_pool=OldPool(pool=10, since=then),
            last_external=ExternalWriter(manager="hpa", replicas=4, since=then),
        ),
        breakers=(
            BreakerStatus(
                name="ingestion",
                since=then,
                seen_at=then,
                rules=(
                    RuleStatus(
                        signal="waiting>=5000",
                        exceeded_since=then,
                        recovered_since=then,
                        unknown_since=then,
                    ),
                ),
            ),
        ),
        paused=(held(since=then),),
        released_at=then,
    )


def test_memory_of_a_clock_that_ran_ahead_is_fixed() -> None:
    fixed = not_from_the_future(
        from_the_future(timedelta(days=1)),
        NOW,
        longest_window=WINDOW,
        longest_hold_down=timedelta(minutes=30),
    )
    assert fixed == from_the_future(timedelta(0))


@pytest.mark.parametrize("ahead", [timedelta(0), -timedelta(hours=1), SKEW])
def test_memory_that_is_about_right_is_not_written_again(ahead: timedelta) -> None:
    status = from_the_future(ahead)
    same = not_from_the_future(
        status, NOW, longest_window=WINDOW, longest_hold_down=timedelta(minutes=30)
    )
    assert same is status


def test_every_moment_of_memory_is_checked() -> None:
    """A moment that is added to the status must be thought of in `clocks.py`."""
    whole = from_the_future(timedelta(days=1))
    changes: list[QueueBacklogPolicyStatus] = [
        QueueBacklogPolicyStatus(released_at=whole.released_at),
        QueueBacklogPolicyStatus(paused=whole.paused),
        *(
            QueueBacklogPolicyStatus(breakers=(BreakerStatus.model_validate({"name": "b", n: at}),))
            for n, at in dict(whole.breakers[0]).items()
            if isinstance(at, datetime)
        ),
        *(
            QueueBacklogPolicyStatus(scaling=ScalingStatus(**{name: value}))
            for name, value in dict(whole.scaling).items()
            if name not in {"target_uid", "applied_replicas"} and value not in (None, 0, "")
        ),
        *(
            QueueBacklogPolicyStatus(breakers=(BreakerStatus(name="b", rules=(rule,)),))
            for rule in (
                RuleStatus.model_validate({"signal": "s", name: at})
                for name, at in dict(whole.breakers[0].rules[0]).items()
                if name != "signal"
            )
        ),
    ]
    assert len(changes) == 15
    for status in changes:
        found = not_from_the_future(
            status, NOW, longest_window=WINDOW, longest_hold_down=timedelta(minutes=30)
        )
        assert found != status, status


def test_a_step_of_tomorrow_does_not_hold_the_next_one_until_then() -> None:
    policy = fresh_policy(breakers=[])
    policy.status = from_the_future(timedelta(days=1))
    for at in (0, 90, 180, 1800, 1815, 2100):
        plan = policy.decide(storm(at))
        if plan.actions:
            break
    assert kinds(plan) != []
