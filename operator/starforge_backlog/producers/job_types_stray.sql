-- Promise: counts waiting jobs of these types in a slot that no status knows of, up to a limit.
-- {table} and columns are identifiers of the policy.
SELECT count(*) AS found
  FROM (SELECT 1
          FROM {table} AS job
         WHERE job.{status} IN ({words}) AND job.{type} IN ({types}) AND {in_range}
         LIMIT {most}) AS job
