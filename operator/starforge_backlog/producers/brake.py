"""Stopping a BullMQ queue by its global concurrency: compare-and-set with ownership (P4).

The scripts beside this file hold the guards. Jobs in progress finish, lists stay as they are,
delayed jobs are still moved to the line; no worker takes one. Works with BullMQ 5.9 and later.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starforge_backlog.api.bullmq import BullmqQueue
from starforge_backlog.api.server_place import ServerPlace
from starforge_backlog.clock import Clock
from starforge_backlog.decide.results import (
    Paused,
    PauseOutcome,
    Resumed,
    ResumeOutcome,
)
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.scripts import Script, load_script
from starforge_backlog.snapshot import FlagValue, Known, ProducerReading, Reading, Unknown, Why

# The first version whose workers read the global concurrency.
OLDEST = (5, 9)
_LIBRARY = re.compile(r"^bullmq[^:]*:(\d+)\.(\d+)")
_MOST_WHY = 300  # characters of the reason in the mark: people read it with HGET

_READ = (
    *("meta", "id", "wait", "paused", "active", "prioritized", "marker", "completed", "failed"),
    *("events", "meta-paused"),
)
_PAUSE = ("meta", "id", "wait", "paused")
_RESUME = ("meta", "wait", "prioritized", "marker")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the queue says of itself."""

    exists: bool
    paused: bool  # by BullMQ's own pause
    brake: bool  # the concurrency is the text that only our brake writes
    concurrency: str | None
    library: str | None  # the last writer's version: a hint, workers do not write it
    token: str | None
    previous: str | None  # the concurrency before our pause, as the mark has it
    mark: str | None
    old: int  # things that only version 4 leaves
    new: int  # things that only later versions leave

    @property
    def braked(self) -> bool:
        """As BullMQ reads it; what is no number stops nobody."""
        try:
            return self.concurrency is not None and float(self.concurrency) <= 0
        except ValueError:
            return False

    @property
    def too_old(self) -> bool:
        """Whether workers would not obey. The form of jobs outranks what was written once."""
        if self.old:
            return True
        known = _LIBRARY.match(self.library or "")
        version = (int(known[1]), int(known[2])) if known else OLDEST
        # Structure proves 5.0 but not 5.9, so the version counts among those; 4 is known by it
        # only where no job shows more.
        return version < OLDEST and not (self.new and version[0] < OLDEST[0])


