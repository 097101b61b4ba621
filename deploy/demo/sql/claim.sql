-- One job for one worker; rows that another worker is claiming are stepped over.
UPDATE queue_jobs
   SET status = 'running', attempts = attempts + 1, updated_at = now()
 WHERE id = (
        SELECT id
          FROM queue_jobs
         WHERE status = 'pending' AND run_after <= now()
         ORDER BY run_after
         LIMIT 1
           FOR UPDATE SKIP LOCKED)
RETURNING id, attempts, max_attempts;
