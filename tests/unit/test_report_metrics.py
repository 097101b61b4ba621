"""Metrics as they are scraped: what is unknown or deleted is not there, and the page is true."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reference.metrics import SECTIONS, render_reference
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    BudgetStatus,
    Condition,
    PausedBy,
    PauseState,
    PauseStatus,
    QueueBacklogPolicyStatus,
    ScalingStatus,
)
from starforge_backlog.cluster.errors import Asked
from starforge_backlog.decide.plan import Pause, ScaleTo, StepKind
from starforge_backlog.report.metrics import ActionResult, Metrics, PassResult, PolicyKey
from starforge_backlog.report.metrics_catalogue import CATALOGUE
from starforge_backlog.report.metrics_rows import CONNECTION_TERMS, REPLICA_TERMS
from starforge_backlog.snapshot import (
    Confidence,
    Connections,
    Consumers,
    Count,
    DatabaseHealth,
    DatabaseReading,
    FlagValue,
    Known,
    Outcomes,
    PerReplica,
    ProducerReading,
    QueueReading,
    Snapshot,
    TypeReading,
    Unknown,
    Why,
    Workload,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ETL = PolicyKey("starforge", "etl")
GONE = Unknown(Why.UNREACHABLE, "the database is away", NOW)


def snapshot() -> Snapshot:
    queue = QueueReading(
        waiting=Known(Count(5200, Confidence.AT_LEAST), NOW),
        scheduled=Known(Count(7), NOW),
        in_progress=Known(Count(8), NOW),
        failed=Known(Count(1), NOW),
        oldest_due_age=Known(timedelta(minutes=31), NOW),
        arrivals_per_second=Known(12.5, NOW),
        throughput_per_second=Known(8.0, NOW),
        outcomes=Known(Outcomes(95, 5, timedelta(seconds=90)), NOW),
        failed_attempts_per_second=Known(2.5, NOW),
        consumers=Known(Consumers(live=3, orphaned=2, stalled=1), NOW),
        by_type={
            "backfill_range": TypeReading(
                waiting=Known(Count(40), NOW),
                oldest_due_age=Known(timedelta(minutes=2), NOW),
                outcomes=Known(Outcomes(15, 5, timedelta(minutes=5)), NOW),
            )
        },
    )
    workload = Workload(
        uid="u",
        replicas=4,
        scale_version="7",
        writer=None,
        ready=3,
        pending=1,
        crash_looping=0,
        oom_killed=0,
        terminating=2,
        restarts=6,
        max_surge="25%",
        paused=False,
        rolling_out=False,
    )
    connections = Connections(
        server="s",
        max_connections=100,
        superuser_reserved=3,
        reserved=0,
        provider_reserved=0,
        database_limit=None,
        role_limits={},
        clients=61,
        by_role={},
        peak_by_role={},
        window=timedelta(minutes=15),
        own=1,
        own_role="backlog",
    )
    health = DatabaseHealth(2, timedelta(seconds=9))
    return Snapshot(
        taken_at=NOW,
        workload=Known(workload, NOW),
        per_replica=Known(PerReplica(4, 4, "env", "etl"), NOW),
        database=DatabaseReading(Known(connections, NOW), Known(health, NOW)),
        queues={"jobs": queue},
        producers={"ingestion": Known(ProducerReading(FlagValue.PAUSED, "t", "1"), NOW)},
    )


def status() -> QueueBacklogPolicyStatus:
    terms = {name: n for n, name in enumerate((*CONNECTION_TERMS, *REPLICA_TERMS))}
    return QueueBacklogPolicyStatus(
        cause="ProducerStorm",
        budget=BudgetStatus.model_validate({"formula": "the sum", **terms}),
        scaling=ScalingStatus(need=9, budget_replicas=6),
        breakers=(BreakerStatus(name="ingestion", state=BreakerState.OPEN),),
        paused=(
            PauseStatus(producer="ingestion", by=PausedBy.US, state=PauseState.HELD, since=NOW),
        ),
        conditions=(
            Condition(type="Ready", status="True", reason="AllReachable", last_transition_time=NOW),
        ),
    )


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: NOW)


def observe(
    metrics: Metrics, seen: Snapshot | None, said: QueueBacklogPolicyStatus | None = None
) -> None:
    metrics.observe_pass(
        ETL,
        seen,
        said if said is not None else status(),
        result=PassResult.COMPLETE,
        duration=timedelta(milliseconds=40),
        lateness=timedelta(milliseconds=-3),
    )


def scraped(metrics: Metrics, start: str = "starforge_backlog_") -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith(start))
    return {name: float(value) for name, value in pairs}


LABELS = 'namespace="starforge",policy="etl"'


def test_a_pass_is_shown_in_full(metrics: Metrics) -> None:
    observe(metrics, snapshot())
    found = scraped(metrics)
    jobs = f'{{{LABELS},queue="jobs"}}'
    expected = {
        f"queue_waiting_jobs{jobs}": 5200,
        f"queue_oldest_due_age_seconds{jobs}": 1860,
        f"queue_arrivals_per_second{jobs}": 12.5,
        f"queue_failed_ratio{jobs}": 0.05,
        f"database_connections{{{LABELS}}}": 61,
        f"database_lock_waiters{{{LABELS}}}": 2,
        f'budget_connections{{{LABELS},term="usable"}}': 2,
        f'budget_replicas{{{LABELS},term="replicas"}}': 15,
        f"replicas{{{LABELS}}}": 4,
        f"replicas_needed{{{LABELS}}}": 9,
        f"replicas_allowed{{{LABELS}}}": 6,
        f'pods{{{LABELS},state="terminating"}}': 2,
        f'breaker_state{{breaker="ingestion",{LABELS},state="Open"}}': 1,
        f'breaker_state{{breaker="ingestion",{LABELS},state="Closed"}}': 0,
        f'producer_paused{{{LABELS},producer="ingestion"}}': 1,
        f'pause{{by="Us",{LABELS},producer="ingestion",state="Held"}}': 1,
        f'cause{{cause="ProducerStorm",{LABELS}}}': 1,
        f"last_pass_timestamp_seconds{{{LABELS}}}": NOW.timestamp(),
        "policies": 1,
        'passes_total{result="complete"}': 1,
        "pass_duration_seconds_count": 1,
        'pass_lateness_seconds_bucket{le="0.05"}': 1,
    }
    by_labels = {normal(name): value for name, value in found.items()}
    for name, value in expected.items():
        assert by_labels[normal(f"starforge_backlog_{name}")] == value, name


def normal(series: str) -> str:
    """The order of labels is no matter."""
    name, _, labels = series.partition("{")
    return name + "|" + ",".join(sorted(labels.rstrip("}").split(",")))


def test_unknown_is_not_zero(metrics: Metrics) -> None:
    observe(metrics, snapshot())
    unreadable = snapshot()
    queue = replace(
        unreadable.queues["jobs"],
        waiting=GONE,
        arrivals_per_second=GONE,
        outcomes=Known(Outcomes(0, 0, timedelta(seconds=90)), NOW),
    )
    unreadable = replace(
        unreadable,
        queues={"jobs": queue},
        workload=Unknown(Why.TARGET_NOT_FOUND, "", NOW),
        database=DatabaseReading(GONE, GONE),
        producers={"ingestion": GONE},
    )
    observe(metrics, unreadable, QueueBacklogPolicyStatus())
    names = " ".join(scraped(metrics))
    for name in (
        "queue_waiting_jobs",
        "queue_arrivals",
        "queue_failed_ratio",  # nothing ended, so there is no ratio
        "database_",
        "budget_",
        "replicas",
        "pods",
        "producer_paused",
        "breaker_state",
        "cause",
    ):
        assert f"backlog_{name}" not in names, name
    assert "queue_scheduled_jobs" in names
    unknown = scraped(metrics, "starforge_backlog_unknown_readings")
    assert {normal(name).split("|")[1]: value for name, value in unknown.items()} == {
        f'{LABELS},reason="Unreachable",source="queue"': 2,
        f'{LABELS},reason="TargetNotFound",source="workload"': 1,
        f'{LABELS},reason="Unreachable",source="connections"': 1,
        f'{LABELS},reason="Unreachable",source="health"': 1,
        f'{LABELS},reason="Unreachable",source="producer"': 1,
    }


def test_a_pass_without_readings_still_says_what_the_policy_says(metrics: Metrics) -> None:
    observe(metrics, None)
    names = " ".join(scraped(metrics))
    assert "condition" in names
    assert "queue_waiting_jobs" not in names


def test_series_of_a_deleted_policy_end(metrics: Metrics) -> None:
    observe(metrics, snapshot())
    step = ScaleTo(StepKind.REVERT, 4, 2, "7", 1, 8, "throughput fell")
    metrics.action(ETL, step, ActionResult.DONE)
    metrics.action(ETL, step, ActionResult.DONE)
    metrics.action(ETL, Pause("ingestion", "b", "t", "why"), ActionResult.FAILED)
    actions = scraped(metrics, "starforge_backlog_actions_total")
    assert sorted(actions.values()) == [1, 2]
    assert 'action="ScaleRevert"' in " ".join(actions)
    assert 'action="Pause"' in " ".join(actions)
    metrics.forget(ETL)
    assert 'policy="etl"' not in metrics.render().decode()
    assert scraped(metrics)["starforge_backlog_policies"] == 0


def test_one_series_is_never_shown_twice(metrics: Metrics) -> None:
    # Prometheus refuses a scrape as a whole for one double series
    pause = status().paused[0]
    condition = status().conditions[0]
    twice = status().model_copy(
        update={"paused": (pause, pause), "conditions": (condition, condition)}
    )
    observe(metrics, snapshot(), twice)
    lines = metrics.render().decode().splitlines()
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))


def test_every_metric_of_the_catalogue_is_served_and_no_other(metrics: Metrics) -> None:
    unreadable = replace(snapshot(), workload=GONE)
    observe(metrics, unreadable)
    metrics.observe_pass(
        PolicyKey("starforge", "other"),
        snapshot(),
        status(),
        result=PassResult.COMPLETE,
        duration=timedelta(0),
        lateness=timedelta(0),
    )
    metrics.action(ETL, Pause("ingestion", "b", "t", "why"), ActionResult.DONE)
    metrics.error("connections", "Unreachable")
    metrics.status_write("Written")
    metrics.event("posted")
    metrics.request(Asked("get", "deployments", "apps", "ns", "x"), "200")
    text = metrics.render().decode()
    served = {}
    for line in text.splitlines():
        if match := re.match(r"# TYPE (starforge_backlog_\w+) (\w+)", line):
            served[match[1]] = match[2]
    served = {name: kind for name, kind in served.items() if not name.endswith("_created")}
    assert served == {family.full_name: family.kind.value for family in CATALOGUE}
    for family in CATALOGUE:
        assert f"# HELP {family.full_name} {family.help}" in text


def test_the_page_is_made_of_the_catalogue() -> None:
    how = "run: python -m reference.metrics > docs/reference/metrics.md"
    assert REFERENCE.read_text() == render_reference(), how
    assert sorted(f.name for section in SECTIONS.values() for f in section) == sorted(
        family.name for family in CATALOGUE
    )


def test_terms_of_the_budget_are_all_shown() -> None:
    shown = {*CONNECTION_TERMS, *REPLICA_TERMS}
    words = {"formula", "passing", "server", "role", "max_surge", "held_by"}
    assert shown == set(BudgetStatus.model_fields) - words


def test_what_a_queue_does_not_report_has_no_series(metrics: Metrics) -> None:
    quiet = replace(
        snapshot().queues["jobs"], failed_attempts_per_second=None, consumers=None, by_type={}
    )
    observe(metrics, replace(snapshot(), queues={"jobs": quiet}))
    text = metrics.render().decode()
    assert "queue_workers{" not in text
    assert "queue_type_waiting_jobs{" not in text
    # A server that does not let us ask for connections: no number of workers, the rest is reported.
    hidden = replace(quiet, consumers=Known(Consumers(live=None, orphaned=2), NOW))
    observe(metrics, replace(snapshot(), queues={"jobs": hidden}))
    text = metrics.render().decode()
    assert "queue_workers{" not in text
    assert 'queue_orphaned_jobs{namespace="starforge",policy="etl",queue="jobs"} 2.0' in text


def test_a_type_that_cannot_be_read_is_counted_and_not_shown(metrics: Metrics) -> None:
    gone = TypeReading(GONE, GONE, GONE)
    part = replace(snapshot().queues["jobs"], by_type={"backfill_range": gone})
    observe(metrics, replace(snapshot(), queues={"jobs": part}))
    text = metrics.render().decode()
    assert "queue_type_waiting_jobs{" not in text
    (counted,) = [line for line in text.splitlines() if "unknown_readings{" in line]
    assert counted.endswith(" 3.0")
