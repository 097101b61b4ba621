"""What each scenario claims, checked against its own recording. A broken one fails the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from demo.actions import Kind
from demo.recording import Recording, Sample
from demo.summary import Summary

REACTION_SECONDS = 15.0
"""One interval of 2 s, the time a stranger needs to open its connections, and the write."""


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
    counted = f"{s.accepted:,} accepted{unsure}; {s.jobs:,} in the table = {' + '.join(ways)}"
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


def _pressure(recording: Recording, s: Summary) -> Iterator[Promise]:
    start, end = _disturbed(recording)
    down = [a for a in s.acts if a.kind in (Kind.REVERT, Kind.DOWN) and start <= a.t <= end]
    soon = [a for a in down if a.t <= start + REACTION_SECONDS]
    before = [a for a in s.acts if a.kind is Kind.UP and a.t <= start]
    yield Promise(
        "a step was being observed when the stranger came",
        bool(before) and start - before[-1].t <= REACTION_SECONDS,
        f"{before[-1].text} {start - before[-1].t:.0f} s earlier" if before else "no step before",
    )
    yield Promise(
        "the step was reverted",
        bool(soon),
        f"{soon[0].text} {soon[0].t - start:.0f} s after the stranger came"
        if soon
        else "it stayed",
    )
    ups = [a for a in s.acts if a.kind is Kind.UP and start + 2 <= a.t <= end]
    yield Promise("no step up while the stranger is there", not ups, f"{len(ups)} up-steps")


def _blind(recording: Recording, s: Summary) -> Iterator[Promise]:
    start, end = _disturbed(recording)
    silent = [x for x in recording.samples if start <= x.t <= end and x.jobs is None]
    yield Promise(
        "the database was really silent", len(silent) >= 5, f"{len(silent)} samples without answer"
    )
    # A write that left just before the silence may show in the sample after it.
    ups = [a for a in s.acts if a.kind is Kind.UP and start + 1 <= a.t <= end]
    yield Promise("nothing was scaled up in the dark", not ups, f"{len(ups)} up-steps")
    before, after = _flag(recording.samples, start, last=True), _flag(recording.samples, end)
    resumed = before is True and after is False
    yield Promise("nothing was resumed in the dark", not resumed, f"paused before: {before}")
    told = any(
        start + 2 <= x.t <= end + 2 and x.operator and "nknown" in _words(x)
        for x in recording.samples
    )
    yield Promise("the operator said that it could not see", told, _sentence(recording, end))


def _words(sample: Sample) -> str:
    operator = sample.operator
    return f"{operator.summary} {operator.cause} {operator.verdict}" if operator else ""


def _sentence(recording: Recording, end: float) -> str:
    said = [s.operator.summary for s in recording.samples if s.t <= end and s.operator]
    return f"“{said[-1]}”" if said else "no sentence"


def _flag(samples: tuple[Sample, ...], at: float, *, last: bool = False) -> bool | None:
    if last:
        known = [s.flag_paused for s in samples if s.t <= at and s.flag_paused is not None]
        return known[-1] if known else None
    known = [s.flag_paused for s in samples if s.t >= at and s.flag_paused is not None]
    return known[0] if known else None


def _disturbed(recording: Recording) -> tuple[float, float]:
    about = recording.about
    if about.disturbed_from is None or about.disturbed_until is None:
        return (float("inf"), float("-inf"))
    return (about.disturbed_from, about.disturbed_until)


_SCENARIOS: dict[str, Callable[[Recording, Summary], Iterator[Promise]]] = {
    "main": _main,
    "pressure": _pressure,
    "blind": _blind,
}
