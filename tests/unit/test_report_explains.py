"""What on-call reads: state, cause, numbers of now, whom it waits for, and what to run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulator.given import (
    NOW,
    fresh_policy,
    later,
    queue,
    seen,
    spec,
    unknown,
    workload,
)

from starforge_backlog.api.database import Database
from starforge_backlog.api.secret import SecretKeyRef
from starforge_backlog.api.status import (
    BreakerState,
    BreakerStatus,
    Condition,
    PausedBy,
    PauseState,
    PauseStatus,
    PolicyState,
    QueueBacklogPolicyStatus,
    ScalingStatus,
)
from starforge_backlog.cluster.secrets import KeyValues, pick
from starforge_backlog.decide.decision import decide
from starforge_backlog.decide.plan import Plan
from starforge_backlog.report.faults import not_understood
from starforge_backlog.report.metrics_catalogue import BUDGET_CONNECTIONS, CAUSE
from starforge_backlog.report.metrics_rows import rows_of
from starforge_backlog.report.secrets import with_secrets
from starforge_backlog.report.status import report
from starforge_backlog.snapshot import (
    Known,
    NotReady,
    QueueReading,
    Snapshot,
    Source,
    SourceKind,
    Unknown,
    Why,
)

NEW = QueueBacklogPolicyStatus()


class Course:
    """A policy from pass to pass, and what people read of it."""

    def __init__(self, **parts: Any) -> None:
        self.policy = fresh_policy(**{"breakers": [], **parts})
        self.status = NEW
        self.plan: Plan | None = None

    def sees(self, snapshot: Snapshot) -> QueueBacklogPolicyStatus:
        plan = decide(
            self.policy.spec,
            self.status,
            snapshot,
            snapshot.taken_at,
            owner="uid-1",
            hold=self.policy.hold,
        )
        self.plan = plan
        self.status = report(self.policy.spec, self.status, plan, (), 1, snapshot.taken_at)
        return self.status

    def at(
        self, moment: float, reading: QueueReading | None = None, **changes: Any
    ) -> QueueBacklogPolicyStatus:
        when = later(moment)
        return self.sees(seen(at=when, queues=reading or queue(at=when), **changes))

    def says(self, kind: str) -> Condition:
        found = self.status.condition(kind)
        assert found is not None
        return found


def backlog(moment: float, waiting: int = 9_000, **changes: Any) -> QueueReading:
    return queue(waiting, oldest=300, at=later(moment), **changes)


# --- cause --------------------------------------------------------------------------------------


def test_the_cause_is_never_empty_while_a_queue_is_not_healthy() -> None:
    course = Course()
    storm = ScalingStatus(throughput_per_replica=1.0, applied_replicas=4, target_uid="workload-1")
    course.status = QueueBacklogPolicyStatus(scaling=storm)
    course.at(0, backlog(0, arrivals=40.0, throughput=4.0))
    assert course.status.cause == "ProducerStorm"
    for moment in range(15, 1200, 15):  # nothing arrives any more, and the backlog is there
        status = course.at(moment, backlog(moment, arrivals=0.5, throughput=4.0))
        assert status.cause == "ProducerStorm (earlier)"
    assert course.says("BacklogHealthy").status == "False"
    assert course.at(1300, queue(10, oldest=5, at=later(1300))).cause == ""


def test_a_backlog_that_no_rule_explains_has_its_numbers() -> None:
    course = Course()
    for moment in range(0, 600, 15):
        status = course.at(moment, backlog(moment, arrivals=3.0, throughput=4.0))
        healthy = course.says("BacklogHealthy").status
        assert bool(status.cause) is (healthy == "False")
    assert status.cause == "Unknown: 3/s in, 4/s out"
    labels = [labels for family, labels, _ in rows_of(None, status) if family is CAUSE]
    assert labels == [("Unknown",)], "a series per cause, not per number"


# --- numbers of now -----------------------------------------------------------------------------


def test_a_miss_that_lasts_shows_the_numbers_of_now() -> None:
    course = Course()
    course.at(0, backlog(0, 9_000))
    status = course.at(3_600, backlog(3_600, 900))
    assert status.queues[0].missed == ("waiting 900 > 500",)
    assert "waiting 900 > 500" in course.says("BacklogHealthy").message
    steady = course.at(3_615, backlog(3_615, 903))
    assert steady.queues[0].missed == status.queues[0].missed


@pytest.mark.parametrize(
    ("waiting", "text"),
    [(504, "waiting just above 500"), (512, "waiting 510 > 500"), (5_234, "waiting 5200 > 500")],
)
def test_a_rounded_number_never_says_that_the_objective_is_met(waiting: int, text: str) -> None:
    assert Course().at(0, queue(waiting)).queues[0].missed == (text,)


def test_a_source_that_is_silent_after_a_miss_says_since_when() -> None:
    course = Course()
    course.at(0, backlog(0))
    silent = queue(unknown(), oldest=unknown(), at=later(600))
    course.at(600, silent)
    message = course.says("BacklogHealthy").message
    assert "jobs: objective missed since 01:00:00 UTC, and it cannot be read now" in message


def test_nothing_waits_is_0_where_nothing_arrives() -> None:
    idle = queue(0, oldest=0, arrivals=0.0, throughput=0.0)
    status = Course().at(0, idle)
    assert (status.waiting, status.queues[0].waiting) == ("0", "0")


# --- state --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "hold", "changes", "state"),
    [
        ({}, None, {}, PolicyState.ENFORCE),
        ({"mode": "Observe"}, None, {}, PolicyState.OBSERVE),
        ({"suspend": True}, None, {}, PolicyState.SUSPENDED),
        ({}, "exams", {}, PolicyState.HELD),
        ({}, None, {"target": unknown()}, PolicyState.NOT_READY),
        ({"mode": "Observe"}, None, {"target": unknown()}, PolicyState.NOT_READY),
        ({}, "exams", {"target": unknown()}, PolicyState.HELD),
    ],
)
def test_states(
    parts: dict[str, Any], hold: str | None, changes: dict[str, Any], state: PolicyState
) -> None:
    course = Course(**parts)
    course.policy.hold = hold
    assert course.at(0, **changes).state is state


def test_a_spec_that_cannot_be_read_is_not_ready() -> None:
    assert not_understood(NEW, "spec.x: no", 1, NOW).state is PolicyState.NOT_READY


# --- whom a breaker waits for -------------------------------------------------------------------

BREAKER = {
    "name": "storm",
    "pause": ["ingestion"],
    "trip": [{"waiting": 5_000, "for": "10m"}],
    "recover": {"belowPercent": 50, "for": "2m", "probeFor": "5m"},
}


@pytest.mark.parametrize("state", [BreakerState.HALF_OPEN, BreakerState.OPEN])
def test_a_breaker_that_waits_for_a_person_says_for_whom_and_how(state: BreakerState) -> None:
    course = Course(breakers=[BREAKER])
    theirs = PauseStatus(
        producer="ingestion",
        by=PausedBy.OTHER,
        state=PauseState.FOREIGN,
        since=NOW,
        message="paused by psql, which has to resume it",
    )
    breaker = BreakerStatus(name="storm", state=state, since=NOW, message="w")
    course.status = QueueBacklogPolicyStatus(breakers=(breaker,), paused=(theirs,))
    status = course.at(3_600, backlog(3_600), producers=unknown())
    assert "waits for ingestion (paused by psql" in status.summary
    assert "since 01:00:00 UTC" in status.summary
    assert "set ingest_paused of row ingest_control in feature_flags to false" in status.summary
    assert "not judged yet" not in status.summary
    assert "goes half-open" not in status.summary
    running = course.says("ProducersRunning")
    assert running.reason == "PausedByOthers"
    assert "to resume it, set ingest_paused" in running.message


def test_a_breaker_that_waits_for_nobody_says_what_ends_it() -> None:
    course = Course(breakers=[BREAKER])
    ours = PauseStatus(
        producer="ingestion",
        by=PausedBy.US,
        state=PauseState.HELD,
        since=NOW,
        token="uid-1/ingestion/1",
    )
    breaker = BreakerStatus(name="storm", state=BreakerState.OPEN, since=NOW, message="w")
    course.status = QueueBacklogPolicyStatus(breakers=(breaker,), paused=(ours,))
    status = course.at(60, backlog(60), producers=unknown())
    assert "goes half-open once waiting is below 2500 for 2m" in status.summary


# --- pods ---------------------------------------------------------------------------------------


LOOPS = NotReady("etl-a", "CrashLoopBackOff (exit 1)")


@pytest.mark.parametrize(
    ("changes", "reason", "command"),
    [
        (
            {"ready": 0, "crash_looping": 4, "not_ready": LOOPS},
            "CrashLoopBackOff",
            "`kubectl logs etl-a --previous`",
        ),
        (
            {"ready": 2, "pending": 2, "not_ready": NotReady("etl-b", "ImagePullBackOff")},
            "PodsNotReady",
            "`kubectl describe pod etl-b`",
        ),
        ({"oom_killed": 2}, "OOMKilled", "2 of 4 pods ran out of memory"),
        ({"oom_killed": 2}, "OOMKilled", "`kubectl describe pod"),
    ],
)
def test_pods_that_do_not_work_come_with_the_command(
    changes: dict[str, Any], reason: str, command: str
) -> None:
    course = Course()
    course.at(0, target=workload(4, **changes))
    condition = course.says("ConsumersHealthy")
    assert (condition.status, condition.reason) == ("False", reason)
    assert command in condition.message
    assert not condition.message.startswith((";", ":"))


def test_no_step_needed_is_no_answer_while_no_pod_works() -> None:
    course = Course()
    down = workload(3, ready=0, crash_looping=3, not_ready=LOOPS)
    course.at(0, target=down)
    scaling = course.says("Scaling")
    assert (scaling.status, scaling.reason) == ("False", "PodsNotReady")
    assert "0 of 3 pods Ready: etl-a: CrashLoopBackOff" in scaling.message
    course.at(15, target=workload(3))
    assert course.says("Scaling").reason == "Steady"


# --- Secrets ------------------------------------------------------------------------------------


def ref(name: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "K"}}


SOURCES = spec(
    database={"url": ref("db"), "pgbouncer": {"url": ref("console")}},
    queues=[
        {"name": "table", "postgres": {}},
        {"name": "bull", "bullmq": {"url": ref("redis"), "name": "q"}},
        {
            "name": "series",
            "prometheus": {
                "url": "http://prometheus:9090",
                "waiting": "w",
                "bearerToken": ref("token"),
            },
        },
    ],
    producers=[
        {"name": "flag", "featureFlag": {}},
        {"name": "brake", "queue": {"url": ref("brake"), "name": "q"}},
        {"name": "hook", "webhook": {"url": "https://a.example/p", "secret": ref("hook")}},
        {"name": "map", "configMap": {"name": "m"}},
    ],
    breakers=[],
)


DATABASE = Source(SourceKind.DATABASE)
TABLE = Source(SourceKind.QUEUE, "table")
FLAG = Source(SourceKind.PRODUCER, "flag")


@pytest.mark.parametrize(
    ("what", "secret"),
    [
        (DATABASE, "db"),
        (Source(SourceKind.PGBOUNCER), "console"),
        (TABLE, "db"),
        (Source(SourceKind.QUEUE, "bull"), "redis"),
        (Source(SourceKind.QUEUE, "series"), "token"),
        (FLAG, "db"),
        (Source(SourceKind.PRODUCER, "brake"), "brake"),
        (Source(SourceKind.PRODUCER, "hook"), "hook"),
        (Source(SourceKind.PRODUCER, "map"), None),
        (Source(SourceKind.TARGET, "etl-worker"), None),
    ],
)
def test_a_wrong_password_names_the_secret_and_its_key(what: Source, secret: str | None) -> None:
    wrong = Unknown(Why.WRONG_PASSWORD, "refused; put the current password into the Secret.", NOW)
    named = with_secrets(SOURCES, what, wrong).message
    assert named == wrong.message + (f" (Secret {secret}, key K)" if secret else "")
    away = replace(wrong, why=Why.TIMEOUT)
    assert with_secrets(SOURCES, what, away) == away


@pytest.mark.parametrize("what", [DATABASE, TABLE, FLAG])
def test_a_database_s_authorities_are_named_beside_its_url(what: Source) -> None:
    """ "tls.ca holds no certificates" must not send anybody to the Secret with the URL alone."""
    spec = SOURCES.model_copy(
        update={
            "database": Database.model_validate(
                {
                    "url": {"secretKeyRef": {"name": "db", "key": "K"}},
                    "tls": {"ca": {"secretKeyRef": {"name": "authority", "key": "ca.crt"}}},
                }
            )
        }
    )
    wrong = Unknown(Why.SECRET_MALFORMED, "tls.ca holds no certificates.", NOW)
    assert "or Secret authority, key ca.crt" in with_secrets(spec, what, wrong).message


def test_a_fault_that_names_its_secret_names_it_once() -> None:
    """The adapter that read the value knows the Secret; who finds a fault in the value does not."""
    found = Known(KeyValues({"K": None}), NOW)
    wrong = pick(found, "Secret", "ns", SecretKeyRef(name="db", key="K"))
    assert isinstance(wrong, Unknown)
    assert with_secrets(SOURCES, DATABASE, wrong) == wrong
    elsewhere = replace(wrong, names_secret=False)
    assert with_secrets(SOURCES, DATABASE, elsewhere).message.endswith(" (Secret db, key K)")


def test_ready_says_it() -> None:
    course = Course()
    wrong = Unknown(Why.WRONG_PASSWORD, "The database refused the password.", NOW)
    course.sees(seen(open_now=wrong, state=wrong))
    ready = course.says("Ready")
    assert (ready.reason, ready.status) == ("WrongPassword", "False")
    assert "Secret starforge-db, key DATABASE_URL" in ready.message
    assert "Secret starforge-db, key DATABASE_URL" in course.status.summary


# --- metrics ------------------------------------------------------------------------------------


def test_the_pressure_cap_counts_connections() -> None:
    course = Course()
    status = course.at(0)
    terms = {labels for family, labels, _ in rows_of(None, status) if family is BUDGET_CONNECTIONS}
    assert ("pressure_cap",) in terms
