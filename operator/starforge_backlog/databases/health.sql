-- Promise: reads the session list and nothing else. Not for a role that cannot see other sessions:
-- their state is NULL there, and every signal below would be 0.
-- Whoever keeps a transaction open keeps VACUUM from cleaning the queue's table: -82 % throughput in
-- a minute, as measured.
SELECT count(*) FILTER (WHERE wait_event_type = 'Lock') AS lock_waiters,
       coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)
           FILTER (WHERE backend_type = 'client backend')), 0)::float8 AS longest_transaction,
       extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS seconds
  FROM pg_stat_activity WHERE pid <> pg_backend_pid()
