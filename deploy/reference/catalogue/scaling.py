"""Reasons of the condition `Scaling`; those of a missing reading are in `readings.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reference.catalogue.entry import Entry
from starforge_backlog.decide.reasons import ScalingReason

# Its status, and whether it is an Event, is in `ScalingReason.means`.
SCALING: Final[Mapping[ScalingReason, Entry]] = {
    ScalingReason.STEADY: Entry(
        "No step is needed.",
    ),
    ScalingReason.STEPPING: Entry(
        "A step was just written.",
    ),
    ScalingReason.ASLEEP: Entry(
        "0 replicas, nothing is due.",
    ),
    ScalingReason.AT_MAXIMUM: Entry(
        "More is needed and `target.maxReplicas` is reached.",
        "Raise `maxReplicas` if the budget is above it.",
    ),
    ScalingReason.GUARDED: Entry(
        "The maximum of the guarded autoscaler is lowered, and no more is needed.",
    ),
    ScalingReason.DRAINING: Entry(
        "Producers are paused and the backlog will be gone within `drainWithin`.",
    ),
    ScalingReason.OBSERVING: Entry(
        "The last step is observed, or its window is not over.",
        "Wait until the time in the message.",
    ),
    ScalingReason.BUDGET_EXHAUSTED: Entry(
        "More is needed and the database serves no more.",
        "Free connections, lower `PG_POOL_MAX`, or raise `max_connections`."
        " `status.budget.heldBy` names other policies that hold the rest.",
    ),
    ScalingReason.NO_BUDGET: Entry(
        "More is needed, and without a database or a maximum the step has no bound.",
        "Set `spec.database` or `target.maxReplicas`.",
    ),
    ScalingReason.MINIMUM_ABOVE_BUDGET: Entry(
        "The minimum of the guarded autoscaler is above the budget.",
        "Lower that minimum, or the pool.",
    ),
    ScalingReason.QUEUE_LIMIT: Entry(
        "The queue's own limit holds jobs back.",
        "Raise the limit, or wait.",
    ),
    ScalingReason.HOLD_DOWN: Entry(
        "A step failed and was taken back. No step up until the time in the message: 2 ×"
        " `observeFor`, doubled per failure, 30 minutes at most (more only where `observeFor` is"
        " above 15 minutes).",
        "Read why the step failed.",
    ),
    ScalingReason.PODS_CRASHING: Entry(
        "Pods crash; more of the same would crash.",
        "See `ConsumersHealthy`.",
    ),
    ScalingReason.PODS_PENDING: Entry(
        "Pods that were asked for are not running or not Ready.",
        "See `ConsumersHealthy`; check the capacity of the nodes.",
    ),
    ScalingReason.PRESSURE: Entry(
        "The database is under pressure.",
        "See `DatabaseHeadroom`.",
    ),
    ScalingReason.PODS_NOT_READY: Entry(
        "No pod is Ready, so more of them would not help. `ConsumersHealthy` has the Event.",
        "See `ConsumersHealthy`.",
    ),
    ScalingReason.GUARD_NOT_FOLLOWED: Entry(
        "KEDA's own autoscaler shows another maximum than the ScaledObject.",
        "[autoscalers.md](../autoscalers.md#what-scaling-says)",
    ),
    ScalingReason.GUARD_TAKEN: Entry(
        "Another policy marked the guarded autoscaler.",
        "One policy per target. If that policy is gone, set the maximum and remove the"
        " `guard-*` annotations.",
    ),
    ScalingReason.PAUSED_ABOVE_BUDGET: Entry(
        "An annotation of KEDA keeps more pods than the budget.",
        "Change the annotation, or scale by hand.",
    ),
    ScalingReason.ROLLOUT_IN_PROGRESS: Entry(
        "The target is being rolled out.",
        "Wait.",
    ),
    ScalingReason.ROLLOUT_PAUSED: Entry(
        "The rollout of the target is paused.",
        "`kubectl rollout resume`.",
    ),
    ScalingReason.SCALED_TO_ZERO: Entry(
        "Another client scaled the target to 0. It stays so.",
        "Scale it to 1 or more to hand it back.",
    ),
    ScalingReason.REPLICA_CONFLICT: Entry(
        "An autoscaler scales the target, or another client wrote `replicas` (with a guard: the"
        " maximum). Nothing is written meanwhile.",
        "Delete the autoscaler or name it in `target.guard`; leave `replicas` out of Git:"
        " [gitops.md](../gitops.md#what-to-leave-out-of-git).",
    ),
    ScalingReason.HELD: Entry(
        "A person holds the policy by annotation.",
        "Remove the annotation to continue.",
    ),
    ScalingReason.SUSPENDED: Entry(
        "`spec.suspend` is true.",
        "Set it to false to continue.",
    ),
    ScalingReason.TARGET_TAKEN: Entry(
        "An older policy has the target.",
        "See `Ready`.",
    ),
    ScalingReason.NOT_FOLLOWED: Entry(
        "No operator follows the policy.",
        "See `Ready`.",
    ),
    ScalingReason.BUDGET_NOT_KNOWN: Entry(
        "The connections, the pool size or the workers' role cannot be read, so there is no"
        " budget. Nothing is scaled up.",
        "The message names the reading.",
    ),
    ScalingReason.HEALTH_NOT_KNOWN: Entry(
        "It cannot be read whether the database is under pressure. Nothing is scaled up.",
        "Grant `pg_read_all_stats`; see the message of `Ready`.",
    ),
    ScalingReason.LOAD_NOT_KNOWN: Entry(
        "What waits in a queue, or how fast, cannot be read. Nothing is scaled up.",
        "The message names the reading; see `Ready`.",
    ),
    ScalingReason.AUTOSCALER_NOT_KNOWN: Entry(
        "It cannot be read whether an autoscaler scales the target.",
        "The message names the fault; see `Ready`.",
    ),
    ScalingReason.WARMING_UP: Entry(
        "The operator or the policy has just started, and rates are not known yet. Nothing is"
        " scaled.",
        "Wait: rates are known after half of `scaling.observeFor`.",
    ),
    ScalingReason.STEP_NOT_JUDGED: Entry(
        "A reading that the verdict on the last step depends on is missing.",
        "The message names the reading.",
    ),
}
