"""What a person is asked to run where the operator cannot release: run here, it releases."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.producers.conftest import Human, Operator
from tests.producers.held_jobs import ALL, JOBS
from tests.producers.table import AT, Hands, Operators
from tests.producers.test_backfill_jobs import BEFORE as BACKFILLS
from tests.producers.test_backfill_jobs import SCHEMA as BACKFILL_SCHEMA
from tests.producers.test_backfill_jobs import STATES
from tests.queues.schemas import MODEL

from starforge_backlog.api.producer import Producer
from starforge_backlog.api.status import PausedBy, PauseState, PauseStatus
from starforge_backlog.decide.results import Paused
from starforge_backlog.producers.by_hand import by_hand


def entry(previous: str | None, version: str = "", token: str = "ns/etl/1") -> PauseStatus:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return PauseStatus(
        producer="p",
        by=PausedBy.US,
        state=PauseState.HELD,
        since=since,
        token=token,
        previous=previous,
        version=version,
    )


def statement(way: dict[str, Any], kept: PauseStatus) -> str:
    said = by_hand("ns", Producer.model_validate({"name": "p", **way}), kept)
    begin, _, sql = said.partition("in the database run: ")
    assert begin == ""
    return sql


@pytest.mark.postgres
@pytest.mark.parametrize("before", [{}, {"ingest_paused": False, "note": "it's kept"}], ids=str)
async def test_a_flag(human: Human, operator: Operator, before: dict[str, Any]) -> None:
    human.write(before)
    got = await operator().pause(owner="ns/etl", token="ns/etl/1", at=AT)
    assert isinstance(got, Paused)
    assert human.read()["ingest_paused"] is True
    human.run(statement({"featureFlag": {}}, entry(got.previous, got.version)))
    assert human.read() == before


@pytest.mark.postgres
async def test_backfills(rows_url: str, operators: Operators) -> None:
    with Hands.at(rows_url, BACKFILL_SCHEMA) as hands:
        policy = operators.backfills()
        await policy.pause()
        assert policy.entry is not None
        hands.run(statement({"backfillJobs": {}}, policy.entry))
        assert hands.rows(STATES) == BACKFILLS, "a person's own pause stays"


@pytest.mark.postgres
async def test_job_types(rows_url: str, operators: Operators) -> None:
    with Hands.at(rows_url, *MODEL, JOBS) as hands:
        before = hands.rows(ALL)
        policy = operators.job_types()
        await policy.pause()
        assert policy.entry is not None
        assert hands.rows(ALL) != before
        hands.run(statement({"jobTypes": {"types": ["backfill_range"]}}, policy.entry))
        assert hands.rows(ALL) == before


@pytest.mark.parametrize(
    ("way", "previous", "says"),
    [
        (
            {"configMap": {"name": "api"}},
            '"false"',
            (
                "kubectl patch configmap api -n ns --type=merge -p"
                """ '{"data": {"ingest_paused": "false"}}' && kubectl annotate"""
                " configmap api -n ns backlog.starforge.dev/paused-"
            ),
        ),
        ({"configMap": {"name": "api"}}, None, '{"data": {"ingest_paused": null}}'),
        ({"workload": {"name": "crawler"}}, "3", '{"spec": {"replicas": 3}}'),
        (
            {"workload": {"kind": "CronJob", "name": "nightly"}},
            "null",
            'patch cronjob nightly -n ns --type=merge -p \'{"spec": {"suspend": false}}\'',
        ),
        (
            {"queue": {"url": {"secretKeyRef": {"name": "r", "key": "u"}}, "name": "etl"}},
            None,
            "HDEL bull:etl:meta concurrency, then HDEL bull:etl:meta starforge-backlog",
        ),
        (
            {"queue": {"url": {"secretKeyRef": {"name": "r", "key": "u"}}, "name": "etl"}},
            '"5"',
            "HSET bull:etl:meta concurrency 5",
        ),
        (
            {"webhook": {"url": "https://partner.example/ingest"}},
            None,
            json.dumps({"action": "resume", "token": "ns/etl/1"}),
        ),
    ],
)
def test_what_is_not_in_the_database(way: dict[str, Any], previous: str | None, says: str) -> None:
    assert says in by_hand("ns", Producer.model_validate({"name": "p", **way}), entry(previous))
