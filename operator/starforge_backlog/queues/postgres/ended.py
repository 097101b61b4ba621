"""Jobs that ended lately, read through an index on the time of the last change. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starforge_backlog.queues.postgres.words import Group, Words

_ENDS = (Group.FINISHED, Group.FAILED)


@dataclass(frozen=True, slots=True)
class Slice:
    """Jobs of one group and type that ended in one slice of time; slice 0 is the latest."""

    group: Group
    type: str
    number: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Ended:
    """`span`: how many seconds back it sees; less than asked for where the cap was reached.

    `changed`: rows that were written after they were made, ended or not.
    """

    slices: tuple[Slice, ...]
    span: float
    slice_seconds: int
    changed: int

    def covered(self, seconds: float) -> float:
        """The whole slices that fit into `seconds` and into what was seen, in seconds."""
        return min(seconds, self.span) // self.slice_seconds * self.slice_seconds

    def jobs(self, group: Group, seconds: float, types: Iterable[str] = ()) -> int:
        """Jobs of the group that ended in the last `covered(seconds)`."""
        slices = self.covered(seconds) / self.slice_seconds
        wanted = set(types)
        return sum(
            s.jobs
            for s in self.slices
            if s.group is group and s.number < slices and (not wanted or s.type in wanted)
        )


def parse_ended(
    rows: Iterable[Mapping[str, Any]],
    words: Words,
    *,
    window: float,
    slice_seconds: int,
    limit: int,
) -> Ended:
    """From `ended_lately.sql`."""
    found = list(rows)
    capped = sum(row["jobs"] for row in found) >= limit
    slices = [
        Slice(words.group_of(row["word"]), row["type"] or "", row["slice"], row["jobs"])
        for row in found
    ]
    return Ended(
        slices=tuple(s for s in slices if s.group in _ENDS),
        span=max((float(row["oldest"]) for row in found), default=window) if capped else window,
        slice_seconds=slice_seconds,
        changed=sum(row["changed"] for row in found),
    )
