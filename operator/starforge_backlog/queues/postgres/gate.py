"""How a table may be read without hurting it: chosen by the planner's cost, not by hope.

The same statement costs 13 ms with a fitting index and 31 s without, and
one EXPLAIN (under 2 ms) distinguishes them. Cost alone is not enough: with statistics from before a
storm an unfit plan seems cheap, so a plan must also be *bounded*: no sort, no row fetched
only to be thrown away. And a fit one seems expensive, or is not even considered: so the planner is
asked for its way by index (`databases/index_limits.sql`), and the statement later runs in that way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from starforge_backlog.queues.postgres import statements
from starforge_backlog.queues.postgres.catalog import JobTable
from starforge_backlog.queues.postgres.depth import Head
from starforge_backlog.queues.postgres.fetches import Fetches
from starforge_backlog.queues.postgres.plan import Plan, parse_plan
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.words import Group

# The planner has no statistics for the rounds of a recursive query and guesses 31 here; each is a
# type of jobs, and a queue has not more than about this many.
_TYPES_USUAL = 16


class Tier(StrEnum):
    """Ways to read a table, best first."""

    ALL = "counted in full"
    BY_TYPE = "counted per type"
    HEAD = "head of the line"
    SAMPLE = "sample of blocks"
    STATISTICS = "activity counters only"


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How one group of status words is read in the tiers that use indexes."""

    by_type: bool = False
    head: Head | None = None
    capped: bool = False
    # Names of the indexes that lead to the types, and to the line.
    type_indexes: tuple[str, ...] = ()
    line_indexes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Access:
    """What the planner allows for one table: tiers, best first, and how each group is read."""

    tiers: tuple[Tier, ...]
    # Pages up to which `Tier.ALL` holds; 0 where it is no tier.
    all_up_to: int
    groups: Mapping[Group, GroupPlan] = field(default_factory=dict)
    ended_lately: bool = False
    words: bool = False  # an index leads from status word to status word

    def tier(self, lowered: int) -> Tier:
        """The best tier, `lowered` steps down."""
        return self.tiers[min(lowered, len(self.tiers) - 1)]


# Finished jobs are never counted by index: they are nearly the whole table.
COUNTED = (Group.WAITING, Group.IN_PROGRESS, Group.FAILED, Group.QUARANTINED)


async def find_access(
    database: Fetches, table: JobTable, *, pages: int, settings: ObserverSettings
) -> Access:
    """Ask the planner what each way would cost. Up to a dozen EXPLAINs, nothing is run.

    Raises DatabaseFault.
    """
    ended = await _bounded(database, _ended(table, settings), settings)
    if pages <= settings.small_pages:
        return Access(
            (Tier.ALL, Tier.STATISTICS), settings.small_pages, ended_lately=ended is not None
        )
    naive = parse_plan(await database.fetch(statements.explain(statements.count_all(table))))
    most = max(naive.cost * settings.cost_share, settings.cheap_cost)
    groups = {group: await _group_plan(database, table, group, most, settings) for group in COUNTED}
    waiting = groups[Group.WAITING]
    words = await _bounded(
        database, statements.words_by_index(table, settings.least_counted), settings
    )
    # A sample that would take every block anyway is better counted in full.
    all_up_to = settings.sample_pages if pages <= settings.sample_pages else 0
    tiers = (
        *((Tier.BY_TYPE,) if waiting.by_type else ()),
        *((Tier.HEAD,) if waiting.head is not None or waiting.capped else ()),
        Tier.ALL if all_up_to else Tier.SAMPLE,
        Tier.STATISTICS,
    )
    return Access(tiers, all_up_to, groups, ended_lately=ended is not None, words=words is not None)


async def _group_plan(
    database: Fetches, table: JobTable, group: Group, most: float, settings: ObserverSettings
) -> GroupPlan:
    type_indexes: tuple[str, ...] = ()
    line_indexes: list[str] = []
    by_type = False
    narrow = statements.by_type(table, group, settings.least_counted)
    plan = None if narrow is None else await _explain(database, narrow)
    if plan is not None and _fits(plan, settings, strict=True):
        types = _TYPES_USUAL * len(table.words.of(group))
        by_type = plan.cost * min(1.0, types / max(plan.rounds, 1.0)) < most
        type_indexes = plan.indexes
    # The order matters only for a line.
    head: Head | None = None
    for choice in (Head.ORDERED, Head.ANY) if group is Group.WAITING else (Head.ANY,):
        statement = statements.head(
            table, group, settings.head_rows, ordered=choice is Head.ORDERED
        )
        plan = None if statement is None else await _explain(database, statement)
        ordered = choice is Head.ORDERED
        # In order and with nothing to throw away it costs at most one page per row, however many
        # rows the statistics know of.
        most_cost = max(most, settings.head_cost) if ordered else most
        if plan and plan.cost < most_cost and _fits(plan, settings, strict=ordered):
            head = choice
            line_indexes += plan.indexes
            break
    statement = statements.capped(table, group, settings.most_counted, settings.least_counted)
    plan = None if statement is None else await _explain(database, statement)
    capped = plan is not None and plan.cost < most and _fits(plan, settings, strict=True)
    if capped and plan is not None:
        line_indexes += plan.indexes
    return GroupPlan(by_type, head, capped, type_indexes, tuple(dict.fromkeys(line_indexes)))


def _fits(plan: Plan, settings: ObserverSettings, *, strict: bool) -> bool:
    """Whether what is read is bounded by the statement's limits, whatever the statistics say."""
    if plan.scans_more_than(settings.small_pages):
        return False
    return not strict or not (plan.sorts or plan.skips_rows)


def _ended(table: JobTable, settings: ObserverSettings) -> statements.Statement | None:
    if table.ended_index is None:
        return None
    return statements.ended_lately(
        table,
        window=settings.outcome_window,
        slice_seconds=settings.slice_seconds,
        limit=settings.ended_rows,
    )


async def _bounded(
    database: Fetches, statement: statements.Statement | None, settings: ObserverSettings
) -> Plan | None:
    if statement is None:
        return None
    plan = await _explain(database, statement)
    return plan if plan.indexes and _fits(plan, settings, strict=True) else None


async def _explain(database: Fetches, statement: statements.Statement) -> Plan:
    return parse_plan(await database.fetch(statements.explain(statement), by_index=True))


class TimeoutBreaker:
    """Counts time-outs of one table and says how many tiers to go down. Times in seconds."""

    def __init__(self, settings: ObserverSettings) -> None:
        self._settings = settings
        self._timeouts: deque[float] = deque(maxlen=settings.most_timeouts)
        self._lowered = 0
        self._until = 0.0

    def lowered(self, now: float) -> int:
        """How many tiers down to read now."""
        if self._lowered and now >= self._until:
            self._lowered = 0
            self._timeouts.clear()
        return self._lowered

    def timed_out(self, now: float) -> None:
        """Note a time-out; the third in ten minutes lowers the tier for ten more."""
        self._timeouts.append(now)
        recent = now - self._timeouts[0] <= self._settings.timeouts_within.total_seconds()
        if len(self._timeouts) == self._settings.most_timeouts and recent:
            self._lowered = self.lowered(now) + 1
            self._until = now + self._settings.lower_for.total_seconds()
            self._timeouts.clear()


def describe(tier: Tier, indexes: Sequence[str]) -> str:
    """How a reading was obtained, for `QueueReading.how`."""
    return f"{tier}: {', '.join(indexes)}" if indexes else str(tier)
