"""What the words of a status column mean: recognised, or mapped by the policy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from starforge_backlog.api.queue import StatusNames
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.snapshot import Why


class Group(StrEnum):
    """Where a job stands. The values are the field names of `StatusNames`, as users write them."""

    WAITING = "waiting"
    IN_PROGRESS = "inProgress"
    FAILED = "failed"
    FINISHED = "finished"
    QUARANTINED = "quarantined"  # set aside by a person or by us: it neither waits nor fails anew
    OTHER = "other"  # a word that means nothing to us; such jobs count as gone from the line


# Order within a group is that of StarForge's published variants.
RECOGNISED: dict[Group, tuple[str, ...]] = {
    Group.WAITING: ("pending", "waiting", "queued"),
    Group.IN_PROGRESS: ("running", "processing", "active"),
    Group.FAILED: ("failed",),
    Group.FINISHED: ("done", "completed", "succeeded"),
    Group.QUARANTINED: ("quarantined",),
}


@dataclass(frozen=True, slots=True)
class Words:
    """Status words per group. An empty group: the table has no word for it."""

    by_group: dict[Group, tuple[str, ...]]

    def of(self, group: Group) -> tuple[str, ...]:
        """The group's words, perhaps none."""
        return self.by_group.get(group, ())

    def group_of(self, word: str | None) -> Group:
        """The group of a word that was read."""
        return next((group for group, words in self.by_group.items() if word in words), Group.OTHER)


def resolve_words(
    mapped: StatusNames, *, allowed: Collection[str] | None, seen: Collection[str]
) -> Words | Problem:
    """Which words mean what.

    `allowed` is the whole list that an enum or a CHECK constraint permits, None for free text.
    `seen` are words that a free text column is known to hold (default, index predicates,
    statistics): each group keeps its recognised words among them, or all of its recognised words
    when none was seen, because a rare word (a few running jobs among millions) is in no
    statistics. Returns a Problem when no word means waiting, or a mapped word cannot occur.
    """
    given = {
        Group.WAITING: mapped.waiting,
        Group.IN_PROGRESS: mapped.in_progress,
        Group.FAILED: mapped.failed,
        Group.FINISHED: mapped.finished,
    }
    # A word that the policy uses elsewhere is not recognised a second time.
    taken = {word for words in given.values() for word in words or ()}
    chosen: dict[Group, tuple[str, ...]] = {}
    for group, recognised in RECOGNISED.items():
        words = given.get(group)
        if words is not None:
            refused = [word for word in words if allowed is not None and word not in allowed]
            if refused:
                return Problem(
                    Why.STATUS_NOT_MAPPED,
                    f"the status column cannot hold {_listed(refused)},"
                    f" only {_listed(allowed or ())}",
                    field=f"statuses.{group}",
                )
            chosen[group] = words
            continue
        free = tuple(word for word in recognised if word not in taken)
        if allowed is not None:
            chosen[group] = tuple(word for word in free if word in allowed)
        else:
            chosen[group] = tuple(word for word in free if word in seen) or free
    if not chosen[Group.WAITING]:
        return Problem(
            Why.STATUS_NOT_MAPPED,
            f"none of the status words {_listed(allowed or seen)} is known to mean waiting",
            field="statuses.waiting",
        )
    return Words(chosen)


def unknown_words(words: Collection[str]) -> Problem:
    """A free text column whose rows all hold words that nobody mapped."""
    return Problem(
        Why.STATUS_NOT_MAPPED,
        f"no row has a status word that is known, only {_listed(words)}",
        field="statuses",
    )


def _listed(words: Collection[str]) -> str:
    return ", ".join(sorted(words)) or "(none)"
