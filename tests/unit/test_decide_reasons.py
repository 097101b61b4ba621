"""What follows from each reason of the condition `Scaling`, written down a second time."""

from __future__ import annotations

import pytest

from starforge_backlog.api.status import ConditionStatus
from starforge_backlog.decide.reasons import Asks, Reported, ScalingReason, stored
from starforge_backlog.snapshot import Why

# The words that people and machines have seen so far, and those of each `Why`.
NOT_KNOWN = {
    "AutoscalerNotKnown",
    "BudgetNotKnown",
    "DatabaseHealthNotKnown",
    "LoadNotKnown",
    "StepNotJudged",
    "WarmingUp",
}
WORDS = {
    "Asleep",
    "AtMaximum",
    "BudgetExhausted",
    "Draining",
    "GuardNotFollowed",
    "GuardTaken",
    "Guarded",
    "Held",
    "HoldDown",
    "MinimumAboveBudget",
    "NoBudget",
    "NotFollowed",
    "Observing",
    "PausedAboveBudget",
    "PodsCrashing",
    "PodsNotReady",
    "PodsPending",
    "Pressure",
    "QueueLimit",
    "ReplicaConflict",
    "RolloutInProgress",
    "RolloutPaused",
    "ScaledToZero",
    "Steady",
    "Stepping",
    "Suspended",
    "TargetTaken",
    *NOT_KNOWN,
} | {why.value for why in Why}

ABLE = {"Steady", "Stepping", "Draining", "AtMaximum", "Asleep", "Guarded"}
UNKNOWN = NOT_KNOWN | {"NotFollowed"}
# While a person stops everything, or an older policy acts, nothing is wanted in the first place.
NOT_OURS = {
    "GuardNotFollowed",
    "GuardTaken",
    "Held",
    "NotFollowed",
    "PausedAboveBudget",
    "ReplicaConflict",
    "RolloutInProgress",
    "RolloutPaused",
    "ScaledToZero",
    "Suspended",
    "TargetTaken",
    *NOT_KNOWN,
} | {why.value for why in Why}
NO_MORE = {"Draining", "HoldDown", "PodsCrashing", "PodsNotReady", "PodsPending", "Pressure"}
PASSING = {
    "NotYetObserved",
    "PermissionLost",
    "RolloutInProgress",
    "Stale",
    "Timeout",
    *NOT_KNOWN,
    "Unreachable",
    "WarmingUp",
}
ROUTINE = {
    "Steady",
    "Stepping",
    "Observing",
    "Draining",
    "Asleep",
    "PodsNotReady",
    "WarmingUp",
}
BY_HAND = {"Held", "Suspended", "ReplicaConflict"}


def test_the_words_are_those_that_people_know() -> None:
    assert {reason.value for reason in ScalingReason} == WORDS


@pytest.mark.parametrize("reason", ScalingReason)
def test_each_reason_means_what_it_always_did(reason: ScalingReason) -> None:
    word = reason.value
    status = "True" if word in ABLE else "Unknown" if word in UNKNOWN else "False"
    asks = Asks.NOTHING if word in NOT_OURS else Asks.NO_MORE if word in NO_MORE else Asks.AS_WANTED
    never = Reported.NEVER if word in ROUTINE else Reported.FIRST
    reported = Reported.FIRST_AND_LAST if word in BY_HAND else never
    means = reason.means
    assert (means.status, means.asks, means.reported) == (ConditionStatus(status), asks, reported)
    assert means.passing is (word in PASSING)


@pytest.mark.parametrize("why", Why)
def test_each_missing_reading_is_a_reason(why: Why) -> None:
    assert ScalingReason.of(why).value == why.value


@pytest.mark.parametrize("reason", ScalingReason)
def test_a_reason_is_found_again_in_status(reason: ScalingReason) -> None:
    assert stored(f"{reason}") is reason


def test_a_word_of_another_version_is_no_reason() -> None:
    assert stored("OfTomorrow") is None
