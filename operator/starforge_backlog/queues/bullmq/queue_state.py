"""The state of a queue's keys at one moment (queue_state.lua). Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import starmap
from typing import Any

from starforge_backlog.api.shown import shortened

# ms since 1970: July 2019, when BullMQ was published. Seconds since 1970 are far below.
_EARLIEST = 1_562_000_000_000
# ms that a producer's or worker's clock may be ahead of Redis' clock.
_CLOCKS_DIFFER = 300_000


@dataclass(frozen=True, slots=True)
class WrongType:
    """A key that BullMQ would not have made like this."""

    key: str
    found: str
    expected: str


@dataclass(frozen=True, slots=True)
class NoNumber:
    """A key that BullMQ counts with, and that another client set to something else."""

    key: str


@dataclass(frozen=True, slots=True)
class Job:
    """A waiting job that may be the oldest. Times are ms since 1970, 0: none."""

    id: str
    place: str  # "wait", "paused", with "-back" for the end that FIFO jobs come in by, …
    name: str
    created: int
    delay: int  # ms that were asked for when it was added
    attempts: int  # finished ones
    started: int = 0  # times that a worker took it; BullMQ 4 does not count them
    processed: int = 0  # when a worker took it last
    stalls: int = 0
    due_at: int = 0  # of a delayed job
    odd: bool = False  # one of the numbers was none, or no time at which a job can be added

    def at_times_before(self, now: int) -> bool:
        """Whether it was added, and taken, at times that there can be: producers that write
        seconds for milliseconds made jobs of 1970, and a breaker tripped over their age."""
        given = (time for time in (self.created, self.processed) if time)
        return all(_EARLIEST <= time <= now + _CLOCKS_DIFFER for time in given)

    @property
    def due(self) -> int | None:
        """Since when it waits for a worker; None where nothing of that is written down.

        After a retry it is the last start, which is no later. A job that was put back by hand
        after it had ended has neither that nor a new time of creation.
        """
        if self.due_at:
            return self.due_at
        if self.processed:
            return self.processed
        if self.attempts or self.started:
            return None
        return self.created + self.delay if self.created else None

    def since(self, now: int) -> int | None:
        """The same; None also where its delay is not over though it waits: a person promoted it,
        and BullMQ does not write down when."""
        due = self.due
        return None if due is not None and due > now and self.delay else due


@dataclass(frozen=True, slots=True)
class QueueState:
    """Counts of one moment. BullMQ 4's signs for idle workers are not counted as jobs."""

    now: int  # ms since 1970, by Redis' clock
    exists: bool  # any sign of a queue of BullMQ
    bull3: bool  # the keys of its predecessor
    ids: int
    wait: int
    paused: int
    active: int
    delayed: int
    due: int  # of the delayed ones, those whose time has come but whom no worker promoted yet
    prioritized: int
    children: int  # parents that wait for their children
    completed: int
    failed: int
    completed_lately: int  # in the outcome window
    failed_lately: int
    failed_since: int  # since the sample before
    first_completed: int | None  # when the oldest one that is kept ended, ms
    metrics_completed: int | None
    metrics_failed: int | None
    meta_paused: bool
    concurrency: int | None
    token: str  # of the operator's own brake, where that is what stands
    version: str
    marker: bool
    markers: int
    events: bool
    jobs: tuple[Job, ...]
    all_priorities: bool
    meta: bool  # every version of the library writes this key
    limit_max: int | None  # of the queue's own rate limit: jobs, per …
    limit_duration: int | None  # … ms
    groups: int  # of BullMQ Pro; those in which jobs wait or may wait
    groups_read: int
    grouped: int  # jobs in the lists of the groups that were read
    long_ids: bool  # ids are too long to be read in full
    active_read: int
    orphaned: int
    stalled: int
    old_style: int  # jobs with a field that only BullMQ 4 writes
    new_style: int  # … that only 5 and later write

    @property
    def at(self) -> datetime:
        """When it was read."""
        return datetime.fromtimestamp(self.now / 1000, UTC)

    @property
    def braked(self) -> bool:
        """Whether the global concurrency hands no job out."""
        return self.concurrency is not None and self.concurrency <= 0

    @property
    def waiting(self) -> int:
        """Jobs that a worker could take now."""
        return self.wait + self.paused + self.prioritized + self.due

    @property
    def limit(self) -> float | None:
        """Jobs per second that the queue's own rate limit lets through; None: it has none."""
        if not self.limit_max or not self.limit_duration or self.limit_max < 0:
            return None
        return 1000 * self.limit_max / self.limit_duration if self.limit_duration > 0 else None

    @property
    def live(self) -> int:
        """Jobs that have not ended."""
        held = self.wait + self.paused + self.prioritized + self.active + self.grouped
        return held + self.delayed + self.children


