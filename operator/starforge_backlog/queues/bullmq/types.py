"""Which kinds of jobs wait, from a sample; and how each kind ends. Pure, but for chance."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any

from starforge_backlog.api.shown import shortened
from starforge_backlog.queues.bullmq.queue_state import Job
from starforge_backlog.snapshot import Confidence, Count

_FIELDS = 7  # per job, of sample.lua
_MOST = 8.64e15  # ms since 1970: the last date that JavaScript has
# Of a kind that is a share p of all jobs, n places chosen by chance show none with a probability of
# at most (1 - p)^n, however the jobs lie: below 5 % where p is above 3/n.
_NONE_SEEN = 3


@dataclass(frozen=True, slots=True)
class Part:
    """One list or sorted set with waiting jobs, and how many are in it."""

    suffix: str
    length: int


def blocks(
    parts: Sequence[Part], *, sample: int, block: int, chance: random.Random
) -> dict[str, list[int]]:
    """Where to read blocks in each part, in proportion to its length.

    One in each of so many equal stretches, anywhere in it: jobs of a kind that were added together
    and fill two stretches are never passed over.
    """
    total = sum(part.length for part in parts)
    found = {}
    for part in parts:
        if not part.length:
            continue
        many = max(1, round(sample / block * part.length / total))
        if many * block >= part.length:
            found[part.suffix] = list(range(0, part.length, block))
            continue
        last = part.length - block
        edges = [part.length * number // many for number in range(many + 1)]
        found[part.suffix] = [
            min(last, chance.randrange(first, end)) for first, end in pairwise(edges)
        ]
    return found


@dataclass(frozen=True, slots=True)
class Mix:
    """Names of waiting jobs. `exact`: all were read, and `oldest` is the oldest of each. `places`:
    places that were read, by chance."""

    names: Mapping[str, int] = field(default_factory=dict)
    exact: bool = True
    oldest: Mapping[str, int] = field(default_factory=dict)  # ms since 1970
    places: int = 0

    def none_of(self, total: int) -> Count:
        """How many wait, of `total`, of a kind that is not among those that were read: not 0, but
        where all were read."""
        if self.exact:
            return Count(0)
        most = math.ceil(total * _NONE_SEEN / max(self.places, _NONE_SEEN))
        return Count(most, Confidence.AT_MOST)

    def waiting(self, total: int, most: int) -> dict[str, Count]:
        """How many of each kind wait, of `total`."""
        read = sum(self.names.values())
        if not read:
            return {}
        ranked = sorted(self.names.items(), key=lambda item: (-item[1], item[0]))[:most]
        if self.exact:
            return {name: Count(jobs) for name, jobs in ranked}
        return {
            name: Count(round(total * jobs / read), Confidence.ESTIMATED) for name, jobs in ranked
        }


def parse_sample(
    answers: Iterable[tuple[str, Sequence[str]]],
    *,
    now: int,
    exact: bool,
    delayed: str,
    places: int = 0,
) -> Mix:
    """From sample.lua, each answer with the part it is of; `delayed`: the one scored by due time.

    Jobs whose hash is gone have no name and are left out: they end as soon as a worker takes them.
    """
    names: Counter[str] = Counter()
    oldest: dict[str, int] = {}
    undated = set()
    for suffix, (cut, *flat) in answers:
        exact = exact and cut == "0"
        for at in range(0, len(flat) - _FIELDS + 1, _FIELDS):
            name, created, delay, attempts, started, processed, score = flat[at : at + _FIELDS]
            due = float(score) / 4096 if suffix == delayed else 0.0
            if not name or due >= now + 1:  # the low bits are a sequence number
                continue
            name = shortened(name)
            names[name] += 1
            numbers = [_whole(text) for text in (created, delay, attempts, started, processed)]
            given = [number for number in numbers if number is not None]
            if len(given) < len(numbers):
                undated.add(name)
                continue
            job = Job(
                id="",
                place=suffix,
                name=name,
                created=given[0],
                delay=given[1],
                attempts=given[2],
                started=given[3],
                processed=given[4],
                due_at=int(due) if due > 0 else 0,
            )
            since = job.since(now)
            if since is None or not job.at_times_before(now):
                undated.add(name)
            else:
                oldest[name] = min(oldest.get(name, since), since)
    dated = {name: due for name, due in oldest.items() if name not in undated}
    return Mix(names, exact, dated if exact else {}, places)


@dataclass(frozen=True, slots=True)
class Ended:
    """Jobs that ended last, by name: as far back as both outcomes were read."""

    completed: Mapping[str, int]
    failed: Mapping[str, int]
    window: timedelta

    def most(self, many: int) -> list[str]:
        """The names of the most jobs: a payload that is given as the name makes each its own."""
        both = Counter(self.completed) + Counter(self.failed)
        return [name for name, _ in sorted(both.items(), key=lambda it: (-it[1], it[0]))[:many]]


def parse_ended(answer: Sequence[Any], *, now: int, window: timedelta, most: int) -> Ended:
    """From ended.lua."""
    since = now - round(window.total_seconds() * 1000)
    *ends, cut = answer
    found = []
    for flat in ends:
        pairs = [
            (shortened(name), int(float(at)))
            for name, at in zip(flat[::2], flat[1::2], strict=True)
        ]
        if pairs and (cut or len(pairs) >= most):
            since = max(since, pairs[-1][1])
        found.append(pairs)
    completed, failed = (
        Counter(name for name, at in pairs if at >= since and name) for pairs in found
    )
    return Ended(completed, failed, timedelta(milliseconds=max(1, now - since)))


def _whole(text: str) -> int | None:
    """Of a field that anybody may have written; None for what is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if 0 <= number <= _MOST else None
