"""What the operator did, read off the recording: differences between one second and the next.

Taken from the effects (replicas, the flag's row) and not from the operator's words, so that the
picture and the promises below it are evidence and not an echo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from demo.recording import About, Sample


class Kind(StrEnum):
    """What happened."""

    UP = "up"
    DOWN = "down"
    REVERT = "revert"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"  # the background queue
    RELEASE = "release"
    TRIP = "trip"
    PROBE = "probe"
    CLOSE = "close"
    VERDICT = "verdict"
    DISTURBANCE = "disturbance"
    CALM = "calm"


TOGETHER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happened, with the numbers that belong to it."""

    t: float
    kind: Kind
    text: str
    why: str = ""


def acts(about: About, samples: Sequence[Sample]) -> tuple[Act, ...]:
    """Everything that happened, in order."""
    found = [
        *steps(samples),
        *_flag(samples),
        *_background(samples),
        *_breaker(samples),
        *_disturbance(about),
    ]
    return tuple(sorted(found, key=lambda act: act.t))


def grouped(happened: Sequence[Act]) -> tuple[Act, ...]:
    """Acts that belong together as one: the breaker opens and the pause follows at once."""
    groups: list[Act] = []
    for act in happened:
        last = groups[-1] if groups else None
        if last is not None and act.t - last.t <= TOGETHER_SECONDS and _related(last, act):
            # The breaker's act first, with its reason: the pause follows from it.
            first, then = (last, act) if last.kind in (Kind.TRIP, Kind.PROBE) else (act, last)
            text = f"{first.text}, {then.text}"
            groups[-1] = Act(last.t, then.kind, text, first.why or then.why)
        else:
            groups.append(act)
    return tuple(groups)


def _related(first: Act, second: Act) -> bool:
    return {first.kind, second.kind} in (
        {Kind.TRIP, Kind.PAUSE},
        {Kind.PROBE, Kind.RESUME},
        {Kind.PAUSE, Kind.STOP},
    )


def steps(samples: Sequence[Sample]) -> list[Act]:
    """Changes of replicas."""
    found: list[Act] = []
    last: int | None = None
    last_up = False
    for sample in samples:
        if sample.workload is None:
            continue
        now = sample.workload.replicas
        if last is not None and now != last:
            why = _step_why(samples, sample.t, f"{last} → {now}")
            if now > last:
                found.append(Act(sample.t, Kind.UP, f"steps up, {last} → {now}", why))
            elif last_up and (failed := _failed(samples, sample.t)) is not None:
                text = f"reverts the step, {last} → {now}"
                found.append(Act(sample.t, Kind.REVERT, text, why or failed))
            else:
                found.append(Act(sample.t, Kind.DOWN, f"steps down, {last} → {now}", why))
            last_up = now > last
        last = now
    return found


def _failed(samples: Sequence[Sample], t: float) -> str | None:
    """Why the step before that moment was judged as failed; None: it was not."""
    near = [s.operator for s in samples if t - 3 <= s.t <= t + 4 and s.operator is not None]
    return next((o.verdict_message for o in near if o.verdict == "Failed"), None)


def _step_why(samples: Sequence[Sample], t: float, step: str) -> str:
    """The reason may be in status one or two samples after the write that it explains."""
    for sample in samples:
        if t - 1 <= sample.t <= t + 4 and sample.operator and sample.operator.step == step:
            return sample.operator.step_why
    return ""


def _flag(samples: Sequence[Sample]) -> list[Act]:
    found: list[Act] = []
    last: bool | None = None
    for sample in samples:
        if sample.flag_paused is None:
            continue
        if last is not None and sample.flag_paused != last:
            waiting = f"{sample.jobs.waiting:,} jobs waiting" if sample.jobs else ""
            if sample.flag_paused:
                found.append(Act(sample.t, Kind.PAUSE, "pauses ingestion", waiting))
            else:
                found.append(Act(sample.t, Kind.RESUME, "resumes ingestion", waiting))
        last = sample.flag_paused
    return found


def _background(samples: Sequence[Sample]) -> list[Act]:
    found: list[Act] = []
    last: bool | None = None
    for sample in samples:
        if sample.backfill is None:
            continue
        now = sample.backfill.stopped
        if last is not None and now != last:
            left = f"{sample.backfill.waiting:,} backfill jobs left"
            kind, text = (
                (Kind.STOP, "stops the backfill's queue")
                if now
                else (Kind.RELEASE, "releases the backfill's queue")
            )
            found.append(Act(sample.t, kind, text, left))
        last = now
    return found


_BREAKER = {
    "Open": (Kind.TRIP, "opens the breaker"),
    "HalfOpen": (Kind.PROBE, "half-opens the breaker"),
    "Closed": (Kind.CLOSE, "closes the breaker"),
}


def _breaker(samples: Sequence[Sample]) -> list[Act]:
    found: list[Act] = []
    last = ""
    for sample in samples:
        if sample.operator is None or not sample.operator.breaker:
            continue
        now = sample.operator.breaker
        if last and now != last:
            kind, text = _BREAKER[now]
            found.append(Act(sample.t, kind, text, sample.operator.breaker_why))
        last = now
    return found


def _disturbance(about: About) -> list[Act]:
    found: list[Act] = []
    for start, end in about.disturbed:
        found += [
            Act(start, Kind.DISTURBANCE, about.disturbance),
            Act(end, Kind.CALM, about.relief),
        ]
    return found


def pauses(samples: Sequence[Sample]) -> tuple[tuple[float, float], ...]:
    """Spans in which the flag said paused. A gap in the readings does not end one."""
    return _spans(samples, lambda sample: sample.flag_paused)


def stops(samples: Sequence[Sample]) -> tuple[tuple[float, float], ...]:
    """Spans in which the background queue was stopped."""
    return _spans(samples, lambda sample: sample.backfill.stopped if sample.backfill else None)


def _spans(
    samples: Sequence[Sample], says: Callable[[Sample], bool | None]
) -> tuple[tuple[float, float], ...]:
    spans: list[tuple[float, float]] = []
    start: float | None = None
    last = 0.0
    for sample in samples:
        last = sample.t
        if says(sample) is True and start is None:
            start = sample.t
        elif says(sample) is False and start is not None:
            spans.append((start, sample.t))
            start = None
    if start is not None:
        spans.append((start, last))
    return tuple(spans)
