SELECT count(*) FILTER (WHERE status = 'pending') AS waiting,
       count(*) FILTER (WHERE status = 'running') AS running,
       count(*) FILTER (WHERE status = 'done') AS done,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       COALESCE(
           extract(epoch FROM now() - min(run_after) FILTER (
               WHERE status = 'pending' AND run_after <= now())), 0)::float8 AS oldest_seconds,
       (SELECT count(*) FROM hero_snapshots WHERE processed_times > 1) AS repeated
  FROM queue_jobs;
