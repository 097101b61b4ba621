-- A worker that must stop gives its job back as if it had never claimed it.
UPDATE queue_jobs
   SET status = 'pending', attempts = attempts - 1, updated_at = now()
 WHERE id = %(id)s AND status = 'running' AND attempts = %(attempts)s;