def _is_bull(said: dict[str, Any]) -> bool:
    """Whether these are keys of Bull, which writes no events, and `meta` only beside a key of its
    own, while it is paused."""
    of_bullmq = said["events"] or (said["meta"] and not said["bull_paused"])
    return bool(said["has_id"] and not of_bullmq)


def parse_state(answer: str) -> QueueState | WrongType | NoNumber:
    """From queue_state.lua."""
    said: dict[str, Any] = json.loads(answer)
    if "wrong" in said:
        return WrongType(said["wrong"], said["is"], said["should"])
    if "no_number" in said:
        return NoNumber(said["no_number"])
    jobs = tuple(starmap(_job(int(said["now"])), said["jobs"]))  # an empty Lua table is an empty {}
    # The script sees a sign wherever it reads; it is in the list that workers block on.
    markers = said["markers"]
    in_wait = min(markers, said["wait"])
    any_job = any(said[place] for place in _PLACES)
    return QueueState(
        now=int(said["now"]),
        exists=bool(
            said["meta"] or said["events"] or said["groups"] or (any_job and not said["has_id"])
        ),
        bull3=_is_bull(said),
        ids=int(said["id"]),
        wait=said["wait"] - in_wait,
        paused=said["paused"] - min(markers - in_wait, said["paused"]),
        active=said["active"],
        delayed=said["delayed"],
        due=said["due"],
        prioritized=said["prioritized"],
        children=said["children"],
        completed=said["completed"],
        failed=said["failed"],
        completed_lately=said["completed_lately"],
        failed_lately=said["failed_lately"],
        failed_since=said["failed_since"],
        first_completed=_milliseconds(said.get("first_completed")),
        metrics_completed=_number(said["metrics_completed"]),
        metrics_failed=_number(said["metrics_failed"]),
        meta_paused=bool(said["meta_paused"]),
        meta=said["meta"],
        limit_max=_number(said.get("limit_max")),
        limit_duration=_number(said.get("limit_duration")),
        groups=said["groups"],
        groups_read=said["groups_read"],
        grouped=said["grouped"],
        long_ids=said["long_ids"],
        concurrency=_number(said["concurrency"]),
        token=said["token"] or "",
        version=said["version"] or "",
        marker=said["marker"],
        markers=markers,
        events=said["events"],
        jobs=jobs,
        all_priorities=said["all_priorities"],
        active_read=said["active_read"],
        orphaned=said["orphaned"],
        stalled=said["stalled_active"] + sum(1 for job in jobs if job.stalls),
        old_style=said["old_style"],
        new_style=said["new_style"],
    )


def _job(now: int) -> Callable[..., Job]:
    def made(id_: str, place: str, name: str, *numbers: Any) -> Job:
        job = Job(id_, place, shortened(name), *numbers)
        return job if job.at_times_before(now) else replace(job, odd=True)

    return made


_PLACES = ("wait", "paused", "active", "delayed", "prioritized", "completed", "failed", "children")


def _number(text: str | bool | None) -> int | None:
    """A field of a hash; Lua says False where there is none."""
    if not isinstance(text, str):
        return None
    try:
        return math.ceil(float(text))
    except (ValueError, OverflowError):
        return None


def _milliseconds(score: str | None) -> int | None:
    return None if score is None else int(float(score))
