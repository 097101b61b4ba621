"""Events; a reason of `Scaling` that is one has its row there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from reference.catalogue.entry import Entry

EVENTS: Final[Mapping[str, Entry]] = {
    "Ready": Entry(
        "`Ready` became True.",
        kind="Normal",
    ),
    "NotReady": Entry(
        "`Ready` became False.",
        "Read the message; see [Ready](#ready).",
        kind="Warning",
    ),
    "ObjectivesMet": Entry(
        "All queues meet their objectives again.",
        kind="Normal",
    ),
    "ObjectivesMissed": Entry(
        "A queue missed an objective for its time.",
        "See [BacklogHealthy](#backloghealthy).",
        kind="Warning",
    ),
    "ObjectivesNotKnown": Entry(
        "Whether a queue meets its objectives can no longer be read.",
        "See [Missing readings](#missing-readings).",
        kind="Warning",
    ),
    "DatabaseHeadroomRegained": Entry(
        "The database has headroom again.",
        kind="Normal",
    ),
    "DatabaseHeadroomLost": Entry(
        "Pressure began, or `minReplicas` is above the budget.",
        "See [DatabaseHeadroom](#databaseheadroom).",
        kind="Warning",
    ),
    "DatabaseHeadroomNotKnown": Entry(
        "The budget or the health of the database can no longer be read.",
        "See [Missing readings](#missing-readings).",
        kind="Warning",
    ),
    "ConsumersReady": Entry(
        "All pods are Ready again.",
        kind="Normal",
    ),
    "ConsumersFailing": Entry(
        "Pods crash, are missing or do not become Ready.",
        "See [ConsumersHealthy](#consumershealthy).",
        kind="Warning",
    ),
    "ConsumersNotKnown": Entry(
        "The target or its pods can no longer be read.",
        "See [Missing readings](#missing-readings).",
        kind="Warning",
    ),
    "ProducersRunning": Entry(
        "No producer is paused now.",
        kind="Normal",
    ),
    "ProducersPaused": Entry(
        "A producer is paused.",
        "See [ProducersRunning](#producersrunning).",
        kind="Warning",
    ),
    "ProducerNotPaused": Entry(
        "A producer should be paused and is not: the write failed, or its row is missing or has a"
        " bad shape.",
        "Correct what the note names; stop the producer by hand until then.",
        kind="Warning",
    ),
    "ProducersNotKnown": Entry(
        "A producer can no longer be read.",
        "See [Missing readings](#missing-readings).",
        kind="Warning",
    ),
    "BreakerOpen": Entry(
        "A breaker opened; the note has the numbers and the owners.",
        "Inform the owners.",
        kind="Warning",
    ),
    "BreakerHalfOpen": Entry(
        "The signals recovered; producers run half-open.",
        kind="Normal",
    ),
    "BreakerClosed": Entry(
        "The breaker closed.",
        kind="Normal",
    ),
    "Paused": Entry(
        "A producer was paused.",
        kind="Normal",
    ),
    "PauseFailed": Entry(
        "A pause failed or was refused: the producer may still run.",
        "Correct what the note names; stop the producer by hand until then.",
        kind="Warning",
    ),
    "Resuming": Entry(
        "A part of a pause was released; the rest follows.",
        kind="Normal",
    ),
    "Resumed": Entry(
        "A pause was released.",
        kind="Normal",
    ),
    "ResumeFailed": Entry(
        "A pause could not be released. Tried again with each pass.",
        "Correct what the note names.",
        kind="Warning",
    ),
    "PausedByOthers": Entry(
        "A producer was found paused by another client.",
        "They have to resume it.",
        kind="Warning",
    ),
    "PauseChangedByOthers": Entry(
        "Another client overwrote a pause of the operator.",
        "Resume it by hand when it is safe.",
        kind="Warning",
    ),
    "PauseWithoutRecord": Entry(
        "A producer is paused by the operator, and `status.memory` has no record of that pause: the"
        " status was edited, cleared, or restored without it. The operator does not resume it.",
        "The message has the statement that releases it. Run it when it is safe.",
        kind="Warning",
    ),
    "ResumedByOthers": Entry(
        "Another client resumed a producer while its breaker is open.",
        kind="Warning",
    ),
    "ScaledUp": Entry(
        "A step up.",
        kind="Normal",
    ),
    "ScaledWake": Entry(
        "The first replicas after sleep.",
        kind="Normal",
    ),
    "ScaledDown": Entry(
        "A step down: the work is done, or `maxReplicas` was lowered.",
        kind="Normal",
    ),
    "ScaledRevert": Entry(
        "A failed step was taken back.",
        "Read the Event `StepFailed` before it.",
        kind="Normal",
    ),
    "ScaledOverBudget": Entry(
        "A step down: the database serves fewer replicas.",
        "See who holds the connections: `status.budget.formula`.",
        kind="Normal",
    ),
    "ScaledOverShare": Entry(
        "A step down: another policy waits for its share.",
        kind="Normal",
    ),
    "ScaledSafe": Entry(
        "Over the budget and under pressure: down to the safe size in one write.",
        "Check the database.",
        kind="Normal",
    ),
    "ScaleFailed": Entry(
        "`replicas` could not be written.",
        "Correct what the note names: a right, a webhook, a quota.",
        kind="Warning",
    ),
    "StepPassed": Entry(
        "The last step was judged good.",
        kind="Normal",
    ),
    "StepFailed": Entry(
        "The last step added no throughput, brought pressure, or its pods failed.",
        "Read the note; see `HoldDown`.",
        kind="Warning",
    ),
    "StepInconclusive": Entry(
        "The last step could not be judged; the next one is the smallest.",
        "Correct the reading that the note names.",
        kind="Normal",
    ),
    "MaximumLowered": Entry(
        "The maximum of a guarded autoscaler was lowered to the budget.",
        kind="Normal",
    ),
    "MaximumRaised": Entry(
        "The maximum of a guarded autoscaler was raised with the budget.",
        kind="Normal",
    ),
    "MaximumRestored": Entry(
        "The maximum of a guarded autoscaler is again the one of its owner.",
        kind="Normal",
    ),
    "MaximumFailed": Entry(
        "The maximum could not be written.",
        "Correct what the note names.",
        kind="Warning",
    ),
    "ReplicasWrittenByOthers": Entry(
        "Another client wrote `replicas`, or the guarded maximum.",
        "Leave the field out of what is applied:"
        " [gitops.md](../gitops.md#what-to-leave-out-of-git).",
        kind="Warning",
    ),
    "ReplicaConflictEnded": Entry(
        "Replicas are the operator's again: the other writer is gone or quiet.",
        kind="Normal",
    ),
    "HeldEnded": Entry(
        "The annotation `hold` was removed.",
        kind="Normal",
    ),
    "SuspendedEnded": Entry(
        "`spec.suspend` is false again.",
        kind="Normal",
    ),
    "ClocksRestarted": Entry(
        "Queues were renamed; their objectives and rates start again.",
        kind="Normal, or Warning if an objective was missed",
    ),
    "StatusRefused": Entry(
        "The API server refuses the status. Nothing that has to be remembered first is done.",
        "The note has the API server's words.",
        kind="Warning",
    ),
    "StatusStored": Entry(
        "The status is stored again.",
        kind="Normal",
    ),
    "AnotherOperator": Entry(
        "A second operator acts on this policy.",
        "Keep one Deployment with one replica.",
        kind="Warning",
    ),
}
