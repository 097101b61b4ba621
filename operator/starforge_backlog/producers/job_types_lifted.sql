-- Promise: says whether one of these jobs, that were held, is due before all that is held: another client
-- set it due again. A job that was deleted, cancelled or released by nobody is no such proof.
-- {table} and columns are identifiers of the policy; ids are literals, which take the column's
-- type, so that the primary key is used.
SELECT EXISTS (SELECT 1
                 FROM {table} AS job
                WHERE job.{id} IN ({ids}) AND job.{due} < {first_held}) AS lifted
