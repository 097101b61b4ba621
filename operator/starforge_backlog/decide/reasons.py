"""Reasons of the condition `Scaling`: the words that people read, and what follows from each.

Rules and reports ask a reason what it means. None of them compares its word, so that a reason can
be added, or said in another way, in this one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Final, Self

from starforge_backlog.api.status import ConditionStatus
from starforge_backlog.snapshot import Unknown, Why


class Asks(Enum):
    """What a policy may ask of the connections of others while the reason holds."""

    AS_WANTED = "as wanted"
    NO_MORE = "no more"  # more would be of no use; what it does not need is given back
    NOTHING = "nothing"  # replicas are not ours to change now, up or down; nothing is given back


class Reported(Enum):
    """When the reason is worth an Event of its own."""

    FIRST = "first"  # when it begins to hold
    FIRST_AND_LAST = "first and last"  # a person ends it: that it is over is news as well
    NEVER = "never"  # it comes and goes with every step, or another condition reports it


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What follows from a reason."""

    status: ConditionStatus = ConditionStatus.FALSE  # True: able to step, needed or not
    asks: Asks = Asks.AS_WANTED
    passing: bool = False  # it may be over with the next pass
    reported: Reported = Reported.FIRST


_ABLE: Final = Meaning(status=ConditionStatus.TRUE)
_ABLE_AS_EVER: Final = Meaning(status=ConditionStatus.TRUE, reported=Reported.NEVER)
_WAITS: Final = Meaning()
_NO_MORE: Final = Meaning(asks=Asks.NO_MORE)
_NOT_OURS: Final = Meaning(asks=Asks.NOTHING)
_NOT_OURS_YET: Final = Meaning(asks=Asks.NOTHING, passing=True)
_A_PERSONS: Final = Meaning(asks=Asks.NOTHING, reported=Reported.FIRST_AND_LAST)
_NOT_KNOWN: Final = Meaning(status=ConditionStatus.UNKNOWN, asks=Asks.NOTHING, passing=True)


