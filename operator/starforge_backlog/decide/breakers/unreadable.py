"""What a breaker does with rules that cannot be judged, and how that is said (P2, P4, P8).

| the rule's signal                | closed            | open or half-open                        |
|----------------------------------|-------------------|------------------------------------------|
| known                            | trips             | must have recovered                      |
| estimated                        | trips             | the same, but an exact one must as well  |
| unknown: never in this table     | cannot trip: said | neither recovers nor holds the pause     |
| unknown: counting stops below it | cannot trip: said | no probe, no verdict: said               |
| unknown: any other reason        | does not trip     | no probe, no verdict: said               |

A rule that no reading will ever answer must not hold a pause for ever (P4). That is so for what
the table does not hold, and for failed jobs that nothing leads to. Waiting jobs and their age are
another matter: an observer that spares its database leaves them out for a while, and a breaker
that opened because of them must not take that for recovery (P2).
"""

from __future__ import annotations

from collections.abc import Iterable

from starforge_backlog.api.policy import Trip
from starforge_backlog.api.status import BreakerState
from starforge_backlog.decide.assess.need import NEVER_REPORTED
from starforge_backlog.decide.breakers.signals import Level, Rules, Signal, name
from starforge_backlog.decide.said_once import said_once
from starforge_backlog.snapshot import Unknown, Why


def never_reported(trip: Trip, found: Signal) -> bool:
    """Whether no later reading of this table will contain the signal either."""
    if not isinstance(found, Unknown):
        return False
    return found.why in {Why.NOT_IN_TABLE, Why.NO_SOURCE} or (
        trip.failed_percent is not None and found.why in NEVER_REPORTED
    )


def decisive(rules: Rules) -> bool:
    """Whether what is known is enough to resume a producer or to acquit a probe: nothing that
    counts is unknown, and not everything is estimated."""
    exact = [found for _, found in rules if isinstance(found, Level) and not found.estimated]
    return bool(exact) and not any(_blocks(trip, found) for trip, found in rules)


def explain_unreadable(breaker: str, state: BreakerState, rules: Rules) -> str:
    """The sentence that a person needs to know why it does not trip, or does not recover."""
    if state is BreakerState.CLOSED:
        what = "cannot trip"
        why = _unknown(
            (trip, found)
            for trip, found in rules
            if isinstance(found, Unknown)
            and (never_reported(trip, found) or found.why is Why.CAPPED)
        )
    elif decisive(rules):
        return ""
    else:
        what = "cannot probe" if state is BreakerState.OPEN else "the probe cannot be judged"
        why = (
            _unknown((trip, found) for trip, found in rules if _blocks(trip, found))
            or ", ".join(f"{name(trip)} is only estimated" for trip, _ in _estimates(rules))
            or _unknown(rules)
        )
    return f"breaker {breaker}: {what}: {why}" if why else ""


def _blocks(trip: Trip, found: Signal) -> bool:
    return isinstance(found, Unknown) and not never_reported(trip, found)


def _estimates(rules: Rules) -> Iterable[tuple[Trip, Level]]:
    return ((trip, found) for trip, found in rules if isinstance(found, Level) and found.estimated)


def _unknown(rules: Iterable[tuple[Trip, Signal]]) -> str:
    sentences = (
        (name(trip), found.message if isinstance(found, Unknown) else "") for trip, found in rules
    )
    return said_once(sentences, link=" unknown: ")
