"""One table of one database: read at most once per interval, whoever asks and however often."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from starforge_backlog.api.queue import PostgresQueue
from starforge_backlog.clock import Clock
from starforge_backlog.connections.shared_answer import SharedAnswer
from starforge_backlog.databases.faults import DatabaseFault, NoAnswer, NoTurn
from starforge_backlog.queues.postgres import statements
from starforge_backlog.queues.postgres import strange as strange_words
from starforge_backlog.queues.postgres.activity import Counters, parse_counters
from starforge_backlog.queues.postgres.catalog import JobTable, read_catalog
from starforge_backlog.queues.postgres.count import Caps, Inspection, read_depths
from starforge_backlog.queues.postgres.depth import Depths, Strange
from starforge_backlog.queues.postgres.ended import Ended, parse_ended
from starforge_backlog.queues.postgres.fetches import Fetches, Metered
from starforge_backlog.queues.postgres.gate import Access, Tier, TimeoutBreaker, find_access
from starforge_backlog.queues.postgres.history import History
from starforge_backlog.queues.postgres.problem import Problem
from starforge_backlog.queues.postgres.rates import learn_updates_per_job
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.words import recognised, unknown_words
from starforge_backlog.snapshot import Why

Timer = Callable[[], float]
"""Seconds that only grow, e.g. `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class TableReading:
    """What one read of the table brought. `problem` and `fault` say why something is missing."""

    at: datetime
    table: JobTable | None = None
    problem: Problem | None = None
    fault: DatabaseFault | None = None
    tier: Tier | None = None
    access: Access | None = None
    depths: Depths | None = None
    counters: Counters | None = None
    ended: Ended | None = None
    strange: tuple[Strange, ...] = ()
    unsought: DatabaseFault | None = None  # why status words could not be searched for


class TableObserver:
    """Reads one table and remembers what rates need."""

    def __init__(
        self,
        database: Fetches,
        spec: PostgresQueue,
        *,
        clock: Clock,
        timer: Timer,
        settings: ObserverSettings,
    ) -> None:
        self._database = Metered(database, timer)
        self._spec = spec
        self._clock = clock
        self._timer = timer
        self._settings = settings
        self._breaker = TimeoutBreaker(settings)
        self._shared = SharedAnswer(self._read, timedelta(0), timer=timer)
        self._known: Inspection | None = None
        self._caps = Caps(settings)
        self._observed: set[str] = set()  # recognised words that rows were seen to hold
        self.updates_per_job = 2.0
        self.history = History(
            longest=max(settings.outcome_window, 2 * settings.longest_window).total_seconds()
        )

    async def observe(self, max_age: timedelta) -> TableReading:
        """The last reading if it is young enough or duty forbids another, else a new one.

        Never raises DatabaseFault. Who comes while a reading is under way gets that reading. It
        goes on when the one who caused it gives up: others wait for it, and to break off a
        statement would cost the connection.
        """
        return await self._shared.get(max_age)

    async def _read(self) -> TableReading:
        at = self._clock()
        try:
            known = await self._inspect()
        except DatabaseFault as caught:
            return TableReading(at, fault=caught)
        if isinstance(known, Problem):
            return TableReading(at, problem=known)
        table, access = known.table, known.access
        started, spent = self._timer(), self._database.seconds
        tier = access.tier(self._breaker.lowered(started))
        depths: Depths | None = None
        ended: Ended | None = None
        counters: Counters | None = None
        fault: DatabaseFault | None = None
        strange: tuple[Strange, ...] = ()
        try:
            depths = await read_depths(self._database, known, tier, self._caps, self._settings)
            if access.words and tier in (Tier.BY_TYPE, Tier.HEAD):
                strange = await strange_words.by_index(self._database, table, self._settings)
            elif depths is not None:
                strange = (*depths.strange, *known.strange)
            if access.ended_lately and tier is not Tier.STATISTICS:
                ended = await self._read_ended(table)
        except DatabaseFault as caught:
            fault = caught
        if depths is not None and depths.nothing_known:
            self._notice(depths.strange)
            return TableReading(at, problem=unknown_words({part.word for part in depths.strange}))
        if fault is None or fault.sqlstate:  # a server that does not answer is not asked again
            try:
                # After the counts, because the server publishes the counters with a delay.
                counters = await self._read_counters(table)
            except DatabaseFault as caught:
                fault = fault or caught
        self._pace(started, self._database.seconds - spent, fault)
        if counters is not None:
            self._remember(counters, depths)
        self._notice(strange)
        return TableReading(
            at,
            table=table,
            fault=fault,
            tier=tier,
            access=access,
            depths=depths,
            counters=counters,
            ended=ended,
            strange=strange,
            unsought=known.unsought,
        )

    def _notice(self, strange: Iterable[Strange]) -> None:
        """A recognised word that nobody had seen yet is no strange word: read again, with it."""
        new = {part.word for part in strange if recognised(part.word)} - self._observed
        if new:
            self._observed |= new
            self._known = None

    def _pace(self, started: float, seconds: float, fault: DatabaseFault | None) -> None:
        """When the next reading may be, and in which tier, after one that began at `started` and
        cost the server so many `seconds`."""
        if isinstance(fault, NoTurn):
            return
        if fault is not None:
            self._known = None  # whatever was known may have caused it: read again
            if fault.why is not Why.TIMEOUT or isinstance(fault, NoAnswer):
                return  # a server that is away is not burdened by us; `Database` paces that
            self._breaker.timed_out(self._timer())
        pause = seconds * self._settings.duty
        longest = self._settings.longest_pause.total_seconds()
        self._shared.rest(min(pause, longest), since=started)

    async def _inspect(self) -> Inspection | Problem:
        """Catalog and plans, every five minutes or when the table is another one. Raises
        DatabaseFault."""
        now = self._timer()
        if self._known is not None and now < self._known.until:
            return self._known
        self._known = None
        table = await read_catalog(self._database, self._spec, self._observed)
        if isinstance(table, Problem):
            return table
        counters = await self._read_counters(table)
        access = await find_access(
            self._database, table, pages=counters.pages, settings=self._settings
        )
        strange: tuple[Strange, ...] = ()
        unsought: DatabaseFault | None = None
        if not access.words and access.tiers[0] in (Tier.BY_TYPE, Tier.HEAD):
            try:
                strange = await strange_words.by_sample(
                    self._database, table, counters.pages, counters.live, self._settings
                )
            except DatabaseFault as caught:
                if caught.why is not Why.TIMEOUT or isinstance(caught, NoAnswer | NoTurn):
                    raise
                unsought = caught  # a slow disk must not cost the counts that an index gives
                strange = strange_words.by_statistics(table, counters.live)
        self._known = Inspection(
            table,
            access,
            counters,
            since=now,
            until=now + self._settings.recheck_after.total_seconds(),
            strange=strange,
            unsought=unsought,
        )
        return self._known

    def _remember(self, counters: Counters, depths: Depths | None) -> None:
        known = self._known
        if known is not None and known.outdated(counters, self._timer(), self._settings):
            self._known = None
        self.history.add(counters, depths)
        self.updates_per_job = learn_updates_per_job(
            self.history, self._settings.longest_window.total_seconds() / 2, self.updates_per_job
        )

    async def _read_counters(self, table: JobTable) -> Counters:
        query, params = statements.counters(table)
        rows = await self._database.fetch(query, params)
        if not rows:
            raise DatabaseFault(
                Why.TABLE_NOT_FOUND,
                f"Table {self._spec.table} was dropped or replaced; the next pass finds the new"
                " one.",
            )
        return parse_counters(rows[0])

    async def _read_ended(self, table: JobTable) -> Ended | None:
        settings = self._settings
        statement = statements.ended_lately(
            table,
            window=settings.outcome_window,
            slice_seconds=settings.slice_seconds,
            limit=settings.ended_rows,
        )
        if statement is None:
            return None
        return parse_ended(
            await self._database.fetch(statement),
            table.words,
            window=settings.outcome_window.total_seconds(),
            slice_seconds=settings.slice_seconds,
            limit=settings.ended_rows,
        )
