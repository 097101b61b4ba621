"""One BullMQ queue: read at most once per moment, whoever asks and however often."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.clock import Clock
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.queues.bullmq import missing
from starforge_backlog.queues.bullmq.events import EventMark, Slice, parse_slice
from starforge_backlog.queues.bullmq.history import History, Sample
from starforge_backlog.queues.bullmq.keys import Keys
from starforge_backlog.queues.bullmq.missing import Unnamed
from starforge_backlog.queues.bullmq.oldest import FirstSeen
from starforge_backlog.queues.bullmq.queue_state import NoNumber, QueueState, WrongType, parse_state
from starforge_backlog.queues.bullmq.reading import Seen
from starforge_backlog.queues.bullmq.server import AskServer, ServerFacts, meta_lost
from starforge_backlog.queues.bullmq.settings import ObserverSettings
from starforge_backlog.queues.bullmq.types import (
    Ended,
    Mix,
    Part,
    blocks,
    parse_ended,
    parse_sample,
)
from starforge_backlog.queues.bullmq.versions import Fleet, updated_fleet
from starforge_backlog.queues.bullmq.workers import ClientList, Clients
from starforge_backlog.redis.connection import RedisServer
from starforge_backlog.redis.faults import RedisFault
from starforge_backlog.redis.scripts import load_script
from starforge_backlog.snapshot import Unknown, Why

Timer = Callable[[], float]
"""Seconds that only grow, e.g. `time.monotonic`."""

_PACKAGE = "starforge_backlog.queues.bullmq"
_DELAYED = "delayed"


class OfServer:
    """What the queues of a server have in common."""

    def __init__(self, server: RedisServer, timer: Timer, settings: ObserverSettings) -> None:
        self.clients = ClientList(
            server,
            timer=timer,
            every=settings.clients_every,
            duty=settings.duty,
            longest_pause=settings.longest_pause,
            most=settings.clients_most,
        )
        self.facts = AskServer(server, timer=timer, every=settings.server_every)
        self.similar = missing.SimilarQueues(
            server, timer=timer, most_keys=settings.similar_keys, every=settings.similar_every
        )


@dataclass(slots=True)
class _Mixed:
    """The last sample of names, and when the next is due (timer's seconds)."""

    mix: Mix
    finely: bool  # taken finely enough for types that are named
    until: float


class QueueObserver:
    """Reads one queue and remembers what rates need."""

    def __init__(
        self,
        server: RedisServer,
        keys: Keys,
        shared: OfServer,
        *,
        clock: Clock,
        timer: Timer,
        settings: ObserverSettings,
    ) -> None:
        self._server = server
        self._keys = keys
        self._shared = shared
        self._clock = clock
        self._timer = timer
        self._settings = settings
        self._chance = random.Random()  # noqa: S311 - which jobs are read is no secret
        self._reading = SharedAnswer(self._read_or_fault, timedelta(0), timer=timer)
        self._fleet = Fleet()
        self._had_meta = False
        self._mark = EventMark()
        self._events_at = float("-inf")  # timer's seconds: when events may be read again
        self._too_heavy: Slice | None = None  # instead of reading them until then
        self._mixed: _Mixed | None = None
        self._first_seen = FirstSeen()
        self._named_at = float("-inf")  # timer's seconds: when somebody named types last
        longest = max(settings.outcome_window, 2 * settings.longest_window)
        self.history = History(longest=longest.total_seconds())

    async def observe(self, max_age: timedelta, *, types: bool = False) -> Seen | Unknown | Unnamed:
        """The last reading if it is young enough, else a new one. Never raises RedisFault.

        `types`: a policy reads single types of jobs, so the sample is a finer one.
        Who comes while a reading is under way gets that reading. It goes on when the one who
        caused it gives up: others wait for it.
        """
        if types:
            self._named_at = self._timer()
        return await self._reading.get(max_age)

    async def _read_or_fault(self) -> Seen | Unknown | Unnamed:
        try:
            return await self._read()
        except RedisFault as fault:
            return missing.refused(fault, self._clock())

    async def _read(self) -> Seen | Unknown | Unnamed:
        """Raises RedisFault when not even the counts could be read."""
        state = await self._state()
        if isinstance(state, WrongType):
            return missing.wrong_type(state, self._clock())
        if isinstance(state, NoNumber):
            return missing.no_number(state, self._clock())
        facts = await self._shared.facts.read(self._keys)
        if (lost := facts.lost(self._server.where, state.at)) is not None:
            return lost
        if self._meta_is_lost(state):
            return meta_lost(self._keys, state.at)
        if state.bull3:
            return missing.bull3(self._keys, state.at)
        if not state.exists:
            return await self._not_found(facts, state.at)
        if (stale := await self._stale_replica(state.at)) is not None:
            return stale
        self._fleet = updated_fleet(state, self._fleet)
        seen = Seen(
            state=state,
            fleet=self._fleet,
            where=self._server.where,
            user=self._server.key.user,
            facts=facts,
        )
        try:
            await self._read_more(seen)
        except RedisFault as fault:
            seen.fault = fault.unknown(state.at)
        seen.undated = self._first_seen.of(state)
        self._remember(state, seen.events)
        return seen

    async def _state(self) -> QueueState | WrongType | NoNumber:
        settings, last = self._settings, self.history.last
        answer = await self._server.run(
            load_script(_PACKAGE, "queue_state.lua", bounded=True),
            self._keys.fixed,
            [
                self._keys.base,
                settings.tail,
                settings.priorities,
                settings.active,
                0 if last is None else round(last.at * 1000),
                round(settings.outcome_window.total_seconds() * 1000),
                settings.groups,
            ],
        )
        return parse_state(str(answer))

    async def _read_more(self, seen: Seen) -> None:
        """What the counts do without. Raises RedisFault; what was read until then is kept."""
        state = seen.state
        seen.events = await self._events(state)
        if state.completed_lately or state.failed_lately:
            seen.ended = await self._ended(state)
        seen.mix = await self._mix(state)
        seen.clients = await self._shared.clients.read(self._keys, seen.facts.clients)
        seen.live = seen.clients.of(self._keys)

    async def _events(self, state: QueueState) -> Slice | None:
        last, settings = self.history.last, self._settings
        if not state.events:
            return None
        if self._timer() < self._events_at:
            return self._too_heavy
        answer = await self._server.run(
            load_script(_PACKAGE, "events.lua"),
            [self._keys.of("events")],
            [
                settings.events,
                self._mark.newest,
                self._fleet.major or 5,
                self._keys.base,
                settings.events_small,
                settings.events_average,
                settings.events_few,
                settings.events_budget,
                settings.events_nodes,
            ],
        )
        step = None if last is None else state.now / 1000 - last.at
        found, self._mark = parse_slice(str(answer), self._mark, step)
        if found.over:
            self._events_at = self._timer() + settings.events_rest.total_seconds()
            self._too_heavy = Slice(0.0, False, 0, heavy=2 * settings.events_budget)
        return found

    async def _ended(self, state: QueueState) -> Ended:
        settings = self._settings
        since = state.now - round(settings.outcome_window.total_seconds() * 1000)
        answer = await self._server.run(
            load_script(_PACKAGE, "ended.lua", bounded=True),
            [self._keys.of("completed"), self._keys.of("failed")],
            [self._keys.base, since, settings.ended],
        )
        return parse_ended(
            answer, now=state.now, window=settings.outcome_window, most=settings.ended
        )

    async def _mix(self, state: QueueState) -> Mix:
        """All waiting jobs of a short queue, each time; a sample of a long one, now and then."""
        settings, now, total = self._settings, self._timer(), state.waiting
        small = total <= settings.sample
        finely = now - self._named_at <= settings.named_for.total_seconds()
        kept = self._mixed
        fresh = kept is not None and now < kept.until and (kept.finely or not finely)
        if kept is not None and fresh and not small and not kept.mix.exact:
            return kept.mix
        parts = [
            Part("wait", state.wait + state.markers),
            Part("paused", state.paused + state.markers),
            Part("prioritized", state.prioritized),
            Part(_DELAYED, state.due),
        ]
        if small:
            where = {part.suffix: [0] for part in parts if part.length}
            length = settings.sample + 2 * state.markers
        else:
            length = settings.named_block if finely else settings.block
            sample = settings.named_sample if finely else settings.sample
            where = blocks(parts, sample=sample, block=length, chance=self._chance)
        answers = []
        for suffix, starts in where.items():
            found = await self._sample(suffix, length, starts)
            answers += [(suffix, flat) for flat in found]
        places = sum(len(starts) for starts in where.values())
        mix = parse_sample(answers, now=state.now, exact=small, delayed=_DELAYED, places=places)
        self._mixed = _Mixed(mix, finely, now + settings.sample_every.total_seconds())
        return mix

    async def _sample(self, suffix: str, length: int, starts: list[int]) -> Sequence[list[str]]:
        many = max(1, self._settings.jobs_at_once // length)
        args: list[Sequence[str | int]] = [
            [self._keys.base, length, *starts[at : at + many]] for at in range(0, len(starts), many)
        ]
        script = load_script(_PACKAGE, "sample.lua", bounded=True)
        return await self._server.run_all(script, [self._keys.of(suffix)], args)

    def _meta_is_lost(self, state: QueueState) -> bool:
        """Gone since an earlier read, while the queue went on. Not every version wrote it at once,
        so a queue that was never seen with it is believed."""
        if state.meta:
            self._had_meta = True
        elif not state.ids:
            self._had_meta = False  # obliterated, or another queue by now
        return self._had_meta and not state.meta

    async def _not_found(self, facts: ServerFacts, at: datetime) -> Unnamed:
        try:
            clients = await self._shared.clients.read(self._keys, facts.clients)
        except RedisFault:
            clients = Clients()  # the sentence does without
        similar = await self._shared.similar.near(self._keys, clients)
        return missing.not_found(self._keys, similar, at)

    async def _stale_replica(self, at: datetime) -> Unknown | None:
        """A replica that has lost its master goes on answering, with the past (P2)."""
        if not (await self._server.greeting([self._keys.of("id")])).replica:
            return None
        (role,) = await self._server.pipeline([("ROLE",)], keys=[self._keys.of("id")])
        if isinstance(role, RedisFault) or role[0] != "slave" or role[3] == "connected":
            return None  # not allowed to ask: taken for a replica in order, as its clients do
        return Unknown(
            Why.STALE,
            f"The replica at {self._server.where} has lost its master and returns stale data; point"
            " the URL in the Secret at the master, or use redis+sentinel://.",
            at,
        )

    def _remember(self, state: QueueState, events: Slice | None) -> None:
        metrics = (state.metrics_completed, state.metrics_failed)
        counted = any(count is not None for count in metrics)
        self.history.add(
            Sample(
                at=state.now / 1000,
                ids=state.ids,
                live=state.live,
                failed=state.failed,
                failed_since=state.failed_since,
                metrics=(metrics[0] or 0, metrics[1] or 0) if counted else None,
                slice=events,
            )
        )
