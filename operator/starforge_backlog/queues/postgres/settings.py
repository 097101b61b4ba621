"""Every number of the PostgreSQL observer, with its unit and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ObserverSettings:
    """Defaults are for production; tests make tables small by making these small."""

    # Pages (8 kB) up to which a table is simply counted: 8 MB are about 50,000 jobs and 10 ms,
    # which is less than what two index scans with their caps may cost.
    small_pages: int = 1_000
    # Blocks of a sample where no index helps: 45 ms, big types within 4 %.
    sample_pages: int = 4_000
    # Rows of the head of the line: 7 ms of 10 million, and a canary's worth of each type.
    head_rows: int = 10_001
    # The same of jobs that are held back, behind the line: their types and the oldest.
    held_rows: int = 1_001
    # Entries counted before a count becomes "at least": 15 ms. Thresholds of a policy above
    # it cannot be judged on a big table.
    most_counted: int = 100_001
    # Entries counted per type where every type is long; `most_counted` is shared among long types.
    least_counted: int = 10_001
    # A way to count is taken if it costs less than this share of counting everything …
    cost_share: float = 0.25
    # … or less than this in any case (planner's units; about 10 ms): with a table of medium size a
    # quarter of little would refuse ways that are cheap.
    cheap_cost: float = 5_000
    # `head_rows` rows, each on a page of its own, by the planner's random_page_cost of 4 (25 ms
    # where the pages are in memory).
    head_cost: float = 50_000
    # Pages sampled for status words, per read of the catalog: 8 MB, about 11 ms.
    word_pages: int = 1_000
    # How long a read of catalog and plans holds …
    recheck_after: timedelta = timedelta(minutes=5)
    # … while the table stays as it is. After it grew or shrank by this factor, or was analyzed, its
    # plans are other plans, and the storm that did that does not wait five minutes …
    changed_by: float = 2.0
    # … but not more often than this: a read is up to two dozen statements.
    recheck_soonest: timedelta = timedelta(seconds=10)
    # Rows that changed last, read through an index on that time; 7 ms like the head.
    ended_rows: int = 10_001
    # Window of the failure ratio (runbook: failed / processed over 5 minutes).
    outcome_window: timedelta = timedelta(minutes=5)
    # Resolution of windows over ended jobs, seconds: below it a rate window has no use.
    slice_seconds: int = 5
    # Time-outs within `timeouts_within` that send a table one tier down, and for how long.
    most_timeouts: int = 3
    timeouts_within: timedelta = timedelta(minutes=10)
    lower_for: timedelta = timedelta(minutes=10)
    # At most 1/50 = 2 % of one core of the database for one table …
    duty: int = 50
    # … but never without readings for longer than this after one slow reading.
    longest_pause: timedelta = timedelta(minutes=2)
    # Bounds of a rate window: below, the statistics' own delay (1 s) spoils it; above, it is no
    # longer a rate of now.
    shortest_window: timedelta = timedelta(seconds=5)
    longest_window: timedelta = timedelta(seconds=120)
