"""A guarded autoscaler, and what is decided about it."""

from __future__ import annotations

from typing import Any

from tests.simulator.given import NOW, OWNER, workload
from tests.simulator.situations import US, other_clients, situation

from starforge_backlog.decide.plan import SetMaximum
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.snapshot import (
    Autoscaler,
    Known,
    ScaleWriter,
    Unknown,
)

HPA = "HorizontalPodAutoscaler"
GUARD = {"horizontalPodAutoscaler": "hpa"}
TARGET = {"name": "etl-worker", "guard": GUARD}
TOKEN = f"{OWNER}/hpa/2026-01-01T00:00:00.000+00:00"


def hpa(maximum: int = 20, **changes: Any) -> Autoscaler:
    """An autoscaler that nobody has lowered."""
    whole: dict[str, Any] = {
        "kind": HPA,
        "name": "hpa",
        "uid": "hpa-1",
        "version": "41",
        "minimum": 1,
        "maximum": maximum,
        "writer": ScaleWriter("kubectl", None),
        "changed_since": True,
    }
    return Autoscaler(**{**whole, **changes})


def lowered(maximum: int, *, owners: int = 20, **changes: Any) -> Autoscaler:
    """One that we have lowered."""
    marks = {"kept_maximum": owners, "token": TOKEN, "written": maximum, "writer": US}
    marks["changed_since"] = False
    return hpa(maximum, **{**marks, **changes})


def at(found: Autoscaler | Unknown | None, **changes: Any) -> Situation:
    """A budget for eleven replicas; four run."""
    reading = found if isinstance(found, Unknown) else Known(found, NOW)
    target = {**TARGET, **changes.pop("target", {})}
    parts = {"target": target, **changes.pop("spec", {})}
    return situation(**{"spec": parts, "autoscaler": reading, "owner": OWNER, **changes})


def step(outcome: Outcome) -> SetMaximum | None:
    assert outcome.step is None or isinstance(outcome.step, SetMaximum)
    return outcome.step


def to(outcome: Outcome) -> int | None:
    found = step(outcome)
    return None if found is None else found.to


FEW = {"budget": other_clients(130, workload(4, max_surge="0"))}  # 200 - 3 - 130 - 20 = four
