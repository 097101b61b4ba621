-- Promise: backfills of the plan that still run are paused, in one statement, and each is reported
-- apart from a person's pause afterwards: by its version and fingerprints, and by a row of the
-- audit table where there is one. Others are never touched. Run again, it finds them paused.
--
-- SKIP LOCKED: a backfill that is writing its progress, or a person's UPDATE, is not queued behind;
-- it is paused with the next pass. The status is asked again with the lock.
-- {table}, {id} and {status} are identifiers of the policy; words and ids are literals, which take
-- their column's type: it may be an enum, and the primary key is used.
WITH picked AS MATERIALIZED (
    SELECT job.{id} AS key
      FROM {table} AS job
     WHERE job.{status} = {running} AND job.{id} IN ({ids})
     ORDER BY job.{id}
       FOR UPDATE OF job SKIP LOCKED
), written AS (
    UPDATE {table} AS job
       SET {status} = {paused}
      FROM picked
     WHERE job.{id} = picked.key
    RETURNING job.{id}::text AS id, job.xmin::text AS version,
              {rest} AS rest, {progress} AS progress
), proof AS (
    SELECT jsonb_object_agg(written.id, jsonb_build_array(version, rest, progress)) AS rows
      FROM written
)
{audit}
SELECT (SELECT count(*) FROM picked) AS picked,
       (SELECT count(*) FROM written) AS written,
       (SELECT coalesce(rows, '{{}}') FROM proof) AS rows,
       ARRAY(SELECT job.{id}::text
               FROM {table} AS job
              WHERE job.{status} = {running} AND job.{id} IN ({ids})
             EXCEPT SELECT written.id FROM written) AS missed,
       ARRAY(SELECT job.{id}::text
               FROM {table} AS job
              WHERE job.{status} = {paused} AND job.{id} IN ({ids})) AS before
