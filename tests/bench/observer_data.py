"""Ten million jobs with the worker's claim index, as in the experiments behind the observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import LiteralString

import psycopg

# 79 % completed, 19 % pending, the rest failed, quarantined and running; one type is two thirds of
# the backlog; every tenth pending job is a retry for later. Rows lie in the order of their time.
_TABLE: LiteralString = """
CREATE TABLE queue_jobs (
  id uuid NOT NULL, type text NOT NULL, payload jsonb, priority int NOT NULL DEFAULT 0,
  attempts int NOT NULL DEFAULT 0, max_attempts int NOT NULL DEFAULT 5,
  status text NOT NULL DEFAULT 'pending', run_after timestamptz NOT NULL DEFAULT now(),
  last_error text, created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now())"""

_ROWS: LiteralString = """
INSERT INTO queue_jobs (id, type, payload, status, attempts, run_after, created_at, updated_at)
SELECT md5(g::text)::uuid,
       CASE WHEN share > 0.79 AND random() < 0.68 THEN 'backfill_range'
            ELSE (ARRAY['process_snapshot', 'archive_snapshot', 'send_webhook', 'backfill_range',
                        'recompute', 'export', 'cleanup'])[1 + floor(random() * 7)::int] END,
       '{"snapshot_id": "0123456789abcdef0123456789abcdef", "source": "api", "region": "eu"}',
       CASE WHEN share <= 0.79 THEN 'completed' WHEN share <= 0.808 THEN 'failed'
            WHEN share <= 0.8085 THEN 'quarantined' WHEN share <= 0.80854 THEN 'processing'
            ELSE 'pending' END,
       CASE WHEN share > 0.9 AND random() < 0.2 THEN 1 ELSE 0 END,
       since + CASE WHEN share > 0.9 AND random() < 0.2 THEN interval '30 h'
                    ELSE interval '0' END,
       since, since
  FROM (SELECT g, g::float8 / %(all)s AS share,
               now() - make_interval(secs => (%(all)s - g) * 86400.0 / %(all)s) AS since
          FROM generate_series(%(first)s::int, %(last)s::int) g) s"""

_AFTER: tuple[LiteralString, ...] = (
    "ALTER TABLE queue_jobs ADD PRIMARY KEY (id)",
    "CREATE INDEX queue_jobs_claim ON queue_jobs (run_after) WHERE status = 'pending'",
    "VACUUM ANALYZE queue_jobs",
    "CHECKPOINT",
)
_CHUNK = 1_000_000


def load(url: str, rows: int, say: Callable[[str], None]) -> None:
    """Make the table. Minutes and about 3 GB for ten million rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLE)
        for first in range(1, rows + 1, _CHUNK):
            last = min(first + _CHUNK - 1, rows)
            connection.execute(_ROWS, {"all": rows, "first": first, "last": last})
            say(f"{last:,} of {rows:,} rows")
        for statement in _AFTER:
            say(statement)
            connection.execute(statement)
