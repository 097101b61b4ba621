"""How far apart the policies of one database start."""

from __future__ import annotations

import pytest

from starforge_backlog.observe import SHARED_FOR
from starforge_backlog.scheduler import SECONDS_PER_PASS, spread


@pytest.mark.parametrize("policies", [1, 5, 50])
def test_a_few_policies_share_one_set_of_readings(policies: int) -> None:
    assert spread(policies, interval=15) < SHARED_FOR.total_seconds()


@pytest.mark.parametrize("policies", [100, 200, 700])
def test_many_have_the_time_that_they_need(policies: int) -> None:
    assert spread(policies, interval=15) >= policies * SECONDS_PER_PASS


def test_phases_move_only_when_the_number_has_doubled() -> None:
    assert len({spread(policies, interval=60) for policies in range(1, 801)}) <= 5


@pytest.mark.parametrize("interval", [2, 15, 600])
def test_never_over_more_than_half_of_the_interval(interval: float) -> None:
    assert spread(100_000, interval) <= interval / 2
