-- The guarded system's tables, as the runbook and the application's model have them.
CREATE TABLE hero_snapshots (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    raw             jsonb NOT NULL,
    -- Not in the real application: lets the demo prove that no job was done twice.
    processed_times integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    processed_at    timestamptz
);

CREATE TABLE queue_jobs (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    type         text NOT NULL,
    payload      jsonb NOT NULL,
    priority     integer NOT NULL DEFAULT 0,
    attempts     integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 5,
    status       text NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'running', 'failed', 'done')),
    run_after    timestamptz NOT NULL DEFAULT now(),
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX queue_jobs_claim ON queue_jobs (status, run_after);

CREATE TABLE feature_flags (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name               text NOT NULL UNIQUE,
    enabled            boolean NOT NULL DEFAULT true,
    rollout_percentage integer NOT NULL DEFAULT 100,
    data               jsonb NOT NULL DEFAULT '{}',
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);

INSERT INTO feature_flags (name, data) VALUES ('ingest_control', '{"ingest_paused": false}');
