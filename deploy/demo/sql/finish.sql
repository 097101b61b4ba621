-- Guarded by the attempt: a worker that lost its claim must not finish another client's.
WITH finished AS (
    UPDATE queue_jobs
       SET status = 'done', updated_at = now()
     WHERE id = %(id)s AND status = 'running' AND attempts = %(attempts)s
    RETURNING (payload ->> 'snapshot_id')::uuid AS snapshot_id)
UPDATE hero_snapshots
   SET processed_times = processed_times + 1, processed_at = now()
 WHERE id = (SELECT snapshot_id FROM finished);
