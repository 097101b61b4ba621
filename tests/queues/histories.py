"""Random pasts of a job table, and what plain SQL says about them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from .conftest import Admin

# The indexes of the experiments that the tiers were designed on.
INDEXES: dict[str, tuple[LiteralString, ...]] = {
    "none": (),
    "I1": ("CREATE INDEX i1 ON queue_jobs (run_after) WHERE status = 'pending'",),
    "I2": ("CREATE INDEX i2 ON queue_jobs (status, run_after)",),
    "I3": ("CREATE INDEX i3 ON queue_jobs (type, run_after) WHERE status = 'pending'",),
    "I4": ("CREATE INDEX i4 ON queue_jobs (status, type, run_after)",),
    "I5": (
        """CREATE INDEX i5 ON queue_jobs (status, type, run_after)
           WHERE status IN ('pending', 'processing', 'failed', 'quarantined')""",
    ),
}

_FILL: LiteralString = """
INSERT INTO queue_jobs (type, status, run_after, created_at, updated_at)
SELECT CASE WHEN random() < 0.6 THEN 'backfill_range' WHEN random() < 0.9 THEN 'process_snapshot'
            ELSE 'archive_snapshot' END,
       CASE WHEN random() >= %(live)s THEN 'completed' WHEN random() < 0.7 THEN 'pending'
            WHEN random() < 0.4 THEN 'processing' WHEN random() < 0.8 THEN 'failed'
            ELSE 'quarantined' END,
       now() - make_interval(secs => random() * 9000)
         + CASE WHEN random() < 0.2 THEN interval '3 h' ELSE interval '0' END,
       now() - interval '4 h', now() - interval '4 h'
  FROM generate_series(1, %(rows)s)"""

_NAIVE: LiteralString = """
SELECT type,
       count(*) FILTER (WHERE status = 'pending' AND run_after <= now()) AS waiting,
       count(*) FILTER (WHERE status = 'pending' AND run_after > now()) AS scheduled,
       count(*) FILTER (WHERE status = 'processing') AS in_progress,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       coalesce(extract(epoch FROM now() - min(run_after)
         FILTER (WHERE status = 'pending' AND run_after <= now())), 0)::float8 AS oldest
  FROM queue_jobs GROUP BY type"""


@dataclass(frozen=True)
class Truth:
    """What a full count says of some types."""

    waiting: int
    scheduled: int
    in_progress: int
    failed: int
    oldest: float


def fill(admin: Admin, *, rows: int, live: float, seed: float, analyze: bool = True) -> None:
    """`rows` jobs, of which the share `live` is not finished."""
    # Else VACUUM comes before the commit is on disk and marks no page as all visible.
    admin.execute("SET synchronous_commit = on")
    admin.execute("SELECT setseed(%s)", (seed,))
    admin.execute(_FILL, {"rows": rows, "live": live})
    if analyze:
        admin.execute("VACUUM ANALYZE queue_jobs")


def is_as_old(age: timedelta, real: Truth, since: float) -> bool:
    """Whether an age that was read since a moment (monotonic seconds) and before the truth was
    counted is that of the oldest job."""
    grown = real.oldest - age.total_seconds()
    return -0.1 <= grown <= time.monotonic() - since + 0.1


def truth(admin: Admin, *types: str) -> Truth:
    """Counted in full; all types for none."""
    found = [row for row in admin.execute(_NAIVE) if not types or row[0] in types]
    waiting, scheduled, in_progress, failed = (sum(row[i] for row in found) for i in (1, 2, 3, 4))
    oldest = max((row[5] for row in found), default=0.0)
    return Truth(waiting, scheduled, in_progress, failed, oldest)
