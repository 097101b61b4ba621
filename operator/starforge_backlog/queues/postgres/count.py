"""Reads how many jobs stand where, in the way that the gate allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starforge_backlog.databases.faults import DatabaseFault
from starforge_backlog.queues.postgres import statements
from starforge_backlog.queues.postgres.activity import Counters
from starforge_backlog.queues.postgres.catalog import JobTable
from starforge_backlog.queues.postgres.depth import (
    Depth,
    Depths,
    Head,
    Strange,
    by_type_depth,
    exact_depth,
    head_depth,
    sampled_depth,
)
from starforge_backlog.queues.postgres.fetches import Fetches
from starforge_backlog.queues.postgres.gate import COUNTED, Access, GroupPlan, Tier
from starforge_backlog.queues.postgres.settings import ObserverSettings
from starforge_backlog.queues.postgres.words import Group


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a read of catalog and plans brought, and until when it holds (timer's seconds)."""

    table: JobTable
    access: Access
    counters: Counters
    since: float
    until: float
    strange: tuple[Strange, ...] = ()  # status words that were seen then
    unsought: DatabaseFault | None = None  # why they could not be searched for

    @property
    def pages(self) -> int:
        """Of the table."""
        return self.counters.pages

    def outdated(self, counters: Counters, now: float, settings: ObserverSettings) -> bool:
        """Whether the table is no longer the one that was read."""
        full = self.access.all_up_to
        if full and counters.pages > full:
            return True  # it outgrew counting in full
        if not self.access.groups:
            return False  # a small one is counted in full whatever the plans are
        if now < self.since + settings.recheck_soonest.total_seconds():
            return False
        before = self.counters
        return counters.maintained != before.maintained or any(
            _changed(old, new, settings.changed_by)
            for old, new in ((before.pages, counters.pages), (before.live, counters.live))
        )


def _changed(before: int, now: int, factor: float) -> bool:
    return now > before * factor or now * factor < before


class Caps:
    """How far each type is counted: long types share what one reading may count.

    The cap is wide while one type is long, as in most incidents (one type was 68 % of the backlog
    that was measured), and narrow while all are.
    """

    def __init__(self, settings: ObserverSettings) -> None:
        self._settings = settings
        self.per_type = settings.least_counted

    def learn(self, depths: Depths) -> None:
        """Share the next reading's budget among the types that are long now."""
        least = self._settings.least_counted
        long = sum(
            1
            for depth in depths.by_group.values()
            if depth is not None
            for part in depth.by_type.values()
            for count in (part.due, part.scheduled, part.held)
            if count.value >= least
        )
        self.per_type = max(least, self._settings.most_counted // max(1, long))


async def read_depths(
    database: Fetches,
    inspection: Inspection,
    tier: Tier,
    caps: Caps,
    settings: ObserverSettings,
) -> Depths | None:
    """One statement for one moment; None in the tier that reads counters only.

    Raises DatabaseFault.
    """
    table = inspection.table
    match tier:
        case Tier.ALL:
            rows = await database.fetch(statements.count_all(table))
            return exact_depth(rows, table.words, most_groups=statements.MOST_GROUPS)
        case Tier.SAMPLE:
            percent = min(100.0, 100.0 * settings.sample_pages / max(inspection.pages, 1))
            rows = await database.fetch(statements.sample(table, percent))
            return sampled_depth(
                rows, table.words, 100.0 / percent, most_groups=statements.MOST_GROUPS
            )
        case Tier.BY_TYPE | Tier.HEAD:
            return await _by_index(database, inspection, tier, caps, settings)
        case Tier.STATISTICS:
            return None


async def _by_index(
    database: Fetches,
    inspection: Inspection,
    tier: Tier,
    caps: Caps,
    settings: ObserverSettings,
) -> Depths:
    table, access = inspection.table, inspection.access
    by_type = {
        group: tier is Tier.BY_TYPE and plan.by_type for group, plan in access.groups.items()
    }
    parts: list[statements.Statement] = []
    for group, plan in access.groups.items():
        if by_type[group]:
            parts += _some(statements.by_type(table, group, caps.per_type))
            continue
        if plan.head is not None:
            parts += _some(
                statements.head(
                    table, group, settings.head_rows, ordered=plan.head is plan.head.ORDERED
                )
            )
        if plan.head is Head.ORDERED and group is Group.WAITING:
            parts += _some(statements.held(table, settings.held_rows))
        if plan.capped:
            parts += _some(
                statements.capped(table, group, settings.most_counted, settings.least_counted)
            )
    rows = await database.fetch(statements.union(parts), by_index=True)
    depths: dict[Group, Depth | None] = {}
    for group in COUNTED:
        words = table.words.of(group)
        found = [row for row in rows if row["word"] in words]
        plan = access.groups[group]
        if not words:
            depths[group] = Depth()  # no word for it: there can be none
        elif by_type[group]:
            depths[group] = by_type_depth(
                found, limit=caps.per_type, most_types=statements.MOST_TYPES
            )
        else:
            depths[group] = _head(found, plan, settings)
    result = Depths(depths)
    if tier is Tier.BY_TYPE:
        caps.learn(result)
    return result


def _head(
    rows: list[Mapping[str, Any]] | list[dict[str, Any]],
    plan: GroupPlan,
    settings: ObserverSettings,
) -> Depth | None:
    if plan.head is None and not plan.capped:
        return None
    return head_depth(
        rows,
        head=plan.head,
        head_limit=settings.head_rows,
        total_limit=settings.most_counted,
        held_rows=settings.held_rows,
        least_held=settings.least_counted,
    )


def _some(statement: statements.Statement | None) -> list[statements.Statement]:
    return [] if statement is None else [statement]
