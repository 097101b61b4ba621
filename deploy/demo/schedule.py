"""How many requests the clients send, and when: phases of steady rates with ramps between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PHASE = re.compile(r"(\d+(?:\.\d+)?)s@(\d+(?:\.\d+)?)")

RAMP_SECONDS = 2.0
"""A storm does not start within a millisecond; a short ramp also makes the picture honest."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A steady rate for a time. The first `RAMP_SECONDS` rise or fall from the rate before."""

    seconds: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Phases one after another; after the last one its rate goes on for ever."""

    phases: tuple[Phase, ...]

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read `15s@12,60s@90,30s@12`. Raises ValueError with the fix for anything else."""
        phases: list[Phase] = []
        for part in text.split(","):
            match = _PHASE.fullmatch(part.strip())
            if match is None or float(match[1]) < RAMP_SECONDS:
                msg = (
                    f"{part!r} is not a phase; write phases like 15s@12,60s@90 "
                    f"(seconds, at least {RAMP_SECONDS:g}, and requests per second)"
                )
                raise ValueError(msg)
            phases.append(Phase(float(match[1]), float(match[2])))
        return cls(tuple(phases))

    def __str__(self) -> str:
        return ",".join(f"{p.seconds:g}s@{p.per_second:g}" for p in self.phases)

    @property
    def seconds(self) -> float:
        """When the last phase has had its time."""
        return sum(p.seconds for p in self.phases)

    def rate(self, at: float) -> float:
        """Requests per second at that second."""
        before = self.phases[0].per_second
        for phase in self.phases:
            if at < phase.seconds:
                share = min(1.0, max(0.0, at) / RAMP_SECONDS)
                return before + (phase.per_second - before) * share
            at -= phase.seconds
            before = phase.per_second
        return before

    def due(self, at: float) -> float:
        """Requests that should have been sent by then: the integral of `rate`."""
        total = 0.0
        before = self.phases[0].per_second
        for phase in self.phases:
            spent = min(at, phase.seconds)
            if spent <= 0:
                return total
            total += _area(before, phase.per_second, spent)
            at -= phase.seconds
            before = phase.per_second
        return total + max(0.0, at) * before


def _area(before: float, after: float, seconds: float) -> float:
    ramp = min(seconds, RAMP_SECONDS)
    end = before + (after - before) * ramp / RAMP_SECONDS
    return (before + end) / 2 * ramp + after * (seconds - ramp)
