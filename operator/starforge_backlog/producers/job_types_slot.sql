-- Promise: says whether any waiting job, of any type, lies in this slot, from one end of an index.
-- {table} and columns are identifiers of the policy.
SELECT EXISTS (SELECT 1
                 FROM {table} AS job
                WHERE job.{status} IN ({words}) AND {in_range}) AS taken
