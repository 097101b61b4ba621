SELECT count(*) FILTER (WHERE queue = 'etl-snapshots') AS done,
       count(*) FILTER (WHERE queue = 'etl-backfill') AS backfill_done,
       count(*) FILTER (WHERE times > 1) AS repeated
  FROM jobs_done;
