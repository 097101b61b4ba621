"""What a person sees while the story runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console

from demo.panel import Panel
from demo.recording import About, Sample

PLAIN_EVERY_SECONDS = 5.0


class Display(Protocol):
    """Where the story shows itself."""

    def say(self, text: str) -> None:
        """A line about the start, the end, or trouble."""

    def show(self, sample: Sample) -> None:
        """The newest sample."""


@contextlib.contextmanager
def display(about: About, seconds: float) -> Iterator[Display]:
    """The one that fits where the output goes."""
    console = Console()
    if console.is_terminal:
        panel = Panel(console, about, seconds)
        with panel:
            yield panel
    else:
        yield Plain(about)


class Plain:
    """For logs and pipes: the operator's sentence whenever it changes, numbers now and then."""

    def __init__(self, about: About) -> None:
        self._about = about
        self._said = ""
        self._next = float("-inf")

    def say(self, text: str) -> None:
        """A line of its own."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def show(self, sample: Sample) -> None:
        """Numbers every few seconds; a new sentence at once."""
        if sample.operator and sample.operator.summary != self._said:
            self._said = sample.operator.summary
            self.say(f"{clock(sample.t)}  operator: {self._said}")
        if sample.t >= self._next:
            self._next = sample.t + PLAIN_EVERY_SECONDS
            self.say(f"{clock(sample.t)}  {numbers(sample)}")


def numbers(sample: Sample) -> str:
    """One line with everything that is known; what is not known is said to be so."""
    parts: deque[str] = deque()
    if sample.jobs and sample.connections:
        parts.append(f"{sample.jobs.waiting} waiting, oldest {sample.jobs.oldest_seconds:.0f} s")
        parts.append(f"{sample.connections.total}/{sample.connections.max_connections} connections")
    else:
        parts.append("the database does not answer")
    if sample.workload:
        budget = sample.operator.budget if sample.operator else None
        of = f" of {budget}" if budget is not None else ""
        parts.append(f"{sample.workload.replicas}{of} replicas ({sample.workload.ready} ready)")
    if sample.flag_paused is not None:
        parts.append("ingestion PAUSED" if sample.flag_paused else "ingestion runs")
    return ", ".join(parts)


def clock(t: float) -> str:
    """Minutes and seconds."""
    sign, t = ("-", -t) if t <= -1 else ("", max(0.0, t))
    return f"{sign}{int(t) // 60}:{int(t) % 60:02d}"
