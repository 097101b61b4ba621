-- Promise: the write that follows is over after statement_timeout, waits for no lock longer than
-- lock_timeout, and is on disk when COMMIT returns. A stronger setting
-- (remote_apply, remote_write) stays; only 'off' and 'local' are raised.
SELECT set_config('statement_timeout', %(statement_timeout)s, true),
       set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('search_path',
                  coalesce(nullif(%(search_path)s, ''), current_setting('search_path')), true),
       set_config('synchronous_commit',
                  CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
                       ELSE current_setting('synchronous_commit') END, true)
