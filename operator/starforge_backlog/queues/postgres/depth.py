"""How many jobs stand where, from the rows of one reading. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from starforge_backlog.queues.postgres.words import NO_WORD, Group, Words
from starforge_backlog.snapshot import Confidence, Count

# From sure to unsure: a sum is as sure as its worst part.
_ORDER = (Confidence.EXACT, Confidence.AT_LEAST, Confidence.ESTIMATED)
_ZERO = Count(0)


class Head(StrEnum):
    """How the first rows of a line were chosen: those that come first, or any."""

    ORDERED = "ordered"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Depth:
    """Jobs of one group: due now, scheduled for later, held back by a pause of ours; and the age of
    the oldest due (and of the oldest held, by the due time it had before) in seconds.

    `oldest` is None when it could not be seen; 0 when nothing is due. `by_type` holds the types
    that were seen; with `all_types` there are no others.
    """

    due: Count = _ZERO
    scheduled: Count = _ZERO
    oldest: float | None = 0.0
    held: Count = _ZERO
    held_oldest: float | None = 0.0
    by_type: Mapping[str, Depth] = field(default_factory=dict)
    all_types: bool = True
    undated: int = 0  # due jobs without a time that an age could be counted from

    @property
    def total(self) -> Count:
        """All together: a job that is held has not left."""
        return add(self.due, self.scheduled, self.held)

    @property
    def exact(self) -> int | None:
        """The total if it is exact."""
        total = self.total
        return total.value if total.confidence is Confidence.EXACT else None

    def only(self, types: Iterable[str]) -> Depth:
        """The part that belongs to these types; all for no types.

        A type that was not seen has no job when all types were seen; else its jobs are unknown,
        so the counts become lower bounds and the age is not known.
        """
        wanted = tuple(types)
        if not wanted:
            return self
        parts = [self.by_type.get(name) for name in wanted]
        chosen = {name: part for name, part in zip(wanted, parts, strict=True) if part is not None}
        whole = total_of(chosen, all_types=True)
        if self.all_types or all(part is not None for part in parts):
            return whole
        return replace(
            whole,
            due=at_least(whole.due),
            scheduled=at_least(whole.scheduled),
            held=at_least(whole.held),
            # What was seen comes first in the line, so an unseen type's jobs are all younger.
            oldest=whole.oldest if whole.due.value else None,
            all_types=False,
        )


@dataclass(frozen=True, slots=True)
class Strange:
    """Jobs with one status word that is neither known nor mapped: they may be waiting (P2)."""

    word: str
    jobs: Count
    type: str | None = None  # None: of any type

    def concerns(self, types: Collection[str]) -> bool:
        """Whether jobs of these types (none: all) may be among them."""
        return not types or self.type is None or self.type in types


@dataclass(frozen=True, slots=True)
class Depths:
    """One reading of the table: a depth per group, None where no cheap way leads to it."""

    by_group: Mapping[Group, Depth | None]
    strange: tuple[Strange, ...] = ()
    # A table that has rows and not one with a word that is known: it is not empty, it is not
    # understood.
    nothing_known: bool = False
    ignored: tuple[str, ...] = ()  # words of jobs that were seen and are counted nowhere

    def of(self, group: Group, types: Iterable[str] = ()) -> Depth | None:
        """The depth of a group, of these types only."""
        depth = self.by_group.get(group)
        return None if depth is None else depth.only(types)


def add(*counts: Count) -> Count:
    """The sum, as sure as its least sure part."""
    worst = max((_ORDER.index(count.confidence) for count in counts), default=0)
    return Count(sum(count.value for count in counts), _ORDER[worst])


def at_least(count: Count) -> Count:
    """The same number as a lower bound."""
    return add(count, Count(0, Confidence.AT_LEAST))


def total_of(parts: Mapping[str, Depth], *, all_types: bool) -> Depth:
    """All types together. Where types are missing, the counts are lower bounds."""
    whole = _sum(parts.values())
    if not all_types:
        whole = replace(
            whole,
            due=at_least(whole.due),
            scheduled=at_least(whole.scheduled),
            held=at_least(whole.held),
            oldest=None,
        )
    return replace(whole, by_type=parts, all_types=all_types)


def _sum(depths: Iterable[Depth]) -> Depth:
    parts = tuple(depths)
    ages = [part.oldest for part in parts if part.due.value]
    known = [age for age in ages if age is not None]
    held = [part.held_oldest for part in parts if part.held.value]
    return Depth(
        due=add(*(part.due for part in parts)),
        scheduled=add(*(part.scheduled for part in parts)),
        oldest=max(known, default=0.0) if len(known) == len(ages) else None,
        held=add(*(part.held for part in parts)),
        held_oldest=None if None in held else max((age for age in held if age), default=0.0),
        undated=sum(part.undated for part in parts),
    )


def exact_depth(rows: Iterable[Mapping[str, Any]], words: Words, *, most_groups: int) -> Depths:
    """From `count_all.sql`: every group, every type, exact; lower bounds where the answer was cut
    at `most_groups` rows."""
    by_group: dict[Group, list[Mapping[str, Any]]] = {group: [] for group in Group}
    found = list(rows)
    complete = len(found) < most_groups
    for row in found:
        by_group[words.group_of(row["word"])].append(row)
    strange = tuple(_strange(row) for row in by_group[Group.OTHER])
    known = any(part for group, part in by_group.items() if group is not Group.OTHER)
    return Depths(
        {
            group: total_of(_by_type(part, limit=None), all_types=complete)
            for group, part in by_group.items()
        },
        strange=strange,
        nothing_known=bool(strange) and not known,
        ignored=tuple(sorted({row["word"] or NO_WORD for row in by_group[Group.IGNORED]})),
    )


def _strange(row: Mapping[str, Any]) -> Strange:
    jobs = row["due"] + row["undated"] + row["scheduled"] + row["held"]
    return Strange(row["word"] or NO_WORD, Count(jobs), row["type"] or "")


def sampled_depth(
    rows: Iterable[Mapping[str, Any]], words: Words, factor: float, *, most_groups: int
) -> Depths:
    """From `sample.sql`: estimates. Ages cannot be seen in a sample."""

    def scaled(depth: Depth) -> Depth:
        return replace(
            depth,
            due=Count(round(depth.due.value * factor), Confidence.ESTIMATED),
            scheduled=Count(round(depth.scheduled.value * factor), Confidence.ESTIMATED),
            oldest=None,
            held=Count(round(depth.held.value * factor), Confidence.ESTIMATED),
            held_oldest=None,
            by_type={name: scaled(part) for name, part in depth.by_type.items()},
            # A type that the sample missed is rare, not absent.
            all_types=False,
        )

    counted = exact_depth(rows, words, most_groups=most_groups)
    return Depths(
        {group: scaled(d) if d is not None else None for group, d in counted.by_group.items()},
        strange=tuple(
            replace(part, jobs=Count(round(part.jobs.value * factor), Confidence.ESTIMATED))
            for part in counted.strange
        ),
        # What a sample does not show may be there all the same, so `nothing_known` is not said.
        ignored=counted.ignored,
    )


def by_type_depth(rows: Iterable[Mapping[str, Any]], *, limit: int, most_types: int) -> Depth:
    """From `waiting_by_type.sql` and `count_by_type.sql`: exact up to `limit` per type."""
    found = list(rows)
    words_of_type: dict[str, int] = {}
    for row in found:
        words_of_type[row["word"]] = words_of_type.get(row["word"], 0) + 1
    complete = all(count <= most_types for count in words_of_type.values())
    return total_of(_by_type(found, limit=limit), all_types=complete)


def head_depth(
    rows: Iterable[Mapping[str, Any]],
    *,
    head: Head | None,
    head_limit: int,
    total_limit: int,
    held_rows: int,
    least_held: int,
) -> Depth:
    """From `head_of_line.sql` (unless `head` is None; once for the line, once for what is held
    behind it) and `count_capped.sql`.

    Exact while the line is short. Beyond `head_limit` jobs the totals come from the index, capped
    at `total_limit`; the age is that of the first in order where the rows are ordered, and types
    are those of the head, as lower bounds.
    """
    found = list(rows)
    front = [row for row in found if row["part"] in ("head", "front")]
    behind = [row for row in found if row["part"] == "held"]
    totals = [row for row in found if row["part"] == "total"]
    all_held = _is_short(behind, held_rows)
    due = add(*(_capped(row["due"] + row["undated"], total_limit) for row in totals))
    scheduled = add(*(_capped(row["scheduled"], total_limit) for row in totals))
    held = add(*(_capped(row["held"], max(least_held, total_limit - row["due"])) for row in totals))
    if head is not None and _is_short(front, head_limit):
        # "head" is the whole line, "front" ends where the held jobs begin.
        whole = any(row["part"] == "head" for row in front)
        if whole or all_held:
            return total_of(
                _by_type(front if whole else front + behind, limit=None), all_types=True
            )
        # Too many are held back to be read one by one; what waits before them was read to its end.
        types = {
            name: replace(part, held=at_least(part.held))
            for name, part in _by_type(front + behind, limit=None).items()
        }
        line = total_of(types, all_types=True)
        return replace(line, scheduled=scheduled, held=held) if totals else line
    undated = sum(row["undated"] for row in totals)
    ages_hold = head is Head.ORDERED and not undated
    bounds = {
        name: replace(
            part,
            due=at_least(part.due),
            scheduled=at_least(part.scheduled),
            oldest=part.oldest if ages_hold else None,
            held=_ZERO,
        )
        for name, part in _by_type(front, limit=None).items()
    }
    unseen = Depth(due=at_least(_ZERO), scheduled=at_least(_ZERO))
    for name, part in _by_type(behind, limit=None).items():
        if part.held.value:
            bounds[name] = replace(
                bounds.get(name, unseen),
                held=part.held if all_held else at_least(part.held),
                held_oldest=part.held_oldest,
            )
    first = _sum(bounds.values())
    if not totals:
        return replace(first, by_type=bounds, all_types=False)
    return Depth(
        due=due,
        scheduled=scheduled,
        oldest=first.oldest if ages_hold or not due.value else None,
        held=held,
        held_oldest=first.held_oldest,
        by_type=bounds,
        all_types=not due.value and not scheduled.value,
        undated=undated,
    )


def _is_short(rows: Iterable[Mapping[str, Any]], limit: int) -> bool:
    """Whether these are all rows, of each word."""
    seen: dict[str, int] = {}
    for row in rows:
        jobs = row["due"] + row["undated"] + row["scheduled"] + row["held"]
        seen[row["word"]] = seen.get(row["word"], 0) + jobs
    return all(count < limit for count in seen.values())


def _by_type(rows: Iterable[Mapping[str, Any]], *, limit: int | None) -> dict[str, Depth]:
    """One depth per type; the same type under two words is added up."""
    parts: dict[str, list[Depth]] = {}
    for row in rows:
        due = row["due"] + row["undated"]
        age: float | None = row["oldest"] if due else 0.0
        # Jobs without a due time have an age that is not in the index.
        if age is not None and (row["undated"] or not math.isfinite(age)):
            age = None
        parts.setdefault(row["type"] or "", []).append(
            Depth(
                due=_capped(due, limit),
                scheduled=_capped(row["scheduled"], limit),
                oldest=age,
                held=_capped(row["held"], limit),
                held_oldest=row["held_oldest"] if row["held"] else 0.0,
                undated=row["undated"],
            )
        )
    return {name: _sum(depths) for name, depths in parts.items()}


def _capped(value: int, limit: int | None) -> Count:
    if limit is None or value < limit:
        return Count(value)
    return Count(value, Confidence.AT_LEAST)