class ScalingReason(StrEnum):
    """Every reason that the condition `Scaling` can have: CamelCase, because people and machines
    read it there."""

    means: Meaning

    def __new__(cls, word: str, means: Meaning) -> Self:
        member = str.__new__(cls, word)
        member._value_ = str(word)
        member.means = means
        return member

    # Steps, and what there is instead of one.
    STEADY = "Steady", _ABLE_AS_EVER
    STEPPING = "Stepping", _ABLE_AS_EVER
    ASLEEP = "Asleep", _ABLE_AS_EVER
    AT_MAXIMUM = "AtMaximum", _ABLE
    GUARDED = "Guarded", _ABLE  # an autoscaler's maximum is lowered, and nobody wants more
    DRAINING = (
        "Draining",
        Meaning(status=ConditionStatus.TRUE, asks=Asks.NO_MORE, reported=Reported.NEVER),
    )
    OBSERVING = "Observing", Meaning(reported=Reported.NEVER)
    BUDGET_EXHAUSTED = "BudgetExhausted", _WAITS
    NO_BUDGET = "NoBudget", _WAITS
    MINIMUM_ABOVE_BUDGET = "MinimumAboveBudget", _WAITS
    QUEUE_LIMIT = "QueueLimit", _WAITS
    HOLD_DOWN = "HoldDown", _NO_MORE
    PODS_CRASHING = "PodsCrashing", _NO_MORE
    PODS_PENDING = "PodsPending", _NO_MORE
    PRESSURE = "Pressure", _NO_MORE
    # Said in place of Steady; the condition ConsumersHealthy has the Event.
    PODS_NOT_READY = "PodsNotReady", Meaning(asks=Asks.NO_MORE, reported=Reported.NEVER)
    # Replicas are another client's now.
    GUARD_NOT_FOLLOWED = "GuardNotFollowed", _NOT_OURS  # KEDA's own autoscaler has another number
    GUARD_TAKEN = "GuardTaken", _NOT_OURS
    PAUSED_ABOVE_BUDGET = "PausedAboveBudget", _NOT_OURS
    ROLLOUT_IN_PROGRESS = "RolloutInProgress", _NOT_OURS_YET
    ROLLOUT_PAUSED = "RolloutPaused", _NOT_OURS
    SCALED_TO_ZERO = "ScaledToZero", _NOT_OURS
    REPLICA_CONFLICT = "ReplicaConflict", _A_PERSONS
    HELD = "Held", _A_PERSONS  # by annotation
    SUSPENDED = "Suspended", _A_PERSONS  # by spec.suspend
    TARGET_TAKEN = "TargetTaken", _NOT_OURS  # an older policy has it
    NOT_FOLLOWED = "NotFollowed", Meaning(status=ConditionStatus.UNKNOWN, asks=Asks.NOTHING)
    # What a step depends on is not known ...
    BUDGET_NOT_KNOWN = "BudgetNotKnown", _NOT_KNOWN
    HEALTH_NOT_KNOWN = "DatabaseHealthNotKnown", _NOT_KNOWN
    LOAD_NOT_KNOWN = "LoadNotKnown", _NOT_KNOWN  # what waits in a queue, or its rates
    AUTOSCALER_NOT_KNOWN = "AutoscalerNotKnown", _NOT_KNOWN
    STEP_NOT_JUDGED = "StepNotJudged", _NOT_KNOWN
    # ... because the operator, or the policy, has just started: nothing is broken.
    WARMING_UP = "WarmingUp", replace(_NOT_KNOWN, reported=Reported.NEVER)
    # ... or not even the target, its pods' pool or its autoscaler, or a write of it is refused.
    # Named as in `Why`, and all of them: which of them a source can have is its own affair.
    NOT_YET = Why.NOT_YET, _NOT_OURS_YET
    PERMISSION_LOST = Why.PERMISSION_LOST, _NOT_OURS_YET
    STALE = Why.STALE, _NOT_OURS_YET
    TIMEOUT = Why.TIMEOUT, _NOT_OURS_YET
    UNREACHABLE = Why.UNREACHABLE, _NOT_OURS_YET
    DATABASE_FULL = Why.DATABASE_FULL, _NOT_OURS
    ROLE_LIMIT = Why.ROLE_LIMIT, _NOT_OURS
    HOST_UNKNOWN = Why.HOST_UNKNOWN, _NOT_OURS
    TLS_FAILED = Why.TLS_FAILED, _NOT_OURS
    DATABASE_NOT_FOUND = Why.DATABASE_NOT_FOUND, _NOT_OURS
    WRONG_PASSWORD = Why.WRONG_PASSWORD, _NOT_OURS
    SECRET_NOT_FOUND = Why.SECRET_NOT_FOUND, _NOT_OURS
    SECRET_KEY_MISSING = Why.SECRET_KEY_MISSING, _NOT_OURS
    SECRET_MALFORMED = Why.SECRET_MALFORMED, _NOT_OURS
    NO_PERMISSION = Why.NO_PERMISSION, _NOT_OURS
    ADMISSION_REFUSED = Why.ADMISSION_REFUSED, _NOT_OURS
    MISSING_ROLE = Why.MISSING_ROLE, _NOT_OURS
    TABLE_NOT_FOUND = Why.TABLE_NOT_FOUND, _NOT_OURS
    COLUMN_NOT_FOUND = Why.COLUMN_NOT_FOUND, _NOT_OURS
    STATUS_NOT_MAPPED = Why.STATUS_NOT_MAPPED, _NOT_OURS
    NOT_IN_TABLE = Why.NOT_IN_TABLE, _NOT_OURS
    READ_ONLY = Why.READ_ONLY, _NOT_OURS
    LOCK_BUSY = Why.LOCK_BUSY, _NOT_OURS
    NO_INDEX = Why.NO_INDEX, _NOT_OURS
    NO_SAMPLES = Why.NO_SAMPLES, _NOT_OURS
    CAPPED = Why.CAPPED, _NOT_OURS
    COUNTER_RESET = Why.COUNTER_RESET, _NOT_OURS
    NOT_CONFIGURED = Why.NOT_CONFIGURED, _NOT_OURS
    TARGET_NOT_FOUND = Why.TARGET_NOT_FOUND, _NOT_OURS
    TARGET_NOT_SCALABLE = Why.TARGET_NOT_SCALABLE, _NOT_OURS
    ENV_NOT_FOUND = Why.ENV_NOT_FOUND, _NOT_OURS
    ENV_NOT_A_NUMBER = Why.ENV_NOT_A_NUMBER, _NOT_OURS
    ROW_MISSING = Why.ROW_MISSING, _NOT_OURS
    BAD_SHAPE = Why.BAD_SHAPE, _NOT_OURS
    QUEUE_NOT_FOUND = Why.QUEUE_NOT_FOUND, _NOT_OURS
    NOT_BULLMQ = Why.NOT_BULLMQ, _NOT_OURS
    HASH_TAG_MISSING = Why.HASH_TAG_MISSING, _NOT_OURS
    KEYS_EVICTED = Why.KEYS_EVICTED, _NOT_OURS
    OUT_OF_MEMORY = Why.OUT_OF_MEMORY, _NOT_OURS
    QUERY_ERROR = Why.QUERY_ERROR, _NOT_OURS
    EMPTY_RESULT = Why.EMPTY_RESULT, _NOT_OURS
    SEVERAL_SERIES = Why.SEVERAL_SERIES, _NOT_OURS
    NOT_A_NUMBER = Why.NOT_A_NUMBER, _NOT_OURS
    PARTIAL = Why.PARTIAL, _NOT_OURS
    NO_SOURCE = Why.NO_SOURCE, _NOT_OURS
    NOT_PROMETHEUS = Why.NOT_PROMETHEUS, _NOT_OURS
    BAD_ANSWER = Why.BAD_ANSWER, _NOT_OURS
    AUTOSCALER_NOT_FOUND = Why.AUTOSCALER_NOT_FOUND, _NOT_OURS
    GUARD_MISMATCH = Why.GUARD_MISMATCH, _NOT_OURS
    ERROR = Why.ERROR, _NOT_OURS

    @classmethod
    def of(cls, why: Why) -> Self:
        """The reason of a reading, or a write, that failed."""
        return cls[why.name]


def no_budget(why: Unknown) -> ScalingReason:
    """What a budget that is not known means for scaling."""
    warming_up = why.why is Why.NOT_YET
    return ScalingReason.WARMING_UP if warming_up else ScalingReason.BUDGET_NOT_KNOWN


def stored(word: str) -> ScalingReason | None:
    """The reason of a condition in status; None: of another version of the operator."""
    return next((reason for reason in ScalingReason if reason.value == word), None)
