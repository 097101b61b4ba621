-- Promise: as read_limits.sql, and the planner takes an index where one leads to the rows in their
-- order, whatever the statistics say. They may be from before a storm: a table that was small and idle
-- at the last ANALYZE is then read in full, or sorted, although the workers' claim index is there.
-- For statements that LIMITs bound, and of which the plan was checked first under these settings.
SELECT set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('search_path',
                  coalesce(nullif(%(search_path)s, ''), current_setting('search_path')), true),
       set_config('max_parallel_workers_per_gather', '0', true),
       set_config('jit', 'off', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_sort', 'off', true),
       set_config('enable_incremental_sort', 'off', true),
       set_config('enable_bitmapscan', 'off', true)
