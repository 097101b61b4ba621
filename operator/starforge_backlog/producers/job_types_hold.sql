-- Promise: one bounded batch of waiting jobs of these types becomes due far in the future, first in
-- line first, in one statement; run again it goes on with the others, and a job that is held
-- already is out of its range.
--
-- SKIP LOCKED: a row that a worker claims at this moment is the worker's. The range is asked again
-- with the lock, because the row may have been claimed, held or rescheduled since our snapshot.
-- A batch begins where the one before ended: jobs of other types, and what was moved
-- already, are passed once and not once per batch (measured: 30,000 jobs per pass instead of 4,000).
-- Nothing else of the row changes, so that taking the hours off again leaves no trace.
-- {table} and columns are identifiers of the policy.
WITH line AS MATERIALIZED (
    SELECT job.{id} AS id, job.{due} AS due
      FROM {table} AS job
     WHERE job.{status} IN ({words}) AND job.{type} IN ({types}) AND {in_range}
     ORDER BY job.{due}
     LIMIT {most}
), picked AS MATERIALIZED (
    SELECT job.{id} AS id
      FROM {table} AS job
     WHERE job.{id} IN (SELECT id FROM line)
       AND job.{status} IN ({words}) AND job.{type} IN ({types}) AND {in_range}
       FOR UPDATE OF job SKIP LOCKED
), written AS (
    UPDATE {table} AS job
       SET {due} = job.{due} + make_interval(hours => {hours})
      FROM picked
     WHERE job.{id} = picked.id
    RETURNING job.{id}::text AS id, job.{due} AS due
)
SELECT (SELECT count(*) FROM line) AS seen,
       (SELECT max(due)::text FROM line) AS last,
       (SELECT count(*) FROM picked) AS picked,
       (SELECT count(*) FROM written) AS written,
       ARRAY(SELECT id FROM written ORDER BY due DESC LIMIT {sample}) AS ids
