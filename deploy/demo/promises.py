"""What each scenario claims, checked against its own recording. A broken one fails the run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from demo.actions import Kind, stops
from demo.recording import Backfill, Recording, Sample
from demo.summary import Summary

REACTION_SECONDS = 15.0
"""One interval of 2 s, the time another client needs to open its connections, and the write."""


SEEN_SECONDS = 2.0
"""From a write of the operator to the sample that shows it; until then it is of the time before."""

NEVER = (float("inf"), float("-inf"))


@dataclass(frozen=True, slots=True)
class Promise:
    """A claim, whether it was kept, and the numbers that say so."""

    claim: str
    kept: bool
    evidence: str


def check(recording: Recording, summary: Summary) -> tuple[Promise, ...]:
    """All claims of the scenario that was run."""
    own = _SCENARIOS[recording.about.scenario]
    return (*_always(recording, summary), *own(recording, summary))


def _always(recording: Recording, s: Summary) -> Iterator[Promise]:
    ways = [f"{s.done:,} done", f"{s.waiting:,} waiting"]
    ways += [f"{n:,} {what}" for n, what in ((s.running, "running"), (s.failed, "failed")) if n]
    unsure = f", {s.unsure} without a clear answer" if s.unsure else ""
    counted = f"{s.accepted:,} accepted{unsure}; {s.jobs:,} in the queue = {' + '.join(ways)}"
    yield Promise("no job lost", s.lost == 0 and s.invented == 0, counted)
    yield Promise("no job done twice", s.repeated == 0, f"{s.repeated} processed again")
    yield Promise(
        "no step beyond the budget",
        not s.over_budget,
        "; ".join(s.over_budget) or f"{s.up_steps} up-steps, 0 violations",
    )
    room = "connections never used up"
    numbers = f"at most {s.most_connections} of {s.usable} usable"
    if recording.about.scenario == "pressure":
        yield Promise(room, s.most_connections <= s.usable, numbers)
    else:
        limit = s.usable - recording.about.headroom
        yield Promise(
            f"{room}: {recording.about.headroom} stay free",
            s.most_connections <= limit,
            f"{numbers}, {s.usable - s.most_connections} free at the tightest",
        )


def _main(recording: Recording, s: Summary) -> Iterator[Promise]:
    kinds = [act.kind for act in s.acts]
    yield Promise("stepped up", Kind.UP in kinds, f"{s.up_steps} up-steps")
    met = s.highest_budget is not None and s.most_replicas == s.highest_budget
    yield Promise(
        "met the budget and stopped there",
        met,
        f"{s.most_replicas} replicas, budget {s.highest_budget}",
    )
    yield Promise("paused ingestion", Kind.PAUSE in kinds, f"paused for {s.paused_seconds:.0f} s")
    yield Promise(
        "resumed ingestion",
        Kind.RESUME in kinds and recording.samples[-1].flag_paused is False,
        "the flag's row says running" if Kind.RESUME in kinds else "ingestion is still paused",
    )
    drained = s.waiting < s.peak_waiting / 20
    yield Promise("drained", drained, f"from {s.peak_waiting:,} waiting to {s.waiting:,}")
    yield Promise("stepped down again", Kind.DOWN in kinds, f"{kinds.count(Kind.DOWN)} down-steps")


def _bullmq(recording: Recording, s: Summary) -> Iterator[Promise]:
    yield from _main(recording, s)
    seen = [(x.t, x.backfill) for x in recording.samples if x.backfill is not None]
    spans = stops(recording.samples)
    held = sum(end - start for start, end in spans)
    yield Promise("stopped the background queue", bool(spans), f"stopped for {held:.0f} s")
    started = [_started(seen, start + SEEN_SECONDS, end) for start, end in spans]
    yield Promise(
        "nothing of it was started meanwhile",
        bool(started) and not any(started),
        f"{sum(started)} jobs started in {held:.0f} s",
    )
    last = seen[-1][1] if seen else None
    yield Promise(
        "released it, with every job accounted for",
        last is not None and not last.stopped and last.all == recording.about.backfill_jobs,
        f"{last.done:,} done + {last.running} running + {last.waiting:,} waiting"
        f" = {recording.about.backfill_jobs:,} enqueued"
        if last
        else "never seen",
    )


def _started(seen: Sequence[tuple[float, Backfill]], start: float, end: float) -> int:
    """Jobs that left the waiting list between two moments."""
    inside = [backfill.waiting for t, backfill in seen if start <= t < end]
    return inside[0] - inside[-1] if inside else 0


def _pressure(recording: Recording, s: Summary) -> Iterator[Promise]:
    start, end = next(iter(recording.about.disturbed), NEVER)
    down = [a for a in s.acts if a.kind in (Kind.REVERT, Kind.DOWN) and start <= a.t <= end]
    soon = [a for a in down if a.t <= start + REACTION_SECONDS]
    before = [a for a in s.acts if a.kind is Kind.UP and a.t <= start]
    yield Promise(
        "a step was being observed when the other client came",
        bool(before) and start - before[-1].t <= REACTION_SECONDS,
        f"{before[-1].text} {start - before[-1].t:.0f} s earlier" if before else "no step before",
    )
    yield Promise(
        "the step was reverted",
        bool(soon),
        f"{soon[0].text} {soon[0].t - start:.0f} s after it came" if soon else "it stayed",
    )
    ups = [a for a in s.acts if a.kind is Kind.UP and start + SEEN_SECONDS <= a.t <= end]
    yield Promise("no step up while the other client is there", not ups, f"{len(ups)} up-steps")


def _unreadable(recording: Recording, s: Summary) -> Iterator[Promise]:
    silences = recording.about.disturbed
    silent = [x for x in recording.samples if _within(x.t, silences) and x.jobs is None]
    seconds = sum(end - start for start, end in silences)
    yield Promise(
        "the database was silent in the storm and in the pause",
        len(silences) == 2 and len(silent) >= seconds / 2,
        f"{len(silences)} times, {seconds:.0f} s, {len(silent)} samples without an answer",
    )
    # A write that left just before the silence may show in the sample after it.
    ups = [a for a in s.acts if a.kind is Kind.UP and _within(a.t - SEEN_SECONDS, silences)]
    yield Promise("nothing was scaled up meanwhile", not ups, f"{len(ups)} up-steps")
    paused = [_flag(recording.samples, start, end) for start, end in silences]
    yield Promise(
        "nothing was resumed meanwhile",
        (True, False) not in paused and any(before is True for before, _ in paused),
        "; ".join(f"paused before: {_yes(b)}, after: {_yes(a)}" for b, a in paused),
    )
    words = [_sentence(recording, start, end) for start, end in silences]
    yield Promise(
        "the operator reported the missing reading",
        bool(words) and all("nknown" in w or "nswer" in w for w in words),
        "; ".join(f"“{textwrap.shorten(w, 90, placeholder=' …')}”" for w in words),
    )


def _within(t: float, spans: tuple[tuple[float, float], ...]) -> bool:
    return any(start <= t <= end for start, end in spans)


def _sentence(recording: Recording, start: float, end: float) -> str:
    """The last summary of the operator between the two moments."""
    samples = recording.samples
    said = [s.operator.summary for s in samples if start <= s.t <= end and s.operator]
    return said[-1] if said else ""


def _flag(samples: tuple[Sample, ...], start: float, end: float) -> tuple[bool | None, bool | None]:
    """The flag as last seen before and first seen after."""
    known = [(s.t, s.flag_paused) for s in samples if s.flag_paused is not None]
    before = [flag for t, flag in known if t <= start]
    after = [flag for t, flag in known if t >= end]
    return (before[-1] if before else None, after[0] if after else None)


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[value]


_SCENARIOS: dict[str, Callable[[Recording, Summary], Iterator[Promise]]] = {
    "main": _main,
    "bullmq": _bullmq,
    "pressure": _pressure,
    "unreadable": _unreadable,
}
