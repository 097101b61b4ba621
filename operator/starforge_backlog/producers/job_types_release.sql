-- Promise: one bounded batch of jobs held in this slot gets back exactly the due time that it had,
-- in one statement; run again it goes on with the others, and once released a job is out of range.
--
-- The status says that the slot was free before the hold, and which types were held: the policy's
-- may have changed since. A job that another client rescheduled is in no slot and is left alone.
-- SKIP LOCKED: a row in another client's hands is released with the next pass.
-- {table} and columns are identifiers of the policy.
WITH line AS MATERIALIZED (
    SELECT job.{id} AS id, job.{due} AS due
      FROM {table} AS job
     WHERE job.{status} IN ({words}) AND {of_types} AND {in_range}
     ORDER BY job.{due}
     LIMIT {most}
), picked AS MATERIALIZED (
    SELECT job.{id} AS id
      FROM {table} AS job
     WHERE job.{id} IN (SELECT id FROM line)
       AND job.{status} IN ({words}) AND {of_types} AND {in_range}
       FOR UPDATE OF job SKIP LOCKED
), written AS (
    UPDATE {table} AS job
       SET {due} = job.{due} - make_interval(hours => {hours})
      FROM picked
     WHERE job.{id} = picked.id
    RETURNING 1
)
SELECT (SELECT count(*) FROM line) AS seen,
       (SELECT max(due)::text FROM line) AS last,
       (SELECT count(*) FROM picked) AS picked,
       (SELECT count(*) FROM written) AS written,
       ARRAY[]::text[] AS ids
