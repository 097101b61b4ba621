"""The policy of a setup, written as an admin would."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.simulator.setup import Setup

from starforge_backlog.api.base import format_duration
from starforge_backlog.api.policy import QueueBacklogPolicySpec

OWNER = "policy-uid"
PRODUCER = "ingestion"
QUEUE = "jobs"
BACKGROUND = "background"


def policy(setup: Setup) -> QueueBacklogPolicySpec:
    """The spec, through the same parser that reads it from the API server."""
    breakers = [
        _breaker(name, trips, setup)
        for name, trips in (("first", setup.trips), ("second", setup.second_trips))
        if trips
    ]
    queues = [{"name": QUEUE, "postgres": {}}]
    if setup.background:
        queues.append({"name": BACKGROUND, "priority": "Background", "postgres": {}})
    target: dict[str, Any] = {"name": "etl-worker", "minReplicas": setup.min_replicas}
    if setup.max_replicas is not None:
        target["maxReplicas"] = setup.max_replicas
    return QueueBacklogPolicySpec.model_validate(
        {
            "interval": _seconds(setup.interval),
            "target": target,
            "database": {
                "url": {"secretKeyRef": {"name": "starforge-db", "key": "DATABASE_URL"}},
                "headroom": setup.headroom,
                "pressure": {"utilizationPercent": setup.pressure_percent},
            },
            "queues": queues,
            "scaling": {
                "stepUp": setup.step_up,
                "stepDown": setup.step_down,
                "observeFor": _seconds(setup.observe_for),
                "scaleDownAfter": _seconds(setup.scale_down_after),
                "drainWithin": _seconds(setup.drain_within),
                "yieldFor": _seconds(setup.yield_for),
                "growth": "SlowStart" if setup.slow_start else "Fixed",
            },
            "producers": [
                {"name": PRODUCER, "featureFlag": {"writeOwner": setup.write_owner}},
            ],
            "breakers": breakers,
        }
    )


def _breaker(name: str, trips: tuple[tuple[str, int, float], ...], setup: Setup) -> dict[str, Any]:
    return {
        "name": name,
        "pause": [PRODUCER],
        "trip": [
            {
                signal: _seconds(value) if signal == "oldestAge" else value,
                "for": _seconds(sustained),
            }
            for signal, value, sustained in trips
        ],
        "recover": {
            "for": _seconds(setup.recover_for),
            "probeFor": _seconds(setup.probe_for),
        },
    }


def _seconds(seconds: float) -> str:
    return format_duration(timedelta(seconds=seconds))
