"""Jobs of two types in a table, and what is held of them."""

from __future__ import annotations

from starforge_backlog.clock import utc_now
from starforge_backlog.databases import held_back
from starforge_backlog.decide.results import (
    Paused,
)
from starforge_backlog.producers.job_types_plan import HoldPlan, parse_plan

# Waiting jobs of all ages and in all precisions, of a type that is held and one that is not.
JOBS = """
INSERT INTO queue_jobs (type, status, run_after)
SELECT type, status, due
  FROM unnest(ARRAY['backfill_range', 'process_snapshot']) AS type,
       unnest(ARRAY['pending', 'failed']) AS status,
       (SELECT now() - n * interval '7 hours 3 minutes 0.123457 seconds' AS due
          FROM generate_series(-3, 20) AS n) AS dues
"""
ALL = "SELECT * FROM queue_jobs ORDER BY id"
FAR = "run_after > now() + interval '90 years'"
HELD = f"SELECT count(*) FROM queue_jobs WHERE {FAR}"


PLAN = HoldPlan(7, ("backfill_range",)).text


def held(got: Paused) -> int:
    """How many jobs are held, as the status keeps it."""
    plan = parse_plan(got.previous, "", "")
    assert plan is not None
    return plan.held


def at_first_choice() -> str:
    """A policy that gets the slot that it asks for first."""
    return next(
        f"uid-{n}"
        for n in range(100)
        if not held_back.has_round_dates(held_back.slot_of(f"uid-{n}/etl"), utc_now())
    )
