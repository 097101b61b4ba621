"""Conditions, and the reasons of all but `Scaling` and of missing readings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reference.catalogue.entry import Entry

# What it means that a condition is True, and that it is False.
TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "Ready": (
        "The spec is valid, the target is this policy's, everything that it names can be read.",
        "Something has to be corrected first. The message names it.",
    ),
    "BacklogHealthy": (
        "Every queue meets its objectives, or misses them for less than `objectives.for`.",
        "A queue misses an objective for longer. The reason is the cause.",
    ),
    "DatabaseHeadroom": (
        "The database has connections left and is not under pressure.",
        "Pressure, or `minReplicas` is above the budget.",
    ),
    "ConsumersHealthy": (
        "All pods of the target are Ready, or are expected not to be.",
        "Pods crash, are missing or do not become Ready.",
    ),
    "ProducersRunning": (
        "No producer is paused.",
        "A producer is paused, or a pause failed.",
    ),
    "Scaling": (
        "The operator can step; whether it has to is another question.",
        "Something holds the next step. The reason says what.",
    ),
}

REASONS: Final[Mapping[str, Mapping[str, Entry]]] = {
    "Ready": {
        "AllReadable": Entry(
            "Everything that the policy names can be read.",
            kind="True",
        ),
        "TargetTaken": Entry(
            "An older policy has the same target or the same guarded autoscaler. This one"
            " decides nothing and releases what it paused.",
            "Delete one of the two, or create this one for another target.",
            kind="False",
        ),
        "AnotherServer": Entry(
            "A pause cannot be released: the Secret now leads to another server than the one"
            " where the pause was made.",
            "Point the Secret back, or [release it by hand and abandon"
            " it](../going-away.md#ways-out).",
            kind="False",
        ),
        "ReleaseFailed": Entry(
            "The policy is being deleted and a pause cannot be released. Tried again every 15 s.",
            "Correct what the message names, or run its statement and annotate `release=abandon`.",
            kind="False",
        ),
        "NotFollowed": Entry(
            "`release` or `helm uninstall` released the policy. No operator follows it. All"
            " other conditions are Unknown with the same reason.",
            "Install the operator again, or delete the policy.",
            kind="False",
        ),
        "SpecNotUnderstood": Entry(
            "The API server accepted a spec that this version cannot read, because the CRD is"
            " newer. Nothing is done.",
            "Upgrade the operator to the version of the CRD, or remove the fields that the"
            " message names.",
            kind="False",
        ),
        "OperatorBug": Entry(
            "A pass ended by an error of the operator. Nothing is done in that pass; the next"
            " one follows.",
            "Report it with the line `the operator has a bug` of the log.",
            kind="False",
        ),
    },
    "BacklogHealthy": {
        "WithinObjectives": Entry(
            "All queues meet their objectives.",
            kind="True",
        ),
        "MissedForNow": Entry(
            "An objective is missed, for less than `objectives.for`.",
            "Wait. The operator steps already.",
            kind="True",
        ),
        "ConsumerOutage": Entry(
            "Jobs wait, and no pod is Ready, the pods crash, or connected workers do nothing.",
            "Read `ConsumersHealthy` and the logs of the workers. Restart them if they hang.",
            kind="False",
        ),
        "DatabasePressure": Entry(
            "Jobs wait, and the database is under pressure.",
            "Read `DatabaseHeadroom`. End what blocks; its message names the session.",
            kind="False",
        ),
        "QueueLimit": Entry(
            "The queue's own concurrency or rate limit holds jobs back. More workers change"
            " nothing.",
            "Raise the limit, or wait.",
            kind="False",
        ),
        "ProducerStorm": Entry(
            "More jobs arrive than the running replicas can finish.",
            "Let the breakers pause; without breakers, stop the source by hand.",
            kind="False",
        ),
        "RetryStorm": Entry(
            "The same jobs fail and are tried again (BullMQ only).",
            "Correct what fails, or lower the attempts in the application.",
            kind="False",
        ),
        "SlowProcessing": Entry(
            "The last step up added no throughput. The limit is elsewhere.",
            "Check slow queries and the services that the workers call.",
            kind="False",
        ),
        "ObjectiveMissed": Entry(
            "An objective is missed and no rule explains it. CAUSE shows the rates in and out.",
            "Compare the rates in `status.queues`; read `Scaling` for what holds the next step.",
            kind="False",
        ),
    },
    "DatabaseHeadroom": {
        "Available": Entry(
            "The message has the budget and its sum.",
            kind="True",
        ),
        "Pressure": Entry(
            "Connections, lock waiters or the oldest transaction are above `database.pressure`,"
            " or clients wait for a PgBouncer. No step up; the step under observation is taken"
            " back.",
            "End the blocking or old session that the message names.",
            kind="False",
        ),
        "MinimumAboveBudget": Entry(
            "The database serves fewer replicas than `minReplicas`.",
            "Lower `minReplicas`, `PG_POOL_MAX` or `headroom`, or raise `max_connections`. If"
            " the message names a peak that is over, wait until the time that it names.",
            kind="False",
        ),
        "NoDatabase": Entry(
            "The policy has no `spec.database`, so no budget bounds the replicas.",
            "Add `spec.database`, or set `target.maxReplicas`.",
            kind="Unknown",
        ),
    },
    "ConsumersHealthy": {
        "AllReady": Entry(
            "All replicas that are asked for are Ready.",
            kind="True",
        ),
        "Asleep": Entry(
            "`minReplicas` is 0 and nothing is due. The first due job wakes the target.",
            kind="True",
        ),
        "PodsStarting": Entry(
            "Pods of the last step are not Ready yet.",
            "Wait.",
            kind="True",
        ),
        "ScaledToZero": Entry(
            "The target has 0 replicas and the operator did not write them.",
            "Scale it to 1 or more to hand it back.",
            kind="False",
        ),
        "RolloutStuck": Entry(
            "The Deployment made no progress for its `progressDeadlineSeconds`. Steps continue"
            " with the pods that work.",
            "`kubectl rollout undo`, or correct the pod template.",
            kind="False",
        ),
        "PodsNotCreated": Entry(
            "The controller cannot create pods: a quota, or an admission webhook.",
            "The message has the controller's words. Raise the quota.",
            kind="False",
        ),
        "CrashLoopBackOff": Entry(
            "Pods crash.",
            "`kubectl logs POD --previous`; the message names the pod.",
            kind="False",
        ),
        "OOMKilled": Entry(
            "Pods were ended because they used more memory than their limit.",
            "Raise `resources.limits.memory`, or lower the concurrency of a worker.",
            kind="False",
        ),
        "PodsNotReady": Entry(
            "Pods exist and are not Ready.",
            "`kubectl describe pod POD`.",
            kind="False",
        ),
    },
    "ProducersRunning": {
        "ReleaseFailed": Entry(
            "The spec names another place, and the pause at the former place cannot be released.",
            "Run the statement of the message, then annotate `release=abandon`.",
            kind="False",
        ),
        "PauseFailed": Entry(
            "The producer is **not** paused: its row is missing or has a bad shape.",
            "Correct the row or the spec; the next pass pauses. Until then stop the producer by"
            " hand.",
            kind="False",
        ),
        "ChangedByOthers": Entry(
            "Another client overwrote a pause of the operator. It stays paused.",
            "Resume it by hand when it is safe.",
            kind="False",
        ),
        "Pausing": Entry(
            "The pause is in status, and its write is not confirmed.",
            "Wait one pass. If it stays, read the message.",
            kind="False",
        ),
        "PausedByBreaker": Entry(
            "A breaker is open and the operator paused the producer.",
            "Nothing; it is resumed on recovery.",
            kind="False",
        ),
        "PausedWithoutEffect": Entry(
            "The producer is paused and arrivals did not fall to half.",
            "Find what else enqueues.",
            kind="False",
        ),
        "Overridden": Entry(
            "Another client resumed the producer while the breaker is open. It is not paused"
            " again until the breaker has closed.",
            kind="True or False",
        ),
        "PausedByOthers": Entry(
            "A person or another policy paused the producer. The operator does not resume it.",
            "The message says how to resume it.",
            kind="False",
        ),
        "PausedWithoutRecord": Entry(
            "The operator paused the producer, and `status.memory` has no record of that pause: the"
            " status was edited, cleared, or restored without it. The operator does not resume it.",
            "The message has the statement that releases it. Run it when it is safe.",
            kind="False",
        ),
        "HeldWithoutRecord": Entry(
            "Jobs are held at due times of `jobTypes`, and the status has no record of them.",
            "Run the `UPDATE` of the message if they are the operator's.",
            kind="Unknown",
        ),
        "Probing": Entry(
            "A breaker is half-open: producers run, and the breaker watches.",
            kind="True",
        ),
        "NoProducers": Entry(
            "The policy names no producers.",
            kind="True",
        ),
        "Running": Entry(
            "No producer is paused.",
            kind="True",
        ),
    },
}
