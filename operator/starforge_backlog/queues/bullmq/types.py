"""Which kinds of jobs wait, told by a sample; and how each kind ends. Pure, but for chance."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from starforge_backlog.queues.bullmq.look import Job
from starforge_backlog.snapshot import Confidence, Count

_FIELDS = 7  # per job, of sample.lua


@dataclass(frozen=True, slots=True)
class Part:
    """One list or sorted set with waiting jobs, and how many are in it."""

    suffix: str
    length: int


def blocks(
    parts: Sequence[Part], *, sample: int, block: int, chance: random.Random
) -> dict[str, list[int]]:
    """Where to read blocks in each part, in proportion to its length."""
    total = sum(part.length for part in parts)
    found = {}
    for part in parts:
        if not part.length:
            continue
        many = max(1, round(sample / block * part.length / total))
        last = max(0, part.length - block)
        found[part.suffix] = sorted(chance.randint(0, last) for _ in range(many))
    return found


@dataclass(frozen=True, slots=True)
class Mix:
    """Names of waiting jobs. `exact`: all were read, and `oldest` is the oldest of each."""

    names: Mapping[str, int] = field(default_factory=dict)
    exact: bool = True
    oldest: Mapping[str, int] = field(default_factory=dict)  # ms since 1970

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
    answers: Iterable[tuple[str, Sequence[str]]], *, now: int, exact: bool, delayed: str
) -> Mix:
    """From sample.lua, each answer with the part it is of; `delayed`: the one scored by due time.

    Jobs whose hash is gone have no name and are left out: they end as soon as a worker takes them.
    """
    names: Counter[str] = Counter()
    oldest: dict[str, int] = {}
    undated = set()
    for suffix, flat in answers:
        for at in range(0, len(flat) - _FIELDS + 1, _FIELDS):
            name, created, delay, attempts, started, processed, score = flat[at : at + _FIELDS]
            due_at = int(float(score)) // 4096 if suffix == delayed else 0
            if not name or due_at > now:
                continue
            names[name] += 1
            job = Job(
                id="",
                place=suffix,
                name=name,
                created=_whole(created),
                delay=_whole(delay),
                attempts=_whole(attempts),
                started=_whole(started),
                processed=_whole(processed),
                due_at=due_at,
            )
            if job.due is None:
                undated.add(name)
            else:
                oldest[name] = min(oldest.get(name, job.due), job.due)
    told = {name: due for name, due in oldest.items() if name not in undated}
    return Mix(names, exact, told if exact else {})


@dataclass(frozen=True, slots=True)
class Ended:
    """Jobs that ended last, by name: as far back as both outcomes were read."""

    completed: Mapping[str, int]
    failed: Mapping[str, int]
    window: timedelta


def parse_ended(
    answer: Sequence[Sequence[str]], *, now: int, window: timedelta, most: int
) -> Ended:
    """From ended.lua."""
    since = now - round(window.total_seconds() * 1000)
    found = []
    for flat in answer:
        pairs = [(name, int(float(at))) for name, at in zip(flat[::2], flat[1::2], strict=True)]
        if len(pairs) >= most:
            since = max(since, pairs[-1][1])
        found.append(pairs)
    completed, failed = (
        Counter(name for name, at in pairs if at >= since and name) for pairs in found
    )
    return Ended(completed, failed, timedelta(milliseconds=max(1, now - since)))


def _whole(text: str) -> int:
    """Of a field that anybody may have written."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0
