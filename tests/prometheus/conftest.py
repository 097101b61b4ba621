"""A hub of the operator, and questions to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from starforge_backlog.prometheus.connection import Limits
from starforge_backlog.prometheus.hub import PrometheusHub
from starforge_backlog.prometheus.question import Question

# As in production, but for the time that nobody is asked after a fault.
LIMITS = Limits(
    connect_within=timedelta(milliseconds=500),
    answer_within=timedelta(seconds=1),
    give_up_after=timedelta(milliseconds=1500),
    retry_after=timedelta(milliseconds=500),
    shared_for=timedelta(milliseconds=50),
)
# For what is about bytes: on a slow machine a long answer would be late for the limits above.
PATIENT = replace(LIMITS, answer_within=timedelta(seconds=30), give_up_after=timedelta(seconds=30))


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


@pytest.fixture
async def hub() -> AsyncIterator[PrometheusHub]:
    """The operator's servers."""
    made = PrometheusHub(limits=LIMITS)
    yield made
    await made.close()


@pytest.fixture
async def patient_hub() -> AsyncIterator[PrometheusHub]:
    """The same, with half a minute for an answer."""
    made = PrometheusHub(limits=PATIENT)
    yield made
    await made.close()
