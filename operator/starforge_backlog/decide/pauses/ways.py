"""What a way to pause proves of itself, and where it stands in the order of mitigation.

| way                                  | a pause of ours is known again by                      |
|--------------------------------------|--------------------------------------------------------|
| configMap, workload, queue           | the token that is written beside it                    |
| jobTypes                             | due times in the entry's slot, which was free before   |
| featureFlag                          | the token; its row's version where `writeOwner` is off |
| backfillJobs                         | a resume under our token, which searches each row      |
| webhook                              | the owner, if the API keeps it                         |
| webhook that cannot be read          | a resume under our token                               |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from starforge_backlog.api.policy import Producer
from starforge_backlog.api.producer import BACKGROUND
from starforge_backlog.api.status import PauseState, PauseStatus


class Proof(StrEnum):
    """How a pause that was intended, and may have happened, is known as ours."""

    TOKEN = "Token"  # noqa: S105 - a paused producer without our token is not ours
    BY_RESUMING = "ByResuming"  # a resume under our token does nothing to anybody else's
    NOTHING = "Nothing"  # it may be ours: a person has to check


def proof(producer: Producer) -> Proof:
    """What settles a pause of which only the intent is known and that reads as paused."""
    if producer.backfill_jobs is not None:
        return Proof.BY_RESUMING
    if producer.webhook is not None:
        return Proof.NOTHING if producer.webhook.readable else Proof.BY_RESUMING
    flag = producer.feature_flag
    if flag is not None and not flag.write_owner:
        return Proof.NOTHING
    return Proof.TOKEN


def carries_token(producer: Producer) -> bool:
    """Whether our token stands beside the pause, so that it proves the pause at any server."""
    return proof(producer) is Proof.TOKEN and producer.job_types is None


def never_readable(producer: Producer) -> bool:
    """Whether the spec says that it cannot be read: a missing reading is then no fault."""
    return producer.webhook is not None and not producer.webhook.readable


def in_order_of_mitigation(producers: Iterable[Producer]) -> tuple[Producer, ...]:
    """Sources of new work first, then background queues and backfills; each in its order."""
    return tuple(sorted(producers, key=lambda producer: producer.background))


def is_background(locator: Mapping[str, str]) -> bool:
    """The same of a producer that only its entry in status describes."""
    return any(way in BACKGROUND for way in locator)


def failed_before(entry: PauseStatus) -> bool:
    """Whether its last write failed. The message is no proof: a healthy pause has one as well."""
    return entry.failed or entry.state is PauseState.REFUSED
