"""What a decision returns: actions in the order to carry them out, and the status to remember."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from starforge_backlog.api.status import (
    BudgetStatus,
    GuardStatus,
    PauseStatus,
    QueueBacklogPolicyStatus,
)
from starforge_backlog.decide.assess.objectives import Miss
from starforge_backlog.decide.reasons import ScalingReason
from starforge_backlog.snapshot import Claim, Reading, Rival, Snapshot, Unknown


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause a producer under a token that is in status before the write."""

    producer: str
    breaker: str
    token: str
    why: str
    plan: str | None = None  # what the pause may cover, as the intent stored it
    way: str = ""  # the producer's kind, as the spec names it
    # A pause of ours that is carried out again because more of it runs: no news to people.
    again: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Release a pause of ours; `held` says where it is and proves that it is ours."""

    held: PauseStatus
    why: str


class StepKind(StrEnum):
    """Why replicas change."""

    UP = "Up"
    WAKE = "Wake"  # the first due job of a target that sleeps (minReplicas 0)
    DOWN = "Down"  # the work is done
    REVERT = "Revert"  # the step before failed
    OVER_BUDGET = "OverBudget"  # one window at a time
    OVER_SHARE = "OverShare"  # another policy on the server waits for its own; one window at a time
    SAFE = "Safe"  # over budget and under pressure: to the safe size in one write


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """Write `replicas` if the workload is still what we saw (`version`)."""

    kind: StepKind
    from_: int
    to: int
    version: str
    generation: int  # of the workload's spec; under another one this decision is void
    connections: int  # what the target can hold after it, surge and terminating included (P1)
    why: str


@dataclass(frozen=True, slots=True)
class SetMaximum:
    """Write the maximum of the autoscaler that scales the target, if it is still what we saw.

    `guard` is as the intent stored it: the object, our token, the maximum of its owner. `restore`
    gives that one back and takes our mark off; the object itself then shows whether it is ours.
    `follower` is KEDA's own autoscaler of a ScaledObject: lowered as well, or with `follows` alone,
    where KEDA has not done it by itself.
    """

    guard: GuardStatus
    from_: int
    to: int
    version: str
    connections: int  # what the target can hold at the new maximum, surge and terminating included
    why: str
    implicit: bool = False  # nobody wrote the previous maximum: it is the kind's default
    restore: bool = False
    # What a restored maximum must not be above, because more was not decided; None: whatever it was
    # (the policy lets go of it).
    most: int | None = None
    follower: str = ""  # name of a HorizontalPodAutoscaler; empty: there is none
    follows: bool = False

    @property
    def object(self) -> str:
        """Kind and name of the autoscaler that is written."""
        if self.follows:
            return f"HorizontalPodAutoscaler {self.follower}"
        return f"{self.guard.kind} {self.guard.name}"


Action = Pause | Resume | ScaleTo | SetMaximum


def words(action: Action) -> str:
    """The action in a sentence."""
    match action:
        case Pause(producer=producer, why=why):
            return f"pause {producer}: {why}"
        case Resume(held, why):
            return f"resume {held.producer}: {why}"
        case ScaleTo():
            return f"scale {action.from_} -> {action.to}: {action.why}"
        case SetMaximum():
            change = f"{action.from_} -> {action.to}"
            return f"set the maximum of {action.object} {change}: {action.why}"


def taken(rival: Rival) -> str:
    """Which policy it waits for, and the fix."""
    if rival.leaving:
        return (
            f"{rival.shared} is held by the newer policy {rival.policy}, which releases it within"
            " one pass"
        )
    ends = "; it is being deleted, see its conditions" if rival.deleting else ""
    return (
        f"{rival.shared} belongs to the older policy {rival.policy}{ends}. This policy decides"
        " nothing: delete one of the two, or correct spec.target of this policy"
    )


class Cause(StrEnum):
    """The runbook's root causes that this version distinguishes."""

    CONSUMER_OUTAGE = "ConsumerOutage"
    QUEUE_LIMIT = "QueueLimit"  # of the queue itself: more workers bring nothing
    PRODUCER_STORM = "ProducerStorm"
    RETRY_STORM = "RetryStorm"
    SLOW_PROCESSING = "SlowProcessing"
    DATABASE_PRESSURE = "DatabasePressure"


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause that holds now, with the numbers that show it."""

    cause: Cause
    evidence: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the decision was made from: the report quotes it, nothing computes it twice."""

    findings: tuple[Finding, ...]
    missed: Mapping[str, tuple[Miss, ...]]  # per queue, objectives missed now
    pressure: tuple[str, ...] | None  # None: unknown; without a database ()
    utilization: Reading[float]  # percent of the connection limit
    budget: BudgetStatus | Unknown | None  # None: the policy names no database
    unreadable: Mapping[str, str]  # per breaker, why it cannot trip or recover now
    scaling_reason: ScalingReason
    scaling_message: str
    # The database was sampled before our last write of replicas, which counts as no sample.
    sample_is_old: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One pass' decision. In `Observe` mode `actions` holds only what gives back our own: pauses,
    and the maximum of an autoscaler. `would` says what would have been done."""

    actions: tuple[Action, ...]
    would: tuple[str, ...]
    status: QueueBacklogPolicyStatus  # what to remember before acting; the report adds the words
    seen: Snapshot  # as judged: late readings have become unknown
    assessment: Assessment
    # What to report to the other policies on the server. None: what it wants and its limit are
    # unknown, and what it reported before no longer counts.
    claim: Claim | None = None
    # Connections that an autoscaler may open by itself, within the maximum that we leave it (P1).
    allowed: int = 0

    def with_status(self, status: QueueBacklogPolicyStatus) -> Plan:
        """The same plan, remembering something more."""
        return replace(self, status=status)
