-- Promise: backfills that are still as our pause left them run again, in one statement, and no
-- other is touched. Run again, it finds them running.
--
-- As our pause left them means: paused, and the row's version is that of our write, or what differs
-- since is the progress of the batch that was under way (nothing else of the row changed, and
-- progress did: a person's `SET status = 'paused'` over our pause changes neither).
-- SKIP LOCKED: a row in another client's hands is resumed with the next pass.
-- {table}, {id} and {status} are identifiers of the policy; words and ids are literals, which take
-- their column's type: it may be an enum, and the primary key is used.
WITH ours AS MATERIALIZED (
    SELECT mark.key AS id, mark.value ->> 0 AS version, mark.value ->> 1 AS rest,
           mark.value ->> 2 AS progress
      FROM jsonb_each(%(rows)s::jsonb) AS mark
), locked AS MATERIALIZED (
    SELECT job.{id} AS key, job.{id}::text AS id, job.{status}::text AS status,
           job.xmin::text AS version, {rest} AS rest, {progress} AS progress
      FROM {table} AS job
     WHERE job.{id} IN ({ids})
       FOR UPDATE OF job SKIP LOCKED
), judged AS MATERIALIZED (
    SELECT locked.key, ours.id,
           CASE WHEN locked.id IS NULL AND seen.id IS NULL THEN 'gone'
                WHEN locked.id IS NULL THEN 'busy'
                WHEN locked.status IS DISTINCT FROM {paused} THEN 'not paused'
                WHEN locked.version = ours.version THEN 'ours'
                WHEN locked.rest = ours.rest AND locked.progress <> ours.progress THEN 'ours'
                ELSE 'changed' END AS verdict
      FROM ours
      LEFT JOIN locked ON locked.id = ours.id
      LEFT JOIN (SELECT job.{id}::text AS id FROM {table} AS job WHERE job.{id} IN ({ids})) AS seen
        ON seen.id = ours.id
), written AS (
    UPDATE {table} AS job
       SET {status} = {running}
      FROM judged
     WHERE judged.verdict = 'ours' AND job.{id} = judged.key
    RETURNING job.{id}::text AS id
), proof AS (
    SELECT jsonb_agg(written.id) AS rows FROM written
)
{audit}
SELECT (SELECT count(*) FROM written) AS written,
       ARRAY(SELECT id FROM judged WHERE verdict = 'ours') AS ours,
       ARRAY(SELECT id FROM judged WHERE verdict = 'busy') AS busy,
       ARRAY(SELECT id FROM judged WHERE verdict = 'changed') AS changed
