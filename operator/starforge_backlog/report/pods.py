"""Pods that do not work, in words: the command to run, and no "all is well" beside them. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from starforge_backlog.api.status import ScalingStatus
from starforge_backlog.decide.plan import Plan
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.report.draft import FALSE, MESSAGE_LIMIT, TRUE, Draft
from starforge_backlog.snapshot import Known, Reading, Workload

# Reasons of ConsumersHealthy that `kubectl describe` of the pod explains.
_DESCRIBED: Final = frozenset({"PodsNotReady", "PodsNotCreated", "RolloutStuck"})


def with_commands(draft: Draft, workload: Reading[Workload]) -> Draft:
    """What to run to see more, by the condition's reason."""
    if not isinstance(workload, Known) or draft.status == TRUE:
        return draft
    pods = workload.value
    pod = pods.not_ready.pod if pods.not_ready is not None else "POD"
    parts = [draft.message] if draft.message else []
    match draft.reason:
        case "CrashLoopBackOff":
            parts.append(f"see its last output with `kubectl logs {pod} --previous`")
        case "OOMKilled":
            parts.insert(0, f"{pods.oom_killed} of {pods.replicas} pods ran out of memory")
            parts.append(
                "raise resources.limits.memory, or let a worker do less at once;"
                f" `kubectl describe pod {pod}` shows limit and last state"
            )
        case reason if reason in _DESCRIBED and pods.not_ready is not None:
            parts.append(f"`kubectl describe pod {pod}` shows its Events")
        case _:
            return draft
    return replace(draft, message="; ".join(parts)[:MESSAGE_LIMIT])


def unless_nothing_works(draft: Draft, plan: Plan, scaling: ScalingStatus) -> Draft:
    """ "No step needed" is no answer while pods that were asked for are missing for good."""
    if draft.reason != ScalingReason.STEADY or not isinstance(plan.seen.workload, Known):
        return draft
    pods, step = plan.seen.workload.value, scaling.last_step
    starting = step is not None and step.ready_at is None and step.to == pods.replicas
    if not pods.replicas or pods.ready or starting:
        return draft
    found = pods.trouble
    why = f": {found}" if found else ""
    text = (
        f"{pods.ready} of {pods.replicas} pods Ready{why}; more replicas would not become Ready"
        " either"
    )
    return replace(draft, status=FALSE, reason=ScalingReason.PODS_NOT_READY, message=text)
