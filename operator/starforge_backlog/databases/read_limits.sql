-- Promise: whatever statement follows in this transaction, it is over after statement_timeout, it
-- waits for no lock longer than lock_timeout (an observer that waits behind an ALTER TABLE stops
-- all workers), and it takes one core at most.
-- set_config(…, true) is SET LOCAL that takes parameters; through PgBouncer it leaks to nobody.
SELECT set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('search_path',
                  coalesce(nullif(%(search_path)s, ''), current_setting('search_path')), true),
       set_config('max_parallel_workers_per_gather', '0', true),
       set_config('jit', 'off', true)
