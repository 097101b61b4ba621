"""What a step depends on, written short: a storm over four replicas with room for eleven."""

from __future__ import annotations

from typing import Any

from tests.simulator.given import (
    NOW,
    connections,
    later,
    per_replica,
    queue,
    seconds,
    spec,
    workload,
)

from starforge_backlog.api.status import (
    Baseline,
    BudgetStatus,
    ScalingStatus,
    Step,
    StepVerdict,
)
from starforge_backlog.decide.assess.need import load
from starforge_backlog.decide.budget.formula import budget
from starforge_backlog.decide.plan import ScaleTo
from starforge_backlog.decide.situation import Outcome, Situation
from starforge_backlog.decide.steps.scaling import scale
from starforge_backlog.decide.steps.verdict import baseline
from starforge_backlog.snapshot import QueueReading, ScaleWriter, Workload

OBSERVING, PASSED = StepVerdict.OBSERVING, StepVerdict.PASSED
FAILED, INCONCLUSIVE = StepVerdict.FAILED, StepVerdict.INCONCLUSIVE
WINDOW = seconds(90)
UID = "workload-1"
US = ScaleWriter("starforge-backlog", None)
HPA = ScaleWriter("kube-controller-manager", None)
STORM = queue(5000, oldest=300, arrivals=20.0, throughput=4.0)


def step(from_: int = 4, to: int = 6, **changes: Any) -> Step:
    """A step of two minutes ago whose pods have been Ready for 100 s."""
    whole: dict[str, Any] = {
        "from_": from_,
        "to": to,
        "message": "more is needed",
        "at": later(-120),
        "ready_at": later(-100),
        "before": Baseline(waiting_jobs=5000, completion_rate=4.0, failure_percent=0.0),
    }
    return Step(**{**whole, **changes})


def situation(**changes: Any) -> Situation:
    """A storm over four replicas of a budget for eleven; steps of two."""
    parts: dict[str, Any] = changes.pop("spec", {})
    policy = changes.pop("policy", None) or spec(**parts)
    pods: Workload = changes.pop("pods", workload(4, max_surge="0"))
    reading: QueueReading = changes.pop("reading", STORM)
    remembered = {
        "target_uid": UID,
        "applied_replicas": pods.replicas,
        "throughput_per_replica": 1.0,
        **changes.pop("memory", {}),
    }
    assert policy.database is not None
    found = load([("jobs", reading)])
    whole: dict[str, Any] = {
        "spec": policy,
        "workload": pods,
        "before": ScalingStatus(**remembered),
        "load": found,
        "budget": budget(policy.database, connections(), pods, per_replica(10)),
        "free_steps": 100,
        "pressure": (),
        "missed": True,
        "pausing": False,
        "now_reading": baseline(found, pods, 30.0),
        "read_at": changes.get("now", NOW),
        "sample_is_old": False,
        "window_opens": None,
        "now": NOW,
    }
    return Situation(**{**whole, **changes})


def other_clients(count: int, pods: Workload) -> BudgetStatus:
    """The budget when other clients hold that many connections."""
    database = spec().database
    assert database is not None
    there = connections(by_role={"web": count}, peak_by_role={"web": count})
    return budget(database, there, pods, per_replica(10))


def stepped(outcome: Outcome) -> ScaleTo:
    """The write of replicas that there must be."""
    assert isinstance(outcome.step, ScaleTo)
    return outcome.step


def wrote(outcome: Outcome) -> int | None:
    """The replicas that were written; None for a hold."""
    return None if outcome.step is None else outcome.step.to


def judged(one: Step, reading: QueueReading = STORM, **changes: Any) -> Outcome:
    """What becomes of a step that has landed."""
    changes.setdefault("pods", workload(one.to, max_surge="0"))
    memory = {"last_step": one, **changes.pop("memory", {})}
    return scale(situation(reading=reading, memory=memory, **changes))
