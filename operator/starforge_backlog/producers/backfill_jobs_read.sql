-- Promise: says which backfills run and which are paused, by id, and takes no lock. Bounded: one
-- more than the limit says that there are more.
-- {table} and columns are identifiers of the policy, the words are literals: the column may be an
-- enum.
SELECT ARRAY(SELECT job.{id}::text
               FROM {table} AS job
              WHERE job.{status} = {running}
              ORDER BY job.{id}
              LIMIT %(most_running)s) AS running,
       ARRAY(SELECT job.{id}::text
               FROM {table} AS job
              WHERE job.{status} = {paused}
              ORDER BY job.{id}
              LIMIT %(most_paused)s) AS paused