class BrakeProducer:
    """A `Pausable`: one BullMQ queue."""

    def __init__(self, server: RedisServer, queue: BullmqQueue, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._base = f"{queue.prefix}:{queue.name}:"
        self._place = f"BullMQ queue {queue.prefix}:{queue.name}"

    async def read(self) -> Reading[ProducerReading]:
        """Whether it hands out jobs. A queue that does not exist is not an empty one."""
        at = self._clock()
        seen = await self._read_queue()
        if isinstance(seen, Unknown):
            return seen
        if not seen.exists:
            return Unknown(Why.QUEUE_NOT_FOUND, self._missing(), at)
        if seen.too_old:
            return Unknown(Why.BAD_SHAPE, self._too_old(), at)
        if not (seen.braked or seen.paused):
            # A person who lifts a brake of ours, or sets a limit over it, leaves the mark; a
            # failover that lost it took both.
            version = f"{seen.concurrency or ''}"
            running = ProducerReading(
                FlagValue.RUNNING,
                seen.token,
                version,
                leaves_token=True,
                where=self._server.place,
            )
            return Known(running, at)
        token = seen.token if seen.brake else None
        version = seen.mark or "" if token else f"{seen.concurrency or ''} {seen.paused}"
        previous = json.dumps(seen.previous) if token and seen.previous is not None else None
        paused = ProducerReading(
            FlagValue.PAUSED, token, version, where=self._server.place, previous=previous
        )
        return Known(paused, at)

    async def where(self) -> ServerPlace | Unknown:
        """See `Pausable.where`."""
        return self._server.place

    async def pause(
        self, *, owner: str, token: str, at: datetime, why: str = "", plan: str | None = None
    ) -> Paused | Unknown:
        """Stop it unless it is stopped already. `owner`, `at` and `why` are for people who read
        `meta`."""
        seen = await self._read_queue()
        if isinstance(seen, Unknown):
            if seen.why is Why.NOT_BULLMQ:
                return Paused(PauseOutcome.BAD_SHAPE, message=seen.message)
            return seen
        if seen.exists and seen.too_old:
            return Paused(PauseOutcome.BAD_SHAPE, message=self._too_old())
        said = [token, owner, at.isoformat(timespec="seconds"), why[:_MOST_WHY]]
        answer = await self._run("pause", _PAUSE, said)
        if isinstance(answer, Unknown):
            return answer
        word, previous, version = answer
        match outcome := PauseOutcome(word):
            case PauseOutcome.ROW_MISSING:
                return Paused(outcome, message=self._missing())
            case PauseOutcome.BAD_SHAPE:
                return Paused(outcome, message=self._wrong(previous, version))
            case PauseOutcome.ALREADY_PAUSED:
                message = (
                    f"The {self._place} was paused by another client; the operator does not change"
                    " it."
                )
                return Paused(outcome, message=message)
            case _:
                return Paused(outcome, version, json.dumps(previous) if previous else None)

    async def resume(self, *, token: str, version: str, previous: str | None) -> Resumed | Unknown:
        """Restore the concurrency before our brake; the mark beside it knows what that was."""
        answer = await self._run("resume", _RESUME, [token, version])
        if isinstance(answer, Unknown):
            return answer
        word, *rest = answer
        match outcome := ResumeOutcome(word):
            case ResumeOutcome.ROW_MISSING:
                return Resumed(outcome, self._missing())
            case ResumeOutcome.BAD_SHAPE:
                return Resumed(outcome, self._wrong(*rest))
            case ResumeOutcome.NOT_PAUSED:
                found = f"its concurrency is {rest[0]}" if rest[0] else "it has no limit"
                return Resumed(
                    outcome,
                    f"The {self._place} is no longer paused ({found}); another client resumed it.",
                )
            case ResumeOutcome.NOT_OURS:
                return Resumed(outcome, f"The {self._place} is paused by another client.")
            case ResumeOutcome.CHANGED_SINCE:
                return Resumed(
                    outcome,
                    f"Another client overwrote the operator's mark in the {self._place}, so the"
                    f" pause may belong to that client; when it is time, run HDEL {self._base}meta"
                    " concurrency and add a job.",
                )
            case _:
                return Resumed(outcome)

    async def _read_queue(self) -> _Seen | Unknown:
        answer = await self._run("read", _READ, [self._base])
        if isinstance(answer, Unknown):
            return answer
        found: dict[str, Any] = json.loads(answer)
        if "wrong" in found:
            message = self._wrong(found["wrong"], found["is"])
            return Unknown(Why.NOT_BULLMQ, message, self._clock())
        if found["bull"]:
            return Unknown(Why.NOT_BULLMQ, self._of_bull(), self._clock())
        return _Seen(
            exists=found["exists"],
            paused=found["paused"],
            brake=found["brake"],
            concurrency=found.get("concurrency"),
            library=found.get("library"),
            token=found.get("token"),
            previous=found.get("previous"),
            mark=found.get("mark"),
            old=found["old"],
            new=found["new"],
        )

    async def _run(self, what: str, keys: tuple[str, ...], args: list[str]) -> Any:
        script: Script = load_script(__package__, f"brake_{what}.lua", bounded=what == "read")
        try:
            return await self._server.run(script, [self._base + key for key in keys], args)
        except RedisFault as fault:
            return Unknown(fault.why, f"{fault.message} (The {self._place}.)", self._clock())

    def _missing(self) -> str:
        return (
            f"There is no {self._place} at {self._server.where}, so nothing is paused and nothing"
            " can be; correct prefix, name or URL."
        )

    def _wrong(self, key: str, found: str) -> str:
        return (
            f"Key {key} is of type {found}, so {self._place} is none; nothing was paused. Correct"
            " prefix and name, or remove what else writes there."
        )

    def _of_bull(self) -> str:
        return (
            f"{self._base}* has the keys of Bull 3 or 4, BullMQ's predecessor, which has no global"
            " concurrency: its workers would continue, so nothing was paused. Move the application"
            " to BullMQ 5 or later, or pause what enqueues these jobs instead."
        )

    def _too_old(self) -> str:
        return (
            f"The {self._place} is worked on by a BullMQ older than {OLDEST[0]}.{OLDEST[1]}, which"
            " has no global concurrency: its workers would continue. Upgrade them, or pause what"
            " enqueues these jobs instead."
        )
