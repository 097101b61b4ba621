"""What the words of a status column mean: recognised, or mapped by the policy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from starforge_backlog.api.queue import StatusNames
from starforge_backlog.api.shown import shortened
from starforge_backlog.queues.postgres.holds import Holds
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.snapshot import Why


class Group(StrEnum):
    """Where a job stands. The values are the field names of `StatusNames`, as users write them."""

    WAITING = "waiting"
    IN_PROGRESS = "inProgress"
    FAILED = "failed"
    FINISHED = "finished"
    QUARANTINED = "quarantined"  # set aside by a person or by us: it neither waits nor fails again
    IGNORED = "ignored"  # neither waits nor runs nor failed, by the policy or by its meaning
    OTHER = "other"  # a word that means nothing to us: such jobs may wait (P2)


# Order within a group is that of StarForge's published variants.
RECOGNISED: dict[Group, tuple[str, ...]] = {
    Group.WAITING: ("pending", "waiting", "queued"),
    Group.IN_PROGRESS: ("running", "processing", "active"),
    Group.FAILED: ("failed",),
    Group.FINISHED: ("done", "completed", "succeeded"),
    Group.QUARANTINED: ("quarantined",),
    # Another client decided that the job is not to be done, which is neither a success nor a
    # failure.
    Group.IGNORED: ("cancelled", "canceled"),
}
NO_WORD = "NULL"
"""Stands for a row without a status word, in messages and in `statuses.ignored`."""
_MOST_LISTED = 8  # words in one message; a status has room for a sentence, not for a table


@dataclass(frozen=True, slots=True)
class Words:
    """Status words per group. An empty group: the table has no word for it."""

    by_group: dict[Group, tuple[str, ...]]
    folded: bool = False  # the column compares without regard to case (citext)

    def of(self, group: Group) -> tuple[str, ...]:
        """The group's words, perhaps none."""
        return self.by_group.get(group, ())

    def group_of(self, word: str | None) -> Group:
        """The group of a word that was read."""
        if self.folded and word is not None:
            word = word.lower()
            found = (g for g, words in self.by_group.items() if word in map(str.lower, words))
        else:
            found = (g for g, words in self.by_group.items() if (word or NO_WORD) in words)
        return next(found, Group.OTHER)

    @property
    def understood(self) -> tuple[str, ...]:
        """All words of all groups."""
        return tuple(word for words in self.by_group.values() for word in words)


def recognised(word: str) -> bool:
    """Whether the word means something by itself, in a column that is known to hold it."""
    return any(word in words for words in RECOGNISED.values())


def resolve_words(mapped: StatusNames, *, holds: Holds, seen: Collection[str]) -> Words | Problem:
    """Which words mean what.

    `holds` is what the column can hold. `seen` are words that a free text column is known to
    hold (default, index predicates, statistics, rows): each group keeps its recognised words among
    them, or all of its recognised words when none was seen, because a rare word (a few running jobs
    among millions) is in no statistics. Returns a Problem when no word means waiting, or a mapped
    word cannot occur.
    """
    given = {
        Group.WAITING: mapped.waiting,
        Group.IN_PROGRESS: mapped.in_progress,
        Group.FAILED: mapped.failed,
        Group.FINISHED: mapped.finished,
    }
    ignored = mapped.ignored or ()
    # A word that the policy uses elsewhere is not recognised a second time.
    taken = {word for words in given.values() for word in words or ()}.union(ignored)
    chosen: dict[Group, tuple[str, ...]] = {}
    for group, recognised_words in RECOGNISED.items():
        words = given.get(group)
        if words is not None:
            refused = [word for word in words if not holds.can_hold(word)]
            if refused:
                return Problem(
                    Why.STATUS_NOT_MAPPED,
                    f"the status column ({holds.type}) cannot hold {listed(refused)},"
                    f" only {listed(holds.allowed) if holds.allowed else holds.limits}",
                    field=f"statuses.{group}",
                )
            chosen[group] = words
            continue
        free = tuple(word for word in recognised_words if word not in taken)
        # A literal that the column's type does not have is no empty answer but an error (22P02).
        free = tuple(word for word in free if holds.can_hold(word))
        if holds.allowed is None:
            free = tuple(word for word in free if word in seen) or free
        chosen[group] = free
    # Never part of a statement, so it does not matter whether the column can hold them.
    chosen[Group.IGNORED] = (*chosen[Group.IGNORED], *ignored)
    if not chosen[Group.WAITING]:
        known = holds.allowed or tuple(seen)
        return Problem(
            Why.STATUS_NOT_MAPPED,
            f"none of the status words {listed(known)} is known to mean waiting"
            if known
            else f"the status column is {holds.type}, whose values have no meaning by themselves",
            field="statuses.waiting",
        )
    return Words(chosen, folded=holds.folded)


def unknown_words(words: Collection[str]) -> Problem:
    """A column whose rows all hold words that nobody mapped."""
    return Problem(
        Why.STATUS_NOT_MAPPED,
        f"no row has a status word that is known, only {listed(words)}",
        field="statuses",
    )


def listed(words: Collection[str]) -> str:
    """Words for a message: in order, cut, and not more than a person reads."""
    shown = [shortened(word) for word in sorted(words)[:_MOST_LISTED]]
    more = len(words) - len(shown)
    return (", ".join(shown) or "(none)") + (f" and {more} more" if more > 0 else "")
