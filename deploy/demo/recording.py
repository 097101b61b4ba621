"""The state of one run, once a second: one JSON line per sample, read back for the picture.

Every group may be missing (`None`): a database that does not answer must leave a gap in the
recording, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self, TextIO

from pydantic import AwareDatetime, BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Jobs(_Part):
    """The queue that is guarded, counted by the demo's own connection."""

    waiting: int
    running: int
    done: int
    failed: int
    oldest_seconds: float
    repeated: int  # snapshots that were processed more than once

    @property
    def all(self) -> int:
        """Every job there is."""
        return self.waiting + self.running + self.done + self.failed


class Backfill(_Part):
    """The background queue, where the scenario has one."""

    waiting: int
    running: int
    done: int
    stopped: bool  # by its global concurrency

    @property
    def all(self) -> int:
        """Every job there is."""
        return self.waiting + self.running + self.done


class Connections(_Part):
    """Client connections by role of the session, from `pg_stat_activity`."""

    workers: int
    web: int  # the web application and the API
    strangers: int
    operator: int
    rest: int  # the demo's own, and whatever else there is
    max_connections: int
    reserved: int  # for superusers

    @property
    def total(self) -> int:
        """All client connections."""
        return self.workers + self.others

    @property
    def others(self) -> int:
        """All that are not workers."""
        return self.web + self.strangers + self.operator + self.rest

    @property
    def usable(self) -> int:
        """What ordinary roles can have at most."""
        return self.max_connections - self.reserved


class Workload(_Part):
    """The workers' Deployment and its pods."""

    replicas: int
    ready: int
    terminating: int


class Operator(_Part):
    """What the policy's status says."""

    summary: str = ""
    cause: str = ""
    budget: int | None = None
    formula: str = ""
    breaker: str = ""  # "Closed", "Open", "HalfOpen"
    breaker_why: str = ""
    step: str = ""  # "2 → 4"
    step_why: str = ""
    verdict: str = ""
    verdict_message: str = ""
    held: tuple[str, ...] = ()  # producers that the operator holds paused


class Clients(_Part):
    """What the clients sent and what they were answered, since the start."""

    seconds: float  # since the start by their own clock: counts and time belong together
    wanted: int  # by the schedule
    sent: int
    accepted: int  # 202
    refused: int  # 503 because ingestion is paused
    held_back: int  # not sent: the client honours an earlier Retry-After
    unsure: int  # no answer, or an error after which nobody knows if the job exists
    skipped: int  # not sent: too many requests in flight


class Sample(_Part):
    """One second of a run."""

    t: float  # seconds since the clients started; negative before
    at: AwareDatetime
    jobs: Jobs | None = None
    backfill: Backfill | None = None
    connections: Connections | None = None
    flag_paused: bool | None = None
    workload: Workload | None = None
    operator: Operator | None = None
    clients: Clients | None = None


class About(_Part):
    """First line of a recording: what was run."""

    scenario: str
    title: str
    per_replica: int
    headroom: int
    surge: int
    trip_waiting: int
    started: AwareDatetime
    backfill_jobs: int = 0  # enqueued in the background before the story
    disturbance: str = ""  # "another client takes 60 connections"
    relief: str = ""  # "the other client leaves"
    disturbed: tuple[tuple[float, float], ...] = ()  # from, until


class Recording(_Part):
    """A whole run."""

    about: About
    samples: tuple[Sample, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `Recorder` wrote. A line that was cut off by a kill is left out."""
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        # `about` is written again when the disturbance is over: the last one is right.
        abouts = [line for line in whole if line.startswith('{"scenario"')]
        samples = [line for line in whole if line.startswith('{"t"')]
        return cls(
            about=About.model_validate_json(abouts[-1]),
            samples=tuple(Sample.model_validate_json(line) for line in samples),
        )


class Recorder:
    """Appends to a recording; every line is flushed, so a kill loses at most the last one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._out: TextIO = path.open("w", encoding="utf-8")
        self._samples: list[Sample] = []

    def write(self, *parts: About | Sample) -> None:
        """Append parts in their order."""
        for part in parts:
            self._out.write(part.model_dump_json() + "\n")
            if isinstance(part, Sample):
                self._samples.append(part)
        self._out.flush()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What has been written so far."""
        return tuple(self._samples)

    def close(self) -> None:
        """Close the file."""
        self._out.close()


def write(path: Path, about: About, samples: Iterable[Sample]) -> None:
    """Write a whole recording at once (tests, synthetic pictures)."""
    recorder = Recorder(path)
    recorder.write(about, *samples)
    recorder.close()
