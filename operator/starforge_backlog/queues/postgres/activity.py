"""The table's activity counters at one moment, and what changed between two moments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Share of the rows: autovacuum analyzes a table at 0.1, and a storm is far beyond that.
_OUTDATED = 0.5


@dataclass(frozen=True, slots=True)
class Counters:
    """One row of `counters.sql`. `at` is the server's clock in seconds."""

    at: float
    standby: bool
    counting: bool
    epoch: str
    inserted: int
    updated: int
    deleted: int
    live: int
    maintained: int
    pages: int
    modified: int = 0  # rows changed since the last ANALYZE

    @property
    def outdated_statistics(self) -> bool:
        """Whether the planner's statistics are from before most of what is there now."""
        return self.modified > _OUTDATED * max(self.live, 1)

    def continues(self, earlier: Counters) -> bool:
        """Whether differences to `earlier` mean something: no reset, crash or other server."""
        return (
            self.epoch == earlier.epoch
            and self.at > earlier.at
            and self.inserted >= earlier.inserted
            and self.updated >= earlier.updated
            and self.deleted >= earlier.deleted
        )

    def committed_since(self, earlier: Counters) -> int:
        """Rows that were inserted and stayed.

        n_tup_ins also counts inserts that were rolled back (1,000 of 1,000, as
        measured), n_live_tup does not: between two moments without VACUUM or ANALYZE, which replace
        it by an estimate, it grows by committed inserts minus committed deletes. A producer whose
        transactions fail would otherwise count as workers that finish jobs.
        """
        inserted = self.inserted - earlier.inserted
        stayed = self.live - earlier.live + self.deleted - earlier.deleted
        if self.maintained == earlier.maintained and 0 <= stayed <= inserted:
            return stayed
        return inserted


def parse_counters(row: Mapping[str, Any]) -> Counters:
    """From the one row of `counters.sql`."""
    return Counters(**row)
