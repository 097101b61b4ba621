-- Promise: for people to run: what takes the hold of one slot back, of these types.
-- {table} and columns are identifiers of the policy.
UPDATE {table} AS job
   SET {due} = job.{due} - make_interval(hours => {hours})
 WHERE job.{status} IN ({words}) AND job.{type} IN ({types}) AND {in_range};
