-- The snapshot and its job in one statement, so in one transaction: never one without the other.
WITH snapshot AS (
    INSERT INTO hero_snapshots (raw) VALUES (%(raw)s::jsonb) RETURNING id)
INSERT INTO queue_jobs (type, payload)
SELECT 'process_snapshot', jsonb_build_object('snapshot_id', id) FROM snapshot;
