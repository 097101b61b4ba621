"""What the operator says of a policy and of itself: columns, Events, conditions, metrics."""

from __future__ import annotations

import re

import pytest
from tests.e2e.place import MAX_CONNECTIONS, PREFIX, Place
from tests.e2e.test_pauses import paused_by_us, recover
from tests.e2e.world import World

from starforge_backlog.report.metrics_catalogue import CATALOGUE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

CONDITIONS = {
    "Ready",
    "BacklogHealthy",
    "DatabaseHeadroom",
    "ConsumersHealthy",
    "ProducersRunning",
    "Scaling",
}


def columns(text: str) -> list[str]:
    """Cells of a line of `kubectl get`."""
    return re.split(r"\s{2,}", text.strip())


def test_a_storm_is_reported(place: Place, world: World) -> None:
    paused_by_us(world)
    world.until(lambda: world.condition("BacklogHealthy")["status"] == "False", "it is bad")

    words = ("Enforce", "etl-worker", "60", "False", "ingestion", "jobs 60 waiting")

    def table() -> list[str] | None:
        """Where every one of them stands: a reading that is late is missing."""
        get = ("get", "qbp", "-n", world.namespace, "-o", "wide")
        found = place.cluster.kubectl(*get).splitlines()
        return found if all(word in found[1] for word in words) else None

    wide = world.until(table, "the row of a storm", every=1)
    assert columns(wide[0]) == [
        *("NAME", "STATE", "TARGET", "REPLICAS", "BUDGET", "WAITING", "OLDEST"),
        *("CAUSE", "HEALTHY", "PAUSED", "LAST PASS", "AGE", "SUMMARY"),
    ]
    narrow = place.cluster.kubectl("get", "qbp", "-n", world.namespace)
    assert "SUMMARY" not in narrow

    status = world.status()
    assert status["observedGeneration"] == world.policy()["metadata"]["generation"]
    assert {c["type"] for c in status["conditions"]} == CONDITIONS
    for condition in status["conditions"]:
        assert condition["reason"], condition
        assert condition["message"], condition
        assert condition["lastTransitionTime"], condition
        assert condition["observedGeneration"] == status["observedGeneration"]

    recover(world)
    world.until_reported("BreakerClosed")
    events = world.events()
    reported = [event["reason"] for event in events]
    order = ["BreakerOpen", "Paused", "BreakerHalfOpen", "Resumed", "BreakerClosed"]
    assert [reason for reason in reported if reason in order] == order
    (paused,) = (event for event in events if event["reason"] == "Paused")
    assert "60 waiting (trips at 50)" in paused["note"], "with the numbers that led to it"
    described = place.cluster.kubectl("describe", "qbp", "etl", "-n", world.namespace)
    assert "BreakerOpen" in described

    for line in world.passes():
        assert line["event"].startswith("etl-worker: "), "every pass ends in one sentence"
        unchanged = line["status"] == "Unchanged"
        assert line["level"] == "info" or (unchanged and line["level"] == "debug")
    assert len({line["timestamp"] for line in world.passes()}) == len(world.passes())


def test_probes_and_metrics(place: Place, world: World) -> None:
    paused_by_us(world)
    world.until(lambda: world.replicas() > 1, "a step")
    assert place.probe("healthz") == (200, "ok\n")
    assert place.probe("readyz") == (200, "ok\n")

    here = {"namespace": world.namespace, "policy": "etl"}
    read = place.metric
    world.until(lambda: read("queue_waiting_jobs", queue="jobs", **here) == 60, "the jobs")
    assert read("breaker_state", breaker="ingestion", state="Open", **here) == 1
    assert read("breaker_state", breaker="ingestion", state="Closed", **here) == 0
    world.until(lambda: read("producer_paused", producer="ingestion", **here) == 1, "next reading")
    assert read("pause", by="Us", state="Held", **here) == 1
    assert read("replicas", **here) >= 1
    world.until(
        lambda: (
            read("database_max_connections", **here) == MAX_CONNECTIONS
            and read("condition", type="Ready", status="True", **here) == 1
        ),
        "a pass that read all",
    )
    assert read("actions_total", result="done", **here) >= 2
    assert read("passes_total") > 0

    known = {family.full_name.removeprefix(PREFIX) for family in CATALOGUE}
    own = [n for n, _ in place.metrics() if not n.startswith(("process_", "python_"))]
    # The client library adds the time of creation to each counter and histogram.
    served = {re.sub("_(bucket|count|sum)$", "", n) for n in own if not n.endswith("_created")}
    assert served - known == set(), "documented nowhere"

    world.delete()
    world.until_gone()
    gone = [labels for _, labels in place.metrics() if here.items() <= dict(labels).items()]
    assert gone == [], "series end with their policy"
