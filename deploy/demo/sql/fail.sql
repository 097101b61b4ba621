-- Again later, with a growing delay; after the last attempt it stays failed.
UPDATE queue_jobs
   SET status = CASE WHEN attempts >= max_attempts THEN 'failed' ELSE 'pending' END,
       run_after = now() + make_interval(secs => %(delay)s),
       last_error = %(error)s,
       updated_at = now()
 WHERE id = %(id)s AND status = 'running' AND attempts = %(attempts)s;
