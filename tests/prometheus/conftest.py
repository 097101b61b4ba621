"""A hub of the operator, and questions to ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from starforge_backlog.prometheus.connection import Limits
from starforge_backlog.prometheus.hub import Prometheus, PrometheusHub
from starforge_backlog.prometheus.question import Question
from starforge_backlog.snapshot import Known, Reading

# For servers that hang: long enough for the good ones beside them on a machine that stands still
# for seconds, and twenty callers who each waited so long would be seen.
LIMITS = Limits(
    connect_within=timedelta(seconds=4),
    answer_within=timedelta(seconds=4),
    give_up_after=timedelta(seconds=5),
    retry_after=timedelta(milliseconds=500),
    shared_for=timedelta(milliseconds=50),
)
# For all others: how soon they answer is the machine's.
PATIENT = replace(
    LIMITS,
    connect_within=timedelta(seconds=30),
    answer_within=timedelta(seconds=30),
    give_up_after=timedelta(seconds=30),
)


def question(
    expression: str, *, window: float = 10.0, stale_after: float = 120.0, field: str = ""
) -> Question:
    """An expression as a policy has it."""
    return Question(
        field or "queues[jobs].prometheus.waiting",
        expression,
        timedelta(seconds=window),
        timedelta(seconds=stale_after),
    )


async def until_known(
    prometheus: Prometheus, asked: Question, value: float | None = None, *, within: float = 60
) -> Known[float]:
    """The reading, when it is known (and about `value`): a scrape that was late ends its series
    until the next one."""
    reading: Reading[float] | None = None
    try:
        async with asyncio.timeout(within):
            while True:
                reading = await prometheus.number(asked)
                if isinstance(reading, Known) and (
                    value is None or reading.value == pytest.approx(value, rel=0.3)
                ):
                    return reading
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {within:g} s; the last reading: {reading}")


@pytest.fixture
async def hub() -> AsyncIterator[PrometheusHub]:
    """The operator's servers, with half a minute for an answer."""
    made = PrometheusHub(limits=PATIENT)
    yield made
    await made.close()


@pytest.fixture
async def hasty_hub() -> AsyncIterator[PrometheusHub]:
    """The same, with seconds."""
    made = PrometheusHub(limits=LIMITS)
    yield made
    await made.close()
