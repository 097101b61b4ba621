"""The published variants of `queue_jobs` (StarForge), and a fourth with an enum."""

from __future__ import annotations

from typing import LiteralString

MODEL: tuple[LiteralString, ...] = (
    """CREATE TABLE queue_jobs (
         id uuid PRIMARY KEY DEFAULT gen_random_uuid(), type text NOT NULL, payload jsonb,
         priority int NOT NULL DEFAULT 0, attempts int NOT NULL DEFAULT 0,
         max_attempts int NOT NULL DEFAULT 5,
         status text NOT NULL DEFAULT 'pending'
           CHECK (status IN ('pending', 'running', 'failed', 'done')),
         run_after timestamptz NOT NULL DEFAULT now(), last_error text,
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX queue_jobs_claim ON queue_jobs (status, run_after)",
)

# Nothing but text with a default: no list of words, no index, everything nullable.
SCHEMA_SQL: tuple[LiteralString, ...] = (
    """CREATE TABLE queue_jobs (
         id uuid PRIMARY KEY DEFAULT gen_random_uuid(), type text, payload jsonb,
         priority int DEFAULT 0, attempts int DEFAULT 0, max_attempts int DEFAULT 5,
         status text DEFAULT 'pending', run_after timestamptz DEFAULT now(), last_error text,
         created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())""",
)

FIRST_MIGRATION: tuple[LiteralString, ...] = (
    """CREATE TABLE queue_jobs (
         id uuid PRIMARY KEY DEFAULT gen_random_uuid(), type varchar(100) NOT NULL, payload jsonb,
         priority int DEFAULT 0, attempts int DEFAULT 0, max_attempts int DEFAULT 5,
         status varchar(20) NOT NULL DEFAULT 'pending'
           CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
         created_at timestamp DEFAULT now(), processed_at timestamp)""",
    "CREATE INDEX queue_jobs_status ON queue_jobs (status)",
)

ENUM: tuple[LiteralString, ...] = (
    "CREATE TYPE job_status AS ENUM ('pending', 'running', 'failed', 'done', 'quarantined')",
    """CREATE TABLE queue_jobs (
         id bigserial PRIMARY KEY, type text NOT NULL, payload jsonb, attempts int DEFAULT 0,
         status job_status NOT NULL DEFAULT 'pending',
         run_after timestamptz NOT NULL DEFAULT now(),
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now())""",
    "CREATE INDEX queue_jobs_claim ON queue_jobs (run_after) WHERE status = 'pending'",
)

# Free text like SCHEMA_SQL, sure of its values: the table of the experiments with indexes.
BARE: tuple[LiteralString, ...] = (
    """CREATE TABLE queue_jobs (
         id uuid PRIMARY KEY DEFAULT gen_random_uuid(), type text NOT NULL, payload jsonb,
         attempts int NOT NULL DEFAULT 0, status text NOT NULL DEFAULT 'pending',
         run_after timestamptz NOT NULL DEFAULT now(),
         created_at timestamptz NOT NULL DEFAULT now(),
         updated_at timestamptz NOT NULL DEFAULT now())
       WITH (autovacuum_enabled = off)""",
)
